"""Hold a configuration's claims against the weights before building anything of that size.

transformers makes a module as its configuration says, and then looks whether the weights fit. Here
a module without any memory says which weights there should be, with their shapes.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.pytorch_utils import Conv1D

from engine.errors import CheckpointError
from engine.machine.faults import is_fault
from engine.models.remote_code import model_class
from engine.models.spreading import all_weights
from engine.models.weights import CheckpointWeights

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SPARE_BYTES = 2**30  # of what a module makes for itself, such as masks
_MORE_LAYERS = 64  # than the names have: some models use the weights of one several times
_ROTATION = "inv_freq"  # name of the frequencies by which positions are rotated
_INDEX = re.compile(r"\.(\d+)\.")


class Fitting:
    """Checks checkpoints of one kind, once for each architecture."""

    def __init__(self, *, masked: bool, note: Callable[[str], None] = lambda text: None) -> None:
        """`note` is called with what the user should know, in one line."""
        self._masked, self._note = masked, note
        self._known: dict[object, _Changes] = {}  # by architecture

    def fit(self, checkpoint: CheckpointWeights) -> None:
        """Give the weights the names that the model has, where only a wrapper's prefix differs.

        Turn those that lie on their side, as nanoGPT's do.

        Raise CheckpointError when the configuration cannot be that of the weights: with the name
        of a weight, its shape and the shape that there should be.
        """
        types = frozenset((name, of.dtype) for name, of in checkpoint.weights.items())
        key = checkpoint.outline(), types
        if key not in self._known:
            self._known[key] = self._changes(checkpoint)
        changes, weights = self._known[key], checkpoint.weights
        names = changes.names
        if names:
            renamed = {names[name]: tensor for name, tensor in weights.items()}
            weights.clear()
            weights.update(renamed)
            odd = {names[name]: file for name, file in checkpoint.not_finite.items()}
            checkpoint.not_finite.clear()
            checkpoint.not_finite.update(odd)
        for name in changes.turned:
            weights[name] = weights[name].t().contiguous()
        for name, like in changes.zeros.items():
            weights[name] = torch.zeros(like.shape, dtype=weights[changes.turned[0]].dtype)

    def _changes(self, checkpoint: CheckpointWeights) -> _Changes:
        _check_layers(checkpoint)
        module = _outline(checkpoint, masked=self._masked)
        if module is None:
            return _Changes({})
        expected = dict(module.state_dict())
        names = _unwrapped(checkpoint.weights, expected)
        weights = {names.get(name, name): tensor for name, tensor in checkpoint.weights.items()}
        turned, zeros = _turned(module, weights, expected), dict[str, torch.Tensor]()
        if turned:
            weights |= {name: weights[name].t() for name in turned}
            zeros = _lacking_biases(weights, expected)
            text = ", and the missing biases are zero" if zeros else ""
            self._note(
                f"{checkpoint.where}: matrices lie on their side, as nanoGPT writes them, and are "
                f"turned{text}; see that activation_function in config.json is that of the training"
            )
        _check_shapes(checkpoint.where, weights, expected)
        _check_size(checkpoint.where, weights, module)
        return _Changes(names, turned, zeros)


@dataclass(frozen=True)
class _Changes:
    """Changes to the weights of an architecture that make them those of the model."""

    names: dict[str, str]  # new ones by old ones; empty: they stay
    turned: tuple[str, ...] = ()  # matrices to transpose
    zeros: dict[str, torch.Tensor] = field(default_factory=dict)  # biases to add, of these shapes


def refuse_not_finite(checkpoint: CheckpointWeights, module: Any) -> None:
    """Raise CheckpointError when a weight that the module uses is NaN or infinite.

    Others, such as masks that old versions of a model saved, may be.
    """
    for name, weight in all_weights(module).items():
        low, high = weight.detach().aminmax() if weight.numel() else (torch.zeros(()),) * 2
        if not bool(low.isfinite() & high.isfinite()):
            where = checkpoint.not_finite.get(name, checkpoint.where)
            raise CheckpointError(f"{where}: {name} holds NaN or infinite weights")


def refuse_other_rotation(checkpoint: CheckpointWeights, module: Any) -> None:
    """Raise CheckpointError when positions are rotated otherwise than in training.

    Checkpoints of some trainers and of old versions hold the frequencies that config.json implies.
    Where those are scaled, versions differ in what they keep, and nothing is compared.
    """
    found = {n: it for n, it in checkpoint.weights.items() if n.rpartition(".")[2] == _ROTATION}
    settings = checkpoint.config.get_text_config().to_dict()
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not found or kind != "default" or any(isinstance(it, dict) for it in rope.values()):
        return
    made = {n: it for n, it in module.named_buffers() if n.rpartition(".")[2] == _ROTATION}
    alone = next(iter(made.values())) if len(made) == 1 else None  # one serves all layers
    for name, frequencies in found.items():
        buffer = made.get(name, alone)
        if buffer is None or buffer.is_meta or buffer.shape != frequencies.shape:
            continue
        if not torch.allclose(frequencies.float(), buffer.float().cpu(), rtol=0.02, atol=1e-4):
            raise CheckpointError(
                f"{checkpoint.where}: config.json makes other frequencies of positions than "
                f"{name} has. Correct rope_theta in config.json"
            )


def _outline(checkpoint: CheckpointWeights, *, masked: bool) -> Any:
    """Return the model's module without memory; None where its code cannot make it so.

    What is wrong then is said where it is built.
    """
    architecture = model_class(checkpoint, masked=masked)
    try:
        with torch.device("meta"):
            return architecture(copy.deepcopy(checkpoint.config))
    except BaseException as error:
        if not is_fault(error):
            raise
        _refuse_rope(checkpoint, error)
        return None


def _refuse_rope(checkpoint: CheckpointWeights, error: BaseException) -> None:
    """Raise CheckpointError when a module cannot be made as its kind of rotation is unknown."""
    config = checkpoint.config.to_dict()
    for name in ("rope_parameters", "rope_scaling"):
        text = json.dumps(config.get(name), default=str)
        for kind in re.findall(r'"(?:rope_)?type": "([^"]*)"', text):
            if kind not in ROPE_INIT_FUNCTIONS and kind in str(error):
                raise CheckpointError(
                    f"{checkpoint.where}: config.json: {name} has the type {kind!r}, which this "
                    f"version of transformers does not know; {', '.join(ROPE_INIT_FUNCTIONS)} are"
                ) from None


def _check_layers(checkpoint: CheckpointWeights) -> None:
    """Compare the number of layers with the names, which takes no time, as building them does."""
    config = checkpoint.config.get_text_config()
    claimed = getattr(config, "num_hidden_layers", None)
    found = [int(n) for name in checkpoint.weights for n in _INDEX.findall(name)]
    there = max(found, default=-1) + 1
    if isinstance(claimed, int) and claimed > _MORE_LAYERS + 4 * there:
        raise CheckpointError(
            f"{checkpoint.where}: config.json says {claimed:,} layers (num_hidden_layers), "
            f"its weights are of {there:,}"
        )


def _unwrapped(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """Return new names by old ones, if without a prefix they are the model's; else nothing.

    A prefix that all names have is left off when more of them fit without it.
    """
    names = list(weights)
    best, most = names, sum(name in expected for name in names)
    while prefix := _first_part(names):
        names = [name.removeprefix(prefix) for name in names]
        fitting = sum(name in expected for name in names)
        if fitting > most:
            best, most = names, fitting
    return {} if best == list(weights) else dict(zip(weights, best, strict=True))


def _first_part(names: Sequence[str]) -> str:
    """Return the first part of a name, if all of them begin with it; else ""."""
    first = names[0].partition(".")[0] + "." if names else ""
    return first if all(name.startswith(first) and name != first for name in names) else ""


def _turned(
    module: Any, weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> tuple[str, ...]:
    """Return the matrices that GPT-2 of transformers has on their side, where these are upright.

    Its layers multiply from the other side than those of torch, which nanoGPT and its kin use under
    the same names. Some are square; whoever has one that is not says it for all.
    """
    names = [f"{name}.weight" for name, it in module.named_modules() if isinstance(it, Conv1D)]
    shapes = [(tuple(weights[n].shape), tuple(expected[n].shape)) for n in names if n in weights]
    upright = len(shapes) == len(names) and all(found == want[::-1] for found, want in shapes)
    return tuple(names) if upright and any(found != want for found, want in shapes) else ()


def _lacking_biases(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the biases of a model that was trained without any, as nanoGPT does by default."""
    biases = {name: tensor for name, tensor in expected.items() if name.endswith(".bias")}
    return {} if biases.keys() & weights.keys() else biases


