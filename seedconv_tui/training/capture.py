"""`Capture`: what a model in training says of a study's text, handed over without a checkpoint.

    capture = Capture("study.toml", model="m", seed=1)
    for step, batch in enumerate(batches):
        ...
        capture(model, step)

It needs the standard library, numpy and torch.
"""

from __future__ import annotations

import contextlib
import logging
import math
import operator
import os
import time
from typing import Any, Literal

from torch import nn

from seedconv_tui.training.announcing import (
    announce_captured,
    announcements_folder,
    check_names,
)
from seedconv_tui.training.captured_rows import CaptureJob
from seedconv_tui.training.forward_ways import CheckedForward, DefaultForward, Forward
from seedconv_tui.training.handing_over import HandingOver, SkippedError
from seedconv_tui.training.handover import run_folder
from seedconv_tui.training.rank_meeting import Group, Meeting, NotAllCameError, Single, find_group
from seedconv_tui.training.work_order import ORDER_FILE, WorkOrder, read_order
from seedconv_tui.training.wrapped_models import Placement, find_context, most_ids, survey

_LOGIT_BYTES = 2**29  # float32 logits of what goes through a model at once
_MOST_TOKENS = 8192
_TOGETHER = 60.0  # seconds that ranks wait for others where all have to run the model
_APART = 10.0  # where one can do it by itself

logger = logging.getLogger("seedconv")


