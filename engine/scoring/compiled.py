"""Divergences by compiled code, once that is known to be right, faster, and worth the compiling.

Whatever goes wrong with a compiler, the numbers come as they would without one.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from engine.errors import first_line
from engine.scoring.divergence import divergence_sums, divergences, kl_to_mean
from store.schema import TO_MEAN

# Of the plain way, on all cores; compiled code saves half of it. Compiling takes 20 s of a core
# where nothing is cached, and 4 where all is; so it never costs more than half of what it brings.
WORTH_SECONDS = 80.0
_SAMPLES = 3  # blocks whose time is taken
FAST = 0.9  # of the plain way's time, at most
_MOST_LANES = 2  # more are faster the plain way: compiled code is not three times as fast
_ABSOLUTE, _RELATIVE = 4e-6, 2e-4  # twice what each may be off
_SQUARED = 3e-5  # what the square of a Hellinger distance may be off, where seeds agree

Named = dict[str, torch.Tensor]
Sums = Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]


def compile_sums(sums: Sums) -> Sums:
    """Return a function that is compiled when it is called first."""
    from torch._inductor import config

    compiled = torch.compile(sums, dynamic=False, fullgraph=True)

    def call(log_p: torch.Tensor, p: torch.Tensor) -> list[torch.Tensor]:
        with config.patch(compile_threads=1):  # no other processes
            found: list[torch.Tensor] = compiled(log_p, p)
            return found

    return call


@dataclass
class _Way:
    """The chosen way to compare blocks of one shape."""

    blocks: int = 0  # done in the plain way
    seconds: list[float] = field(default_factory=list)  # of the first of them
    compiled: Callable[[torch.Tensor, torch.Tensor], Named] | None = None


class Comparison:
    """Computes divergences, block by block; shared by all passes of a worker."""

    def __init__(
        self,
        say: Callable[[str], None] = lambda text: None,
        compiler: Callable[[Sums], Sums] = compile_sums,
        worth: float | None = None,
        fast: float | None = None,
    ) -> None:
        """Call `say` with what became of compiling.

        It is tried where the plain way would take `worth` seconds or more. The compiled code is
        used when it takes at most the share `fast` of the plain way's time.
        """
        self._say, self._compiler = say, compiler
        # Threads that compute blocks at the same time. Compiled code holds Python's lock, so that
        # it runs in one of them alone.
        self.lanes = 1
        self._fast = FAST if fast is None else fast
        self._worth = WORTH_SECONDS if worth is None else worth
        self._ways: dict[object, _Way] = {}
        self._given_up = False
        self._lock = threading.Lock()  # held to change any of this

    def has_to_try(
        self, device: torch.device, shape: Sequence[int], names: Sequence[str], ahead: int | None
    ) -> bool:
        """Return whether the next block should be computed alone: something is tried on it."""
        if ahead is None or self._given_up:
            return False
        way = self._way(device, shape, names)
        if len(way.seconds) < _SAMPLES:
            return True
        return way.compiled is None and self._is_worth_compiling(way, ahead)

    def _way(self, device: torch.device, shape: Sequence[int], names: Sequence[str]) -> _Way:
        with self._lock:
            return self._ways.setdefault((device, *shape, *names), _Way())

    def _is_worth_compiling(self, way: _Way, ahead: int) -> bool:
        seconds = (way.blocks + ahead) * min(way.seconds)
        return self.lanes <= _MOST_LANES and seconds >= self._worth * self.lanes

    def divergences(
        self,
        log_p: torch.Tensor,
        p: torch.Tensor,
        names: Sequence[str],
        spare: torch.Tensor | None = None,
        *,
        ahead: int | None,
        alone: bool = True,
    ) -> Named:
        """Return what `engine.scoring.divergence` does, of a block.

        `ahead` is how many blocks of this shape will follow, as far as is known; None: it is the
        only one. Threads that compute blocks at the same time are not `alone`; they measure and
        compile nothing.
        """
        if ahead is None:
            return divergences(log_p, p, names, spare)
        way = self._way(log_p.device, log_p.shape, names)
        if (compiled := way.compiled) is not None:
            try:
                return compiled(log_p, p)
            except Exception as error:  # memory, a library that went away: anything
                way.compiled = None
                self._give_up(f"failed: {first_line(error)}")
        with self._lock:
            way.blocks += 1
        if not alone or self._given_up:
            return divergences(log_p, p, names, spare)
        if len(way.seconds) < _SAMPLES:
            found, seconds = _timed(lambda: divergences(log_p, p, names, spare), log_p.device)
            way.seconds.append(seconds)
            return found
        if self._is_worth_compiling(way, ahead):
            return self._try(way, log_p, p, names, spare)
        return divergences(log_p, p, names, spare)

    def _try(
        self,
        way: _Way,
        log_p: torch.Tensor,
        p: torch.Tensor,
        names: Sequence[str],
        spare: torch.Tensor | None,
    ) -> Named:
        """Compile, and compare with the plain way on this block: numbers, then time."""
        found: Named | None = None
        compiling = faster = 0.0
        try:
            compiled = _whole(self._compiler, log_p, names)
            found, compiling = _timed(lambda: compiled(log_p, p), log_p.device)
            faster = min(
                _timed(lambda: compiled(log_p, p), log_p.device)[1] for _ in range(_SAMPLES)
            )
        except Exception as error:  # of any kind: no compiler, no headers, no room for its files
            self._give_up(f"cannot be had: {first_line(error)}")
        plain, seconds = _timed(lambda: divergences(log_p, p, names, spare), log_p.device)
        seconds = min(seconds, *way.seconds)
        if found is None:
            return plain
        if not all(values.isfinite().all() for values in plain.values()):
            return plain  # will be refused, and shows nothing
        if not _same(found, plain):
            self._give_up("gives other numbers")
        elif self.lanes * faster > self._fast * seconds:
            self._give_up(f"takes {self.lanes * faster / seconds:.1f} times as long")
        else:
            way.compiled = compiled
            self._say(
                f"seeds are compared by compiled code, {seconds / faster:.1f} times faster; "
                f"compiling took {compiling:.0f} s"
            )
        return plain

    def _give_up(self, why: str) -> None:
        with self._lock:
            if self._given_up:  # by another thread, at the same block
                return
            self._given_up = True
        self._say(f"seeds are compared without compiled code, which {why}")


def _whole(
    compiler: Callable[[Sums], Sums], log_p: torch.Tensor, names: Sequence[str]
) -> Callable[[torch.Tensor, torch.Tensor], Named]:
    """Return a function of a block like this one: its sums compiled, the rest unchanged."""
    n_seeds = len(log_p)
    first, second = torch.triu_indices(n_seeds, n_seeds, 1, device=log_p.device).unbind()
    of_pairs = [name for name in names if name != TO_MEAN]
    sums = compiler(functools.partial(divergence_sums, names=of_pairs, first=first, second=second))
    above, below = first * n_seeds + second, second * n_seeds + first

    def whole(log_p: torch.Tensor, p: torch.Tensor) -> Named:
        of_runs = sums(log_p, p)
        summed = iter(torch.stack(of_runs).sum(2))  # each (token, pair)
        found = {}
        for name in of_pairs:
            there = next(summed)
            back = next(summed) if name == "kl" else there
            if name == "hellinger":
                there = back = there.sqrt_()
            table = there.new_zeros(len(there), n_seeds**2)
            table.index_copy_(1, above, there).index_copy_(1, below, back)
            found[name] = table.view(-1, n_seeds, n_seeds)
        if TO_MEAN in names:  # takes one logarithm of each entry, whatever it is written in
            found[TO_MEAN] = kl_to_mean(log_p, p)
        return found

    return whole


def _same(found: Named, plain: Named) -> bool:
    for name, values in plain.items():
        ours, absolute = found[name], _ABSOLUTE
        if name == "hellinger":
            ours, values, absolute = ours.square(), values.square(), _SQUARED
        if not ((ours - values).abs() <= absolute + _RELATIVE * values.abs()).all():
            return False
    return True


def _timed(call: Callable[[], Named], device: torch.device) -> tuple[Named, float]:
    """Return what a call returns, and its seconds on the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    wait(device)
    start = time.perf_counter()
    found = call()
    wait(device)
    return found, time.perf_counter() - start
