"""Checkpoints as models on a device, each with a module of its own."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from engine.errors import CheckpointError
from engine.machine.device_errors import is_out_of_memory
from engine.machine.devices import DeviceGroup
from engine.models.loaded_model import LoadedModel
from engine.models.remote_code import model_class
from engine.models.residency import ON_DEVICE, Place, nothing_like, saved_tensors
from engine.models.spreading import ChangedError, RefuseChanges, is_spread, release, spread
from engine.models.weights import CheckpointWeights

_FEW_NAMES = 4  # that differ: each of these weights is compared with all others of its shape


@dataclass
class _Template:
    """A module that was never called, without weights: it is copied for each checkpoint."""

    module: Any
    fingerprint: str  # of the weights that it had
    names: Mapping[str, str]  # those of checkpoints, by the module's own
    proven: bool = False  # whether a copy was seen to compute what a module of transformers does


class Modules:
    """Makes models of checkpoints.

    transformers takes seconds to build a module, copying one takes milliseconds. So the first
    module of an architecture is copied before it is called, without weights; later checkpoints get
    copies of that. Each gets a module of its own, since a module may carry over what it did with
    another's weights: RWKV divides its weights at the first call, once.

    Copies are used only after a test: calling the first module must leave its weights alone, and a
    copy must give the second checkpoint the logits that a module of transformers gives. Otherwise
    transformers builds every module.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        devices: DeviceGroup,
        *,
        masked: bool = False,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`note` is called with what the user should know, in one line."""
        self._dtype, self._devices, self._masked, self._note = dtype, devices, masked, note
        self._templates: dict[object, _Template | None] = {}  # None: build every module
        self._changing: set[object] = set()  # architectures whose modules change their weights
        self._steady: set[object] = set()  # those that were seen not to, with weights that wait

    def load(
        self,
        checkpoint: CheckpointWeights,
        probe: Callable[[Any], torch.Tensor],
        place: Place = ON_DEVICE,
    ) -> LoadedModel:
        """Make a model with the checkpoint's weights, which are where `place` says.

        `probe` calls a module and returns logits; it tests whether modules can be copied. Raises
        CheckpointError when the weights do not fit the architecture, or cannot wait in the host's
        memory.
        """
        key, weights = checkpoint.outline(), checkpoint.weights
        if place.stage is not None:
            place.stage.clear()
        home = self._home(place)
        template = self._templates.get(key)
        made = contextlib.ExitStack()  # what is undone if this fails
        with made:
            if template is not None and template.proven and _ties_hold(template, weights):
                module = self._copy(template, weights, home, template.names)
                made.callback(release, module)
            else:
                module = _build(checkpoint, self._dtype, home, masked=self._masked)
                made.callback(release, module)
                undecided = template is not None or key not in self._templates
                names = _names(module, weights) if undecided else None  # which reads every weight
                if names is not None:
                    with _names_changes(checkpoint.where, module):
                        self._test(key, module, names, checkpoint.fingerprint, probe, place)
            self._settle(module, place)
            if place.offload and key not in self._steady:
                with _names_changes(checkpoint.where, module):
                    _ask(probe, module, place)
                self._steady.add(key)
            made.pop_all()
        return LoadedModel(
            checkpoint,
            module,
            self._dtype,
            architecture=key,
            stage=place.stage,
            changes_itself=key in self._changing,
            masked=self._masked,
        )

    def _home(self, place: Place) -> torch.device:
        """Return where a module is built: on its device, or where it is spread from."""
        spreads = place.offload or self._devices.splits
        return torch.device("cpu") if spreads else self._devices.output

    def _settle(self, module: Any, place: Place) -> None:
        """Spread a module over devices and the host's memory, unless one device holds it."""
        if (place.offload or self._devices.splits) and not is_spread(module):
            spread(module, self._devices, place.rooms, offload=place.offload)

    def _copy(
        self,
        template: _Template,
        weights: Mapping[str, torch.Tensor],
        home: torch.device,
        names: Mapping[str, str],
    ) -> Any:
        """Return a copy of the template with these weights, on the device `home`.

        `names` are those of the weights, by the module's own, where they differ.
        """
        module = copy.deepcopy(template.module)
        # Not what each module makes for itself and never saves, such as frequencies of positions:
        # it has its own precision, and old checkpoints have it rounded.
        for name, tensor in saved_tensors(module).items():
            tensor.data = _placed(weights[names.get(name, name)].detach(), home, tensor.dtype)
        _give_float32_logits(module, self._dtype)
        return module

    def _test(
        self,
        key: object,
        module: Any,
        names: Mapping[str, str],
        fingerprint: str,
        probe: Callable[[Any], torch.Tensor],
        place: Place,
    ) -> None:
        """Find out whether modules of this architecture can be copied, with one just built."""
        if key not in self._templates:
            template, before = _template(module, fingerprint, names), _sums(module)
            self._settle(module, place)
            _ask(probe, module, place)
            if not place.offload and _sums(module) != before:
                self._changing.add(key)
                template = None
                self._refuse(module, "changes its weights when it is called")
            self._templates[key] = template
        elif (template := self._templates[key]) and fingerprint != template.fingerprint:
            twin = self._copy(template, saved_tensors(module), self._home(place), {})
            try:  # first, as there may not be room for both
                self._settle(twin, place)
                copied = _ask(probe, twin, place)
            finally:
                release(twin)
            self._settle(module, place)
            same = _same_logits(_ask(probe, module, place), copied)
            template.proven = same and names == template.names
            if not template.proven:
                self._templates[key] = None
                self._refuse(module, "computes something else when it is copied")

    def _refuse(self, module: Any, why: str) -> None:
        kind = type(module).__name__
        self._note(f"{kind} {why}: transformers builds it again for every checkpoint")


