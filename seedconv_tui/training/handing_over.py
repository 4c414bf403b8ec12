"""One capture from beginning to end, in steps that all ranks take or none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seedconv_tui.training.announcing import announce_captured
from seedconv_tui.training.captured_rows import CapturedRows, CaptureJob, First
from seedconv_tui.training.handover import (
    BIAS,
    ROW_DTYPE,
    WEIGHT,
    CapturedProbe,
    Handover,
    SpooledFile,
    most_noise,
    read_handover,
    remove_captured,
    rows_file,
    run_folder,
)
from seedconv_tui.training.rank_meeting import Meeting, Single
from seedconv_tui.training.spool import Parts, complete, partial_folder, room, too_many
from seedconv_tui.training.undisturbed import undisturbed
from seedconv_tui.training.work_order import CapturedAs

_FINISHING = 600.0  # seconds that ranks wait for each other after the first batch
_FACTOR_OFF = 0.01  # as ranks estimate it of other tokens
_USUAL_PADDING = 1024  # logits beyond the tokenizer's entries, for fast kernels
_NOT_FINITE = "logits are NaN or infinite"


class SkippedError(Exception):
    """Nothing is handed over, for a reason that all ranks know, and of a `kind`."""

    def __init__(self, text: str, kind: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind or text


@dataclass(frozen=True)
class _Plan:
    """The agreement of all ranks after the first batch."""

    leader: int  # the rank that describes what is handed over, and writes the output layer
    representation: CapturedAs
    first: First  # of this rank
    width: int  # of rows


class HandingOver:
    """Captures one step. What may fail is said to the other ranks before any of them goes on."""

    def __init__(
        self,
        folder: Path,
        model: str,
        seed: str,
        step: int,
        *,
        rank: int,
        meeting: Meeting | Single,
        at_most: int,
        needs_layer: bool,
        tell: Callable[..., None],
    ) -> None:
        """Call `tell` with kind, text and values for what the user should know besides."""
        self._folder, self._model, self._seed, self._step = folder, model, seed, step
        self._rank, self._meeting, self._at_most = rank, meeting, at_most
        self._needs_layer, self._tell = needs_layer, tell
        self._run_folder = run_folder(folder, model, seed)

    def run(self, make_job: Callable[[], CaptureJob], seconds: float) -> None:
        """Hand over. Raise SkippedError, NotAllCameError or what went wrong.

        All ranks are here within `seconds`, or none goes on.
        """
        made: list[CaptureJob] = []

        def begin() -> dict[str, Any]:
            made.append(make_job())
            job = made[0]
            probes = [text.digest for text in job.order.probes.values()]
            ways = [job.parts, job.batch_tokens, job.factored]
            meaning = [job.order.digest, job.window, job.overlap, probes, ways]
            return {"meaning": meaning, "partial": str(partial_folder(self._run_folder))}

        heard = self._agree("begin", begin, seconds)
        if any(words["meaning"] != heard[0]["meaning"] for words in heard):
            why = "ranks have different work orders or models; the next step may succeed"
            raise SkippedError(why)
        job, partial = made[0], Path(heard[0]["partial"])
        try:
            with undisturbed(job.place.module, job.place.device):
                rows, shown = CapturedRows(job), list[First]()
                heard = self._agree("first", lambda: self._first(rows, shown))
                plan = self._plan(job, rows, shown[0], heard)
                heard = self._agree("written", lambda: self._write(job, rows, plan, partial))
            self._refuse_not_finite(plan.leader, heard)
            if not all(words["steady"] for words in heard):
                raise SkippedError("logits are made in another way than at the first tokens")
            self._agree("end", lambda: self._complete(job, plan, partial, heard))
        finally:
            if partial.exists():
                remove_captured(partial)

    def _agree(
        self, stage: str, make: Callable[[], dict[str, Any]], seconds: float = _FINISHING
    ) -> list[dict[str, Any]]:
        """Return what `make` gave on every rank. Raise what it raised here, or that it did there.

        However it ended, the others hear of it: they wait.
        """
        failed: Exception | None = None
        try:
            said = make()
        except Exception as error:
            failed, said = error, {"failed": " ".join(str(error).split())[:300]}
        heard = [
            json.loads(words) for words in self._meeting.gather(stage, json.dumps(said), seconds)
        ]
        if failed is not None:
            raise failed
        for rank, words in enumerate(heard):
            if "failed" in words:
                raise SkippedError(f"rank {rank}: {words['failed']}", kind="another rank")
        return heard

    def _first(self, rows: CapturedRows, shown: list[First]) -> dict[str, Any]:
        """Run the first batch and say what it showed."""
        first = rows.first()
        shown.append(first)
        return {
            "vocab": first.vocab,
            "scale": None if first.layer is None else first.layer.scale,
            "finite": rows.finite,
            "room": room(self._run_folder),
        }

    def _plan(
        self, job: CaptureJob, rows: CapturedRows, first: First, heard: list[dict[str, Any]]
    ) -> _Plan:
        """Return what to do, the same on all ranks. Raise SkippedError, on all ranks."""
        makers = [rank for rank, words in enumerate(heard) if words["vocab"] is not None]
        if not makers:
            raise SkippedError("forward= returned None, on every rank")
        if job.parts > 1 and len(makers) < len(heard):
            raise SkippedError(
                "forward= returned None on some ranks, so they cannot share the text; give "
                "Capture(..., share=False)"
            )
        self._refuse_not_finite(makers[0], heard)
        scales = [heard[rank]["scale"] for rank in makers]
        factored = None not in scales and all(
            abs(scale - scales[0]) <= _FACTOR_OFF * abs(scales[0]) for scale in scales
        )
        if self._needs_layer and not factored:
            raise SkippedError(
                'its logits are not hidden states times an output layer; give keep="dense"'
            )
        plan = _Plan(makers[0], "factored" if factored else "dense", first, job.order.vocab)
        if factored and first.layer is not None:
            plan = replace(plan, width=first.layer.module.in_features)
        counts = [sum(rows.counts(part).values()) for part in range(job.parts)]
        size = sum(counts) * plan.width * np.dtype(ROW_DTYPE[plan.representation]).itemsize
        size += 4 * job.order.vocab * (plan.width + 1) if factored else 0
        if plan.first.vocab is not None and size > self._at_most:
            raise SkippedError(
                f"it takes {size / 1e9:.3g} GB, at_most_gb is {self._at_most / 1e9:g}"
            )
        if size > (free := heard[plan.leader]["room"]):
            raise SkippedError(f"it takes {size / 1e9:.3g} GB, the disk has {free / 1e9:.3g}",
                               kind="disk")  # fmt: skip
        return plan

    def _refuse_not_finite(self, leader: int, heard: list[dict[str, Any]]) -> None:
        """Inform the study and raise SkippedError when a rank saw logits that are not finite."""
        if all(words["finite"] for words in heard):
            return
        if self._rank == leader:
            self._lose(self._step, _NOT_FINITE)
        raise SkippedError(_NOT_FINITE)

    def _lose(self, step: int, reason: str) -> None:
        try:
            announce_captured(self._folder, self._model, self._seed, step, path=None, lost=reason)
        except OSError as error:
            self._tell("letter", "step %s could not be announced as lost: %s", step, error)

    def _write(
        self, job: CaptureJob, rows: CapturedRows, plan: _Plan, partial: Path
    ) -> dict[str, Any]:
        """Run all batches and write what this rank hands over; return its files."""
        writes = plan.first.vocab is not None and (job.parts > 1 or self._rank == plan.leader)
        factored = plan.representation == "factored"
        parts = Parts(partial) if writes else None
        dtype = ROW_DTYPE[plan.representation]
        if parts is not None:
            for probe, count in rows.counts(job.part).items():
                parts.begin(rows_file(job.part, probe), (count, plan.width), dtype)
        for probe, block in rows.rows(factored=factored):
            if parts is not None:
                parts.add(rows_file(job.part, probe), block)
        files: dict[str, SpooledFile] = {}
        if parts is not None:
            layer = plan.first.layer
            if factored and self._rank == plan.leader and layer is not None:
                for name, values in ((WEIGHT, layer.weight), (BIAS, layer.bias)):
                    if values is not None:
                        parts.begin(name, tuple(values.shape), "<f4")
                        parts.add(name, values.numpy())
            files = parts.finish()
        return {
            "files": {name: [file.bytes, file.digest] for name, file in files.items()},
            "finite": rows.finite,
            "steady": rows.steady,
        }

    def _tell_doubts(self, handover: Handover, vocab: int) -> None:
        """Warn, once each, of what makes numbers that nobody wants, and can still be put right."""
        if handover.model_vocab - vocab > _USUAL_PADDING:
            self._tell("padding", "the model makes %d logits, the study's tokenizer has %d "
                       "entries: the others are taken as padding. Is it the one of training?",
                       handover.model_vocab, vocab)  # fmt: skip
        if handover.noise_floor > most_noise(handover.dtype):
            self._tell("noise", "the same tokens got other log-probs in another batch (mean KL "
                       "%.2g nats). Does dropout stay on in evaluation, or does a token see later "
                       "ones?", handover.noise_floor)  # fmt: skip

    def _tell_replaced(self, handover: Handover, target: Path) -> None:
        """Warn when the step had been captured before, differs, and still waits for the engine."""
        try:
            before = read_handover(target)
        except ValueError:  # there is none, or none that could be adopted
            return
        if (before.order, dict(before.files)) != (handover.order, dict(handover.files)):
            self._tell("replaced", "step %d of seed %s was captured before, differs, and is "
                       "replaced, as the engine had not read it. If another run has this label, "
                       "give it one of its own", self._step, self._seed)  # fmt: skip

    def _complete(
        self, job: CaptureJob, plan: _Plan, partial: Path, heard: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Have the leader describe what was written, announce it, and drop what is too much."""
        first, order = plan.first, job.order
        if self._rank != plan.leader or first.vocab is None:
            return {}
        files = {
            name: SpooledFile(*file) for words in heard for name, file in words["files"].items()
        }
        handover = Handover(
            model=self._model,
            seed=self._seed,
            step=self._step,
            order=order.digest,
            representation=plan.representation,
            scale=1.0 if first.layer is None else first.layer.scale,
            ranks=job.parts,
            window=job.window,
            overlap=job.overlap,
            noise_floor=first.noise,
            dtype=first.dtype,
            tf32=False,
            device=str(job.place.device),
            model_vocab=first.vocab,
            created=time.time(),
            files=files,
            probes={
                name: CapturedProbe(text.digest, index)
                for index, (name, text) in enumerate(order.probes.items())
            },
        )
        target = self._run_folder / str(self._step)
        self._tell_doubts(handover, order.vocab)
        self._tell_replaced(handover, target)
        complete(partial, target, handover)
        try:
            announce_captured(self._folder, self._model, self._seed, self._step, path=target)
        except OSError:
            remove_captured(target)  # nobody would find it
            raise
        most = f"{self._at_most / 1e9:g}"
        for folder in too_many(self._run_folder, target, self._at_most):
            if folder.name.isdecimal():
                self._tell("bound", "captures wait for the engine and reached at_most_gb = %s: "
                           "the oldest are dropped, first step %s", most, folder.name)  # fmt: skip
                self._lose(
                    int(folder.name),
                    f"dropped before it was read: captures that waited took {most} GB (at_most_gb)",
                )
            remove_captured(folder)
        return {}
