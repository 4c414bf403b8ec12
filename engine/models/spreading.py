"""Models that are larger than a device: spread over several, and over the host's memory.

accelerate attaches to each layer what brings its input, and its weights if they wait in the host's
memory, to the device that computes it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.machine.devices import DeviceGroup

_PLENTY = 2**62  # bytes: more than there are anywhere
_HOST, _AWAY = "cpu", torch.device("meta")  # where weights wait, and what a module then has of them
_WAITING = "weights_in_host_memory"  # attribute of a module that has such weights
_ATTACHED = ("forward", "_old_forward", "_hf_hook", "to", "cuda")  # to modules, as attributes


def spread(
    module: Any, devices: DeviceGroup, rooms: Sequence[int | None], *, offload: bool = False
) -> None:
    """Spread a module that is in the host's memory over devices, layer by layer in its order.

    `rooms` are bytes of weights that the devices may hold, None: any number. With `offload`, layers
    without room wait in the host's memory and come to the first device when they are called. The
    output layer does not: it computes log-probs on the last device. Without, all devices get about
    the same, and the last what is left.
    """
    from accelerate import dispatch_model

    logging.getLogger("accelerate").setLevel(logging.ERROR)  # of weights on "meta", and the like
    blocks = sorted(_blocks(module))
    places = {
        name: _HOST if label == _HOST else devices.devices[label]
        for name, label in _plan(module, rooms, blocks, offload=offload).items()
    }
    waiting = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if any(f"{name}.".startswith(f"{p}.") for p, place in places.items() if place == _HOST)
    }
    dispatch_model(
        module,
        places,
        main_device=devices.devices[0],
        state_dict=waiting,
        preload_module_classes=blocks,  # a block's parts may use each other's weights
        skip_keys=list(getattr(module, "_skip_keys_device_placement", None) or ()),
        force_hooks=True,
    )
    if waiting:
        vars(module)[_WAITING] = waiting


def _plan(
    module: Any, rooms: Sequence[int | None], blocks: Sequence[str], *, offload: bool
) -> Mapping[str, Any]:
    """Return where each part of a module goes: the number of a device, or "cpu"."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    def plan(memory: Mapping[Any, int]) -> Mapping[str, Any]:
        with warnings.catch_warnings(action="ignore"):  # of buffers, which always get there
            found: Mapping[str, Any] = infer_auto_device_map(
                module, dict(memory), no_split_module_classes=list(blocks), clean_result=False
            )
        return found

    memory: dict[Any, int] = {n: _PLENTY if room is None else room for n, room in enumerate(rooms)}
    if offload:
        memory[len(rooms) - 1] = max(0, memory[len(rooms) - 1] - _head_bytes(module))
        return plan(memory | {_HOST: _PLENTY})
    places = plan(get_balanced_memory(module, dict(memory), no_split_module_classes=list(blocks)))
    if "disk" in places.values():  # no room, if the estimate is right: torch will know
        places = plan(memory | {len(rooms) - 1: _PLENTY})
    return places


def _head_bytes(module: Any) -> int:
    weight = getattr(module.get_output_embeddings(), "weight", None)
    return 4 * weight.numel() if isinstance(weight, torch.Tensor) else 0


def _blocks(module: Any) -> set[str]:
    """Return the classes of parts that stay in one piece.

    These are the layers, as what is computed in one is added up, and what stands before and after
    them: embeddings and the output layer with what belongs to it, which may share weights.
    """
    names = set(getattr(module, "_no_split_modules", None) or ())
    parts = [module]
    while parts:
        for part in parts.pop().children():
            if isinstance(part, torch.nn.ModuleList):
                names |= {type(block).__name__ for block in part}
            elif any(isinstance(inner, torch.nn.ModuleList) for inner in part.modules()):
                parts.append(part)
            elif next(part.children(), None) is not None:
                names.add(type(part).__name__)
    return names


def is_spread(module: Any) -> bool:
    """Return whether a module was spread."""
    return "_hf_hook" in vars(module)


def waiting_weights(module: Any) -> Mapping[str, torch.Tensor]:
    """Return the weights of a module that are in the host's memory until they are used."""
    weights: Mapping[str, torch.Tensor] = vars(module).get(_WAITING, {})
    return weights


def all_weights(module: Any) -> dict[str, torch.Tensor]:
    """Return all parameters of a module by all their names, wherever they are."""
    waiting = waiting_weights(module)
    every = module.named_parameters(remove_duplicate=False)
    return {name: waiting.get(name, parameter) for name, parameter in every}


def weight_of(module: Any, part: torch.nn.Module, name: str) -> torch.Tensor | None:
    """Return a weight that a part of a module may have, wherever it is."""
    path = next(path for path, other in module.named_modules() if other is part)
    found: torch.Tensor | None = waiting_weights(module).get(f"{path}.{name}", getattr(part, name))
    return found


def bring_back(module: Any) -> None:
    """Free a device of weights that are there as a call ended early, or under a second name."""
    waiting = waiting_weights(module)
    for part in module.modules() if waiting else ():
        hook = vars(part).get("_hf_hook")
        if getattr(hook, "offload", False) and hasattr(hook, "tied_pointers_to_remove"):
            hook.post_forward(part, None)
    for name in waiting:
        path, _, leaf = name.rpartition(".")
        tensors = module.get_submodule(path)._parameters
        if leaf in tensors and tensors[leaf].device != _AWAY:
            nothing = torch.empty_like(tensors[leaf], device=_AWAY)
            tensors[leaf] = torch.nn.Parameter(nothing, requires_grad=False)


def release(module: Any) -> None:
    """Take off what was attached to a module, which otherwise holds on to itself in a circle.

    Its weights are then freed with it, not whenever Python looks for such circles. It cannot be
    called any more.
    """
    for part in module.modules():
        for name in _ATTACHED:
            vars(part).pop(name, None)
    vars(module).pop(_WAITING, None)


class ChangedError(Exception):
    """A module tried to change weights that are in the host's memory."""


class RefuseChanges(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raise ChangedError where a call would change weights that wait: it would have no effect.

    Everything else that is done with such weights fails by itself.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable and any(
            isinstance(leaf, torch.Tensor) and leaf.device == _AWAY
            for leaf in tree_leaves((args, kwargs))
        ):
            raise ChangedError
        return func(*args, **kwargs)
