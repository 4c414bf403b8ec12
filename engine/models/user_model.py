"""Wrap what a user's loader returned, a module or a function of ids, for the scorer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.errors import first_line
from engine.machine.device_errors import is_out_of_memory
from engine.models.output_head import SAME, Head, input_of
from engine.models.residency import Stage, StagedModule
from engine.models.user_arrays import WrongOutputError, check_shape, to_tensor
from engine.models.user_code import kept_settings
from seedconv_tui.training.forward_ways import (
    DefaultForward,
    NoLogitsError,
    are_probabilities,
)
from seedconv_tui.training.layer_search import candidates, find_layer, listening
from seedconv_tui.training.wrapped_models import find_context, unwrapped

_logger = logging.getLogger("seedconv")
_LEAKS = 0.1  # distance of states from those that saw fewer tokens: no rounding is so large


class UserModule:
    """A module that a loader returned. Its output layer is looked for."""

    def __init__(self, made: nn.Module, stage: Stage | None) -> None:
        """Take a module on the device; with a stage its weights are there at each use only."""
        module = unwrapped(made)
        module.eval()
        module.requires_grad_(requires_grad=False)
        floats = (weight.dtype for weight in module.parameters() if weight.is_floating_point())
        self.dtype = next(floats, torch.float32)
        self._made = module
        self.longest = self.context()
        self.head: Head | None = None
        self._layer: nn.Linear | None = None
        self._staged = StagedModule(module, stage, changes_itself=True)

    def context(self) -> int | None:
        """Return how many inputs its configuration says that it takes; None: it does not."""
        return find_context(self._made)

    def probe(self, ids: torch.Tensor, vocab_size: int) -> torch.Tensor:
        """Find how it is called and its output layer; return the logits of these ids."""
        module, self._call = self._staged.activate(), DefaultForward(vocab_size)
        self._vocab_size = vocab_size
        self._logits(module, ids)  # from now on one call does
        with listening(candidates(module, vocab_size), vocab_size, weights=True) as heard:
            logits = self._logits(module, ids)
        found = find_layer(heard, logits, vocab_size)
        # Asking ends where the layer is reached first; states of earlier layers may go there, too.
        if found is not None and heard[0].uses == 1:
            layer = self._layer = found.module
            weight, bias = (
                None if tensor is None else tensor.detach()[:vocab_size].float()
                for tensor in (layer.weight, layer.bias)
            )
            assert weight is not None
            self.head = Head(weight, bias, found.scale)
        return logits

    def _logits(self, module: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        try:
            return self._call(module, ids).detach()
        except NoLogitsError as error:
            raise WrongOutputError(
                f"its module {error.what}; have the loader return a function from ids to logits"
            ) from None

    def ask(self, ids: torch.Tensor) -> torch.Tensor:
        """Return hidden states if it has a head, else logits."""
        module = self._staged.activate()
        if self._layer is None:
            return self._logits(module, ids)
        return input_of(self._layer, lambda: self._call(module, ids))

    def close(self) -> None:
        """Leave the device to others."""
        self._staged.close()


class UserFunction:
    """A function of ids that a loader returned, with what it may say of itself."""

    def __init__(self, made: Any, device: torch.device) -> None:
        self._made, self._device = made, device
        self.longest = self.context()
        self.dtype = torch.float32  # until it was asked
        self.head: Head | None = None

    def context(self) -> int | None:
        """Return `.context`. Raise WrongOutputError when it is no number of tokens."""
        value = getattr(self._made, "context", None)
        if value is None:
            return None
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise WrongOutputError(f".context should be a number of tokens, found {value!r}")
        return int(value)

    def probe(self, ids: torch.Tensor, vocab_size: int) -> torch.Tensor:
        """Find whether its hidden states make its logits; return the logits of these ids."""
        logits = self._call(self._made, ids, "logits", "vocab")
        self.dtype = logits.dtype
        layer = getattr(self._made, "output_layer", None)
        hidden = getattr(self._made, "hidden", None)
        if (layer is None) != (hidden is None):
            lacks = "output_layer" if layer is None else "hidden"
            raise WrongOutputError(
                f"has no .{lacks}; .hidden and .output_layer are of no use without each other"
            )
        if layer is not None and logits.shape[-1] >= vocab_size:
            self.head = self._head(layer() if callable(layer) else layer, ids, logits, vocab_size)
        return logits

    def _head(self, layer: Any, ids: torch.Tensor, logits: torch.Tensor, vocab_size: int) -> Head:
        """Return the head that `.output_layer` is. Raise WrongOutputError when it is not."""
        try:
            weight, bias, scale = layer
            scale = float(scale)
        except (TypeError, ValueError):
            raise WrongOutputError(
                ".output_layer should be (weight, bias or None, scale), found "
                f"{type(layer).__name__}"
            ) from None
        hidden = self._hidden(ids)
        self.dtype = hidden.dtype
        rows, width = logits.shape[-1], hidden.shape[-1]
        weight = to_tensor(weight, "the weight of .output_layer").to(self._device).float()
        if weight.ndim != 2 or weight.shape[1] != width or weight.shape[0] < vocab_size:
            raise WrongOutputError(
                f"the weight of .output_layer should be (vocab, hidden), {rows} x {width}, found "
                f"{' x '.join(map(str, weight.shape))}"
            )
        if bias is not None:
            bias = to_tensor(bias, "the bias of .output_layer").to(self._device).float()
            if bias.shape != weight.shape[:1]:
                raise WrongOutputError(
                    f"the bias of .output_layer should be (vocab,), {len(weight)}, found "
                    f"{' x '.join(map(str, bias.shape))}"
                )
            bias = bias[:vocab_size]
        head = Head(weight[:vocab_size].contiguous(), bias, scale)
        said = logits[..., :vocab_size].float().flatten(0, -2)
        same = max(SAME, 2 * torch.finfo(logits.dtype).eps, 2 * torch.finfo(hidden.dtype).eps)
        product = head.logits(hidden.float().flatten(0, -2))
        off = (product - said).abs().max() / said.abs().max().clamp_min(1e-3)
        if said.isfinite().all() and not off <= same:
            raise WrongOutputError(
                ".hidden times .output_layer is not what the function returns: the largest "
                f"difference is {float(off):.2g} of the largest logit. Hidden states are those "
                "that the output layer takes, after the last norm"
            )
        return head

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        return self._call(self._made.hidden, ids, "hidden states", "hidden")

    def _call(
        self, function: Callable[[Any], Any], ids: torch.Tensor, what: str, last: str
    ) -> torch.Tensor:
        found = to_tensor(function(ids.cpu().numpy()), what).to(self._device)
        check_shape(found, tuple(ids.shape), what, last)
        return found

    def ask(self, ids: torch.Tensor) -> torch.Tensor:
        """Return hidden states if it has a head, else logits."""
        if self.head is None:
            return self._call(self._made, ids, "logits", "vocab")
        return self._hidden(ids)

    def close(self) -> None:
        """Do nothing: what it holds is its own."""


class UserModel:
    """A model of a user's loader, checked at every call."""

    limits: tuple[int, ...] = ()

    def __init__(
        self,
        made: Any,
        asked: UserModule | UserFunction,
        ids: torch.Tensor,
        vocab_size: int,
        where: str,
        fingerprint: str,
        alike: tuple[object, ...],
    ) -> None:
        """Ask it of the first `ids` of the text; `alike` is equal for models of one kind.

        Raise WrongOutputError when it returns what are no logits, and what it raises.
        """
        self.made, self.where, self.fingerprint = made, where, fingerprint
        self.closed = False
        self.returns = torch.float32  # the type of its logits or states
        self._asked = asked
        self.name = getattr(made, "__qualname__", type(made).__name__)
        with _guarded():
            said = asked.probe(ids.clone(), vocab_size)
        if not said[..., :vocab_size].isfinite().all():
            raise WrongOutputError("its logits are NaN or infinite at the first tokens of the text")
        if are_probabilities(said):
            raise WrongOutputError("returns probabilities; return logits, or their logarithms")
        self.rows, self.longest, self.head = said.shape[-1], asked.longest, asked.head
        self._ids, self._width = ids, 0
        self.returns, self.dtype = asked.dtype, self._precision()
        self.architecture = (*alike, self.name, self.rows, self.longest, self.dtype)

    def states(self, ids: torch.Tensor, shown: torch.Tensor | None, last: int) -> torch.Tensor:
        """Return hidden states or logits of all positions. Raise WrongOutputError."""
        with _guarded():
            found = self._asked.ask(ids.clone())
            longest = self._asked.context()
        what, last_dimension = ("logits", "vocab") if self.head is None else ("states", "hidden")
        check_shape(found, tuple(ids.shape), what, last_dimension)
        self._width = self._width or found.shape[-1]
        if found.shape[-1] != self._width:
            raise WrongOutputError(
                f"its {what} are of {found.shape[-1]} entries now, and were of {self._width} before"
            )
        if longest != self.longest:
            raise WrongOutputError(
                f"its context is {longest} now, and was {self.longest} when it was loaded"
            )
        return found

    def watch(self, percents: Sequence[int]) -> tuple[int, ...]:
        """Return nothing: layers of a loader's model are not known."""
        return ()

    def _precision(self) -> torch.dtype:
        """Return the precision in which it computes, which may be less than it returns.

        The same ids, twice in a batch, show how it rounds.
        """
        off = _distance(self.say_first(), self.states(self._ids.repeat(2, 1), None, 1)[:1])
        coarse = torch.bfloat16 if off > rounding(torch.float32) else torch.float32
        return max(self._asked.dtype, coarse, key=rounding)

    def check_causal(self) -> None:
        """Raise WrongOutputError when it says something else of tokens if others follow them."""
        n = self._ids.shape[1] // 2
        said = self.say_first()[:, :n]
        if n and _distance(said, self.states(self._ids[:, :n], None, 1)) > _LEAKS:
            raise WrongOutputError(
                f"says something else of the first {n} tokens when others follow them: only causal "
                "models are scored with a loader"
            )
        other = self._ids.clone()  # of one length both are computed alike, to the last bit or so
        other[:, n:] = self._ids[:, : self._ids.shape[1] - n]
        off = (said - self.states(other, None, 1)[:, :n]).float().norm(dim=-1)
        size = said.float().norm(dim=-1).square().mean().sqrt()
        if n and float(off.max()) > min(_LEAKS, 4 * rounding(self.dtype)) * float(size):
            raise WrongOutputError(
                f"says something else of some of the first {n} tokens when those that follow are "
                "others: only causal models are scored with a loader"
            )

    def say_first(self) -> torch.Tensor:
        """Return what it says of the first tokens."""
        return self.states(self._ids, None, 1)

    def still_says(self, before: torch.Tensor) -> bool:
        """Return whether it says of the first tokens what it said before."""
        return _distance(before, self.say_first()) <= rounding(torch.float32)

    def close(self) -> None:
        """Call `.close()` of what the loader returned, if it has one."""
        closed, self.closed = self.closed, True
        self._asked.close()
        if not closed:
            close_made(self.made)


def rounding(dtype: torch.dtype) -> float:
    """Return how far the same states may be apart, relative to their norm."""
    return float(torch.finfo(dtype).eps ** 0.5)


def _distance(states: torch.Tensor, others: torch.Tensor) -> float:
    """Return how far states are apart, relative to their norm."""
    off = (states.float() - others.float()).norm() / states.float().norm().clamp_min(1e-30)
    return float(off)


def close_made(made: Any) -> None:
    """Call `.close()` of what a loader returned, if it has one; what it raises is logged."""
    close = getattr(made, "close", None)
    if callable(close):
        try:
            with kept_settings():
                close()
        except Exception as error:
            _logger.warning("close() of a loader's model fails: %s", first_line(error))


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Call a user's model as training code would be: without gradients, in no inference mode.

    What is made in that mode, such as cached angles of positions, could never be changed after it,
    and a loader may use its modules again. That memory ran out is said as torch says it.
    """
    try:
        with kept_settings(), torch.inference_mode(False), torch.no_grad():
            yield
    except BaseException as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(first_line(error)) from None