def _check_shapes(
    where: str, weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    for name in sorted(weights.keys() & expected.keys()):
        found, wanted = weights[name], expected[name]
        if found.shape != wanted.shape:
            raise CheckpointError(
                f"{where}: weights mismatched: {name} is {tuple(found.shape)}, config.json makes "
                f"it {tuple(wanted.shape)}. Correct config.json, or save the model again"
            )
        if wanted.is_floating_point() and found.dtype not in _FLOATS:
            kind = str(found.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{where}: {name} is {kind}: quantised weights are not read; load the model, "
                "dequantize() it, then save_pretrained"
            )


def _check_size(where: str, weights: Mapping[str, torch.Tensor], module: Any) -> None:
    """Refuse a module that is much larger than its weights. Weights may share what is tied."""
    there = sum(tensor.numel() for tensor in weights.values())
    shared = {id(parameter): parameter for parameter in module.parameters()}
    claimed = sum(parameter.numel() for parameter in shared.values())
    largest = max(shared.values(), key=torch.Tensor.numel, default=None)
    made = sum(buffer.nbytes for buffer in module.buffers())
    if largest is not None and claimed > 2 * there + _SPARE_BYTES // 4:
        name = next(name for name, p in module.named_parameters() if p is largest)
        raise CheckpointError(
            f"{where}: config.json makes a model of {claimed:,} parameters; {name} is "
            f"{tuple(largest.shape)}; its weights are {there:,}. Correct config.json"
        )
    if made > 8 * there + 4 * _SPARE_BYTES:
        name, buffer = max(module.named_buffers(), key=lambda entry: entry[1].nbytes)
        raise CheckpointError(
            f"{where}: config.json makes {name} of {tuple(buffer.shape)}, which takes "
            f"{made / 1e9:,.0f} GB, for {there:,} weights. Correct config.json"
        )