def _ask(probe: Callable[[Any], torch.Tensor], module: Any, place: Place) -> torch.Tensor:
    """Return a module's logits. Raise ChangedError where it changes weights that wait."""
    if not place.offload:
        return probe(module)
    with RefuseChanges():  # type: ignore[no-untyped-call]
        return probe(module)


@contextlib.contextmanager
def _names_changes(where: str, module: Any) -> Iterator[None]:
    """Turn a ChangedError into the CheckpointError that names the checkpoint."""
    try:
        yield
    except ChangedError:
        raise CheckpointError(
            f"{where}: {type(module).__name__} changes its weights when it is called, so they "
            "cannot wait in the host's memory (scoring.offload); choose a larger device, or "
            "several, with scoring.device"
        ) from None


def _template(module: Any, fingerprint: str, names: Mapping[str, str]) -> _Template | None:
    """Copy a module without its weights; None when it cannot be copied."""
    empty: dict[int, Any] = {
        id(tensor): torch.nn.Parameter(nothing_like(tensor), requires_grad=False)
        if isinstance(tensor, torch.nn.Parameter)
        else nothing_like(tensor)
        for tensor in saved_tensors(module).values()
    }
    try:
        copied = copy.deepcopy(module, empty)
    except Exception:  # any architecture's code, perhaps a repository's
        return None
    if (layer := copied.get_output_embeddings()) is not None:
        vars(layer).pop("forward", None)  # which holds on to the layer that it was made for
    return _Template(copied, fingerprint, names)


def _sums(module: Any) -> dict[str, str]:
    """Return the sum of each weight: another one where a call has changed it."""
    sums = {name: tensor.sum(dtype=torch.float64) for name, tensor in saved_tensors(module).items()}
    return {name: float(total).hex() for name, total in sums.items()}  # as text NaN equals NaN


def _same_logits(built: torch.Tensor, copied: torch.Tensor) -> bool:
    """Return whether logits are equal but for rounding, which on a GPU may vary by the call."""
    rounding = 32 * torch.finfo(built.dtype).eps * float(built.abs().max())
    both_odd = built.isnan() & copied.isnan()
    return bool((((built - copied).abs() <= rounding) | both_odd).all())