class Capture:
    """Hands over what a model in training says of a study's text, at the steps it asks for."""

    def __init__(
        self,
        study: str | os.PathLike[str],
        *,
        model: str,
        seed: str | int,
        forward: Forward | None = None,
        context: int | None = None,
        keep: Literal["auto", "factored", "dense"] = "auto",
        at_most_gb: float = 20,
        batch_tokens: int | None = None,
        wait: float = 0,
        share: bool = True,
    ) -> None:
        """Read the work order that `seedconv order` or `seedconv watch` made.

        Args:
            study: The study file, or its folder of announcements.
            model: The model's name in the study file.
            seed: The label of this run.
            forward: A function of (model, ids) that returns logits (batch, position, vocab or
                more) of ids int64 (batch, position), or None on ranks that have none. Left out,
                models that Hugging Face, nanoGPT and litgpt users have are called right.
            context: Tokens that the model takes at once; left out, its configuration says it.
            keep: Hidden states and output layer (factored), or log-probs in float16 (dense); left
                out, what the study prefers, dense where logits are no product.
            at_most_gb: Captures of this run that may wait for the engine; older ones are dropped.
            batch_tokens: Positions that go through the model at once.
            wait: Seconds to wait here for the order, if it is not there yet.
            share: Have ranks share the text. If not, with `forward` every rank runs all of it, as
                pipelines need; else rank 0 does where it can by itself.

        Raises:
            ValueError: the order is not there, does not ask for this model or seed, or an argument
                cannot be right.
        """
        self._folder = announcements_folder(study)
        self._model, self._seed = model, _label(seed)
        check_names(model, self._seed, 0, str(self._folder))
        for what, value, least in (("context", context, 2), ("batch_tokens", batch_tokens, 1)):
            if value is not None and (type(value) is not int or value < least):
                raise ValueError(f"{what} should be a whole number from {least}, found {value!r}")
        if forward is not None and not callable(forward):
            raise ValueError(f"forward should be a function of (model, ids), found {forward!r}")
        numbers = all(isinstance(value, (int, float)) for value in (at_most_gb, wait))
        if not (numbers and 0 < at_most_gb < math.inf and 0 <= wait < math.inf):
            raise ValueError(
                f"at_most_gb should be above 0 and wait at least 0, found {at_most_gb!r}, {wait!r}"
            )
        if keep not in {"auto", "factored", "dense"}:
            raise ValueError(f"keep should be auto, factored or dense, found {keep!r}")
        self._forward, self._context, self._keep = forward, context, keep
        self._at_most, self._share = int(at_most_gb * 1e9), share
        self._batch_tokens = batch_tokens
        self._leader: int | None = None  # the rank that captures by itself, as others never came
        self._told: set[str] = set()
        self.failed = 0  # captures that were asked for and not handed over
        self._file = self._folder / ORDER_FILE
        self._read_as = self._version()
        stop = time.monotonic() + wait
        while True:
            try:
                self._order = self._wanted(read_order(self._file))
                break
            except ValueError:
                if time.monotonic() >= stop:
                    raise
            time.sleep(min(0.5, max(0.0, stop - time.monotonic())))
            self._read_as = self._version()
        self._way = self._make_way()

    def _wanted(self, order: WorkOrder) -> WorkOrder:
        """Return an order. Raise ValueError when it does not ask for this run."""
        if self._model not in order.models:
            names = ", ".join(list(order.models)[:5])
            raise ValueError(
                f"model {self._model!r} is not one that study {order.study} wants captured "
                f'({names}); its [[models]] needs source = "captured"'
            )
        seeds = order.models[self._model].seeds
        if seeds is not None and self._seed not in seeds:
            raise ValueError(
                f"seed {self._seed!r} is not one that study {order.study} lists for "
                f"{self._model} ({', '.join(seeds[:10])})"
            )
        return order

    def _make_way(self) -> Forward:
        if self._forward is not None:
            return CheckedForward(self._forward, self._order.vocab)
        return DefaultForward(self._order.vocab)

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _refresh(self) -> None:
        """Read the order again if it changed; one that cannot be read changes nothing."""
        version = self._version()
        if version is None or version == self._read_as:
            return
        self._read_as = version
        try:
            self._order = self._wanted(read_order(self._file))
            self._way = self._make_way()
        except (ValueError, MemoryError) as error:
            self._tell("order", "the work order changed and is not used: %s", error)

    @property
    def steps(self) -> tuple[int, ...] | None:
        """Return the steps that the study lists; None when it takes any."""
        return self._order.models[self._model].steps

    def due(self, step: int) -> bool:
        """Return whether the study wants this step: all seeds are to be captured at the same."""
        self._refresh()
        return self.steps is None or step in self.steps

    def __call__(self, model: nn.Module, step: int) -> bool:
        """Hand over what a model says, if the study wants this step; return whether it was written.

        Training is left as it was. What goes wrong is logged once of each kind (logger `seedconv`)
        and counted in `failed`. With FSDP or tensor parallelism, call it on every rank: if they do
        not all come within 60 s, those who came go on without. With DDP, on every rank, which
        share the text, or on one.
        """
        if not self.due(step):
            return False
        try:
            return self._capture(model, operator.index(step))
        except SkippedError as error:
            self._failed(step, str(error), kind=error.kind)
        except NotAllCameError as error:
            self._failed(step, str(error), kind="ranks")
        except Exception as error:  # whatever a model, a disk or a driver raises
            text = " ".join(str(error).split())[:300]
            plain = isinstance(error, (ValueError, OSError))
            self._failed(step, text if plain else f"{type(error).__name__}: {text}",
                         kind=f"{type(error).__name__} {text[:20]}")  # fmt: skip
            logger.debug("where it was raised", exc_info=True)
        return False

    def _failed(self, step: int, text: str, kind: str) -> None:
        self.failed += 1
        self._tell(kind, "step %s of seed %s was not captured: %s", step, self._seed, text)
        with contextlib.suppress(Exception):  # the log has it; a disk may be full
            self._lose(operator.index(step), text)

    def _lose(self, step: int, reason: str) -> None:
        """Inform the study, which would wait for the step; what was captured of it before stays."""
        group = find_group()
        if group is not None and group.rank != 0:
            return
        check_names(self._model, self._seed, step, str(self._folder))
        if not (run_folder(self._folder, self._model, self._seed) / str(step)).exists():
            plain = "".join(letter if letter.isprintable() else "?" for letter in reason)
            announce_captured(
                self._folder, self._model, self._seed, step, path=None, lost=plain[:500]
            )

    def _tell(self, kind: str, text: str, *values: object) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning(text, *values)

    # -- ranks ---------------------------------------------------------------------------------

    def _capture(self, model: nn.Module, step: int) -> bool:
        check_names(self._model, self._seed, step, str(self._folder))
        group = find_group()
        place = survey(model, 1 if group is None else group.world)
        if group is None:
            return self._hand_over(place, step, None, Single())
        together = place.together or (self._forward is not None and not self._share)
        leader = self._leader if self._share else 0
        if not together and leader is not None:
            return group.rank == leader and self._hand_over(place, step, None, Single())
        name = f"{self._folder}/{self._model}/{self._seed}/{step}"
        meeting = Meeting(group, name)
        try:
            return self._hand_over(place, step, group, meeting, _TOGETHER if together else _APART)
        except NotAllCameError as error:
            if together or error.stage != "begin":
                raise
            self._leader = error.first
            logger.info("rank %d captures by itself, as not all ranks call capture", error.first)
            return group.rank == error.first and self._hand_over(place, step, None, Single())

    def _hand_over(
        self, place: Placement, step: int, group: Group | None, meeting: Meeting | Single,
        seconds: float = 0.0,
    ) -> bool:  # fmt: skip
        HandingOver(
            self._folder, self._model, self._seed, step, at_most=self._at_most, meeting=meeting,
            needs_layer=self._keep == "factored", tell=self._tell,
            rank=0 if group is None else group.rank,
        ).run(lambda: self._job(place, group), seconds)  # fmt: skip
        return True

    def _job(self, place: Placement, group: Group | None) -> CaptureJob:
        """Return what is to be done. Raise ValueError when the model cannot take the text."""
        order, (window, overlap) = self._order, self._window(place)
        most = most_ids(place.module)
        highest = max(int(text.inputs.max()) for text in (order.text, *order.probes.values()))
        if most is not None and highest >= most:
            raise ValueError(
                f"the text has token id {highest}, the model's largest embedding has {most} rows. "
                "Train with the tokenizer that the study names"
            )
        shared = group is not None and self._share and place.alike
        tokens = self._batch_tokens or min(_MOST_TOKENS, _LOGIT_BYTES // (4 * order.vocab))
        return CaptureJob(
            place=place,
            order=order,
            window=window,
            overlap=overlap,
            part=group.rank if group is not None and shared else 0,
            parts=group.world if group is not None and shared else 1,
            batch_tokens=tokens,
            forward=self._way,
            factored=self._keep == "factored"
            or (self._keep == "auto" and order.keep == "factored"),
        )

    def _window(self, place: Placement) -> tuple[int, int]:
        """Return (window, overlap): those of the study, or less where the model takes less."""
        context = self._context or find_context(place.module)
        if context is None:
            raise ValueError(
                "how many tokens the model takes at once is not in its configuration; give "
                "Capture(..., context=N)"
            )
        if context >= self._order.window:
            return self._order.window, self._order.overlap
        return context, min(self._order.overlap, context // 2)


def _label(seed: Any) -> str:
    """Return a seed's label. Raise ValueError for what nobody means as one, such as None."""
    if isinstance(seed, str):
        return seed
    try:
        number = operator.index(seed)
    except TypeError:
        number = None
    if number is None or isinstance(seed, bool):
        raise ValueError(f"seed should be a text or a whole number, found {seed!r}")
    return str(number)
