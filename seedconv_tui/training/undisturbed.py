"""Running a model that is being trained, and leaving everything as it was."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from seedconv_tui.training.wrapped_models import kinds_of_fsdp

_MOST_BUFFER_BYTES = 2**26  # larger ones are masks and tables of positions


@contextlib.contextmanager
def undisturbed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a module evaluate inside, without gradients, in full precision and not compiled.

    Afterwards modes, buffers, tensors kept as attributes, random states, TF32 flags and autocast
    are what they were. `no_grad` and not `inference_mode`: what a model caches inside is used in
    training later, and FSDP changes its buffers in place.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_random_states(device))
        stack.enter_context(_full_precision())
        for kind in {device.type, "cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            # Also parts that are compiled in place; other shapes would have them compiled again.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(_reshard, module)
        stack.enter_context(_evaluating(module))
        stack.enter_context(_tensors_kept(module))
        try:
            yield
        except BaseException:
            _end_forward(module)
            raise


@contextlib.contextmanager
def _random_states(device: torch.device) -> Iterator[None]:
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    of_torch, of_device = torch.get_rng_state(), None
    generators: Any = None if device.type == "cpu" else torch.get_device_module(device)
    which = [] if device.type == "mps" else [device]  # there is one, and it has no name
    if generators is not None:
        of_device = generators.get_rng_state(*which)
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        torch.set_rng_state(of_torch)
        if generators is not None:
            generators.set_rng_state(of_device, *which)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    restore = _full_precision_by_flags() or _full_precision_by_names()
    try:
        yield
    finally:
        restore()


def _full_precision_by_flags() -> Callable[[], None] | None:
    """Switch TF32 off as scripts have done it; None where the script uses the newer settings.

    Torch refuses to answer when both are mixed.
    """
    try:
        products = torch.get_float32_matmul_precision()
        convolutions = torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    except RuntimeError:
        return None

    def restore() -> None:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions

    return restore


def _full_precision_by_names() -> Callable[[], None]:
    backends: Any = torch.backends
    places = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    places += [getattr(backends.mkldnn, name) for name in ("matmul", "conv", "rnn")]
    found = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"

    def restore() -> None:
        for place, precision in zip(places, found, strict=True):
            place.fp32_precision = precision

    return restore


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Set flags, and do not call `eval`: models override it, as to merge adapters into weights."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextlib.contextmanager
def _tensors_kept(module: nn.Module) -> Iterator[None]:
    """Keep buffers and tensors that are attributes: counters of experts, tables made lazily."""
    parts = [part for part in module.modules() if type(part).__name__ != "FullyShardedDataParallel"]
    before = [(vars(part), dict(vars(part))) for part in parts]
    buffers = [(part._buffers, dict(part._buffers)) for part in parts]
    each = {id(buffer): buffer for _, known in buffers for buffer in known.values()}
    copies = [
        (buffer, buffer._version, buffer.detach().clone())
        for buffer in each.values()
        if buffer is not None
        and buffer.numel() * buffer.element_size() <= _MOST_BUFFER_BYTES
        and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for there, known in buffers:
            if there.keys() != known.keys() or any(
                there[name] is not known[name] for name in known
            ):
                there.clear()
                there.update(known)
        for there, known in before:
            for name in _tensors(there) | _tensors(known):
                if name not in known:
                    del there[name]
                elif there.get(name) is not known[name]:
                    # Also what was None: a table made inside may have another precision than one
                    # that training makes.
                    there[name] = known[name]
        for buffer, version, copy in copies:
            if buffer._version != version:
                buffer.copy_(copy)


def _tensors(attributes: dict[str, Any]) -> set[str]:
    return {name for name, value in attributes.items() if isinstance(value, torch.Tensor)}


def _reshard(module: nn.Module) -> None:
    """Let go of weights that FSDP gathered and keeps; it would use them after the optimizer's step.

    It expects a backward pass to let go of the last ones.
    """
    kind, older = kinds_of_fsdp("FSDPModule"), kinds_of_fsdp("FullyShardedDataParallel")
    for part in module.modules():
        if isinstance(part, kind):
            part.reshard()  # type: ignore[operator]
        elif isinstance(part, older):
            handle = getattr(part, "_handle", None)  # which FSDP1 has no public way to ask
            if handle is not None and not handle.needs_unshard():
                handle.reshard(free_unsharded_flat_param=True)
                handle.post_reshard()


def _end_forward(module: nn.Module) -> None:
    """Inform FSDP2 that a forward pass is over which an error has ended.

    Else it would go on in the next one, with weights gathered before the optimizer's step.
    `FSDPModule.reset_iter_state`, where torch has it, also drops gradients that wait.
    """
    kind = kinds_of_fsdp("FSDPModule")
    for part in module.modules():
        if not isinstance(part, kind):
            continue
        with contextlib.suppress(AttributeError):  # other versions of torch keep it elsewhere
            state: Any = part._get_fsdp_state()  # type: ignore[operator]
            state._state_ctx.iter_forward_root = None
            state._modules_to_run_forward.clear()
            idle = state._training_state = type(state._training_state).IDLE
            groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
            for group in groups:
                if group is not None:
                    group.wait_for_unshard()
                    group._training_state = idle