def _placed(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(device, dtype, non_blocking=True)


def _ties(module: Any) -> dict[str, str]:
    """Return further names of parameters that have several, and the one `_tensors` uses."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if name != first[id(p)]}


def _ties_hold(template: _Template, weights: Mapping[str, torch.Tensor]) -> bool:
    """Return whether weights that are one in the module are equal in a checkpoint with two."""
    return all(
        name not in weights or torch.equal(weights[name], weights[template.names.get(first, first)])
        for name, first in _ties(template.module).items()
    )


def _names(module: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, str] | None:
    """Return which weight each parameter has, where the names differ: `embed_out` is `lm_head` now.

    None unless loading gave every parameter one weight, unchanged, and it is clear which.
    """
    tied, own = _ties(module), module.state_dict()
    if len(own.keys() - weights.keys() - tied.keys()) > _FEW_NAMES:
        return None
    names: dict[str, str] = {}
    for name, tensor in own.items():
        if name in tied:
            continue
        found = [
            other
            for other in ([name] if name in weights else weights.keys() - own.keys())
            if weights[other].shape == tensor.shape
            and torch.equal(_placed(weights[other], tensor.device, tensor.dtype), tensor)
        ]
        if len(found) != 1 or found[0] in names.values():
            return None
        if found[0] != name:
            names[name] = found[0]
    return names


def _build(
    checkpoint: CheckpointWeights, dtype: torch.dtype, device: torch.device, *, masked: bool
) -> Any:
    """Build a module with the checkpoint's weights, ready to be called."""
    architecture = model_class(checkpoint, masked=masked)
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it would print is in `report`
    try:
        module, report = architecture.from_pretrained(
            None,
            config=checkpoint.config,
            state_dict=dict(checkpoint.weights),
            dtype=dtype,
            output_loading_info=True,
        )
    except (RuntimeError, ValueError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{checkpoint.where}: weights do not fit config.json: {reason}"
        ) from None
    finally:
        logger.setLevel(level)
    for problem in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, report[problem])):
            what = problem.removesuffix("_keys")
            raise CheckpointError(
                f"{checkpoint.where}: weights {what}: {names[0]}"
                + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            )
    if names := sorted(_unused(checkpoint, module, report["unexpected_keys"])):
        raise CheckpointError(
            f"{checkpoint.where}: config.json has no place for the weights {', '.join(names[:3])}"
            + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            + "; another model would be scored without them. Correct config.json"
        )
    module.eval().to(device)
    module.requires_grad_(requires_grad=False)
    _give_float32_logits(module, dtype)
    return module


def _unused(checkpoint: CheckpointWeights, module: Any, names: Iterable[str]) -> set[str]:
    """Return those of the weights without a place in `module` that its predictions need.

    Not needed is what a module computes itself, such as frequencies of positions. Nor are further
    heads of a model that was trained with several, such as BERT's for the next sentence.
    transformers has already left out what the architecture declares as such.
    """
    unused = set(map(str, names)) - {name for name, _ in module.named_buffers()}
    if not unused:
        return unused
    config = checkpoint.config
    architectures: set[Any] = {
        getattr(transformers, str(name), None) for name in config.architectures or ()
    }
    architectures.add(transformers.MODEL_FOR_PRETRAINING_MAPPING.get(type(config), None))
    for architecture in architectures:
        is_model = isinstance(architecture, type) and issubclass(
            architecture, transformers.PreTrainedModel
        )
        if is_model and not isinstance(module, architecture):
            with torch.device("meta"):
                unused -= architecture(config).state_dict().keys()
    return unused


def _give_float32_logits(module: Any, dtype: torch.dtype) -> None:
    """Have the output layer of this module compute in float32, so that logits are not rounded."""
    layer: Any = module.get_output_embeddings()
    if dtype != torch.float32 and isinstance(layer, torch.nn.Linear):
        vars(layer)["forward"] = _float32_product(layer)


def _float32_product(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return an output layer's function in float32, so that logits are not rounded."""

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        bias = None if layer.bias is None else layer.bias.float()
        return torch.nn.functional.linear(hidden.float(), layer.weight.float(), bias)

    return forward
