"""Errors that prevent a pass; each names its seed or device."""

from __future__ import annotations

from engine.errors import CheckpointError, EngineError, first_line
from engine.workers.messages import Pass
from store import Record


class SeedError(Exception):
    """One of the live seeds cannot be scored."""

    def __init__(self, seed: str, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.seed, self.passing = seed, passing


class NoMemoryError(SeedError):
    """Not with what the device has left, which may change."""

    def __init__(self, seed: str, reason: str) -> None:
        super().__init__(seed, reason, passing=True)


def no_memory(task: Pass, seed: str, *, loading: bool) -> NoMemoryError:
    """Return the error for a pass whose live seeds take more memory than the device has."""
    what = "with one token at a time; lower scoring.window"
    if loading:
        what = (
            'with its weights; set scoring.dtype to "bfloat16", split it over several GPUs with '
            'scoring.device, or set scoring.offload = "cpu"'
        )
    if len(task.live) > 1:
        what = (
            f"with {len(task.live)} models at once; set log_probs.representation to "
            '"factored" or "dense"'
        )
    where = f"{task.model}, seed {seed}, step {task.step:,}"
    return NoMemoryError(seed, f"{where}: out of memory {what}")


def dead_device(device: str, error: BaseException) -> EngineError:
    """Return the error for a device that fails at everything it is given."""
    return EngineError(
        f"{device} does not work any more ({first_line(error)}); what was committed stays. See "
        "what `nvidia-smi` says, and run the same command again, perhaps with --device for "
        "another one"
    )


def refuse_others(
    where: str, fingerprint: str, record: Record | None, *, captured: bool = False
) -> None:
    """Raise CheckpointError when results are committed that are of other weights.

    Of what was captured in training and what is read from disk the fingerprints cannot be compared.
    """
    if record is None or bool(record.get("captured")) != captured:
        return
    if record.get("fingerprint") in (None, fingerprint):
        return
    if captured:
        raise CheckpointError(
            f"{where}: differs from what was captured of this step before, and was scored. Capture "
            "the new one as a seed of its own"
        )
    raise CheckpointError(
        f"{where}: its weights are not those that its results are of; put the old "
        "ones back, or give the new ones a seed of their own"
    )


_ROUNDING = {"float32": 0.02}  # nats that surprisal may differ by on average, by dtype in training
_HALF = 0.1


def refuse_different(where: str, difference: float, record: Record) -> None:
    """Raise CheckpointError when results are not those that are committed, but for rounding.

    For a checkpoint that was captured in training and is read from disk now, or the other way:
    `difference` is the mean over tokens of how far apart their surprisals are, in nats.
    """
    if not difference <= _ROUNDING.get(str(record.get("dtype", "float32")), _HALF):
        raise CheckpointError(
            f"{where}: is not the checkpoint that was captured in training, or read before: its "
            f"surprisals differ by {difference:.3g} nats on average. Give it a seed of its own"
        )
