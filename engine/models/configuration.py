"""A checkpoint's config.json, without what is not a checkpoint's to choose.

How a model is computed is for the engine to say: which implementation of attention, in which
precision, on which device. transformers takes these from config.json too, and fetches and runs
native code that it names there. So it is left out before transformers reads it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from engine.errors import CheckpointError, first_line, may_pass
from engine.machine.faults import is_fault
from engine.sources.checkpoint_files import read_json

# At any depth: parts of a model have configurations of their own.
_NOT_ITS_TO_CHOOSE = frozenset({
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal",
    "device_map", "distributed_config", "dtype", "kernel_config", "torch_dtype", "tp_plan",
    "tp_size", "use_kernels", "_commit_hash", "_name_or_path", "name_or_path",
    "output_attentions", "output_hidden_states", "return_dict", "torchscript", "use_return_dict",
})  # fmt: skip
_LEAST = dict.fromkeys(
    ("hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head", "n_heads", "num_heads",
     "vocab_size"), 1,
) | dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers",
     "max_position_embeddings", "n_positions"), 0)  # fmt: skip
# What a module is built of once for each, so that a wrong number takes minutes and gigabytes.
_COUNT = re.compile(
    r"^(num|n)_(\w+_)?(layer|block|expert|label|group|stage)s?($|_)|^(?!max_)(\w+_)?layers$|^depth$"
)
_PLENTY = 4096  # of these, in a model of any size


def read_config(file: Path, *, trust_remote_code: bool = False) -> Any:
    """Read a config.json as transformers does; return a PretrainedConfig.

    With `trust_remote_code` its class may be code of its folder, which then runs. Raise
    CheckpointError when it is quantised, says what cannot be, or transformers refuses it.
    """
    from transformers import AutoConfig

    fields = read_json(file)
    _refuse_quantised(file, fields)
    _refuse_versions(file, fields)
    for name, value in _numbers(fields):
        _check_number(file, name, value)
    if "model_type" in fields and not isinstance(fields["model_type"], str):
        raise CheckpointError(f"{file}: model_type should be text")
    auto_map = fields.get("auto_map")
    runs_code = trust_remote_code and isinstance(auto_map, dict) and "AutoConfig" in auto_map
    if runs_code and file.name != "config.json":
        raise CheckpointError(f"{file}: names code in its folder. Call it config.json")
    try:
        if runs_code:
            config = AutoConfig.from_pretrained(
                file.parent, trust_remote_code=True, local_files_only=True
            )
            config._attn_implementation = config._experts_implementation = None
            return config
        ours = _without_choices(fields)
        if isinstance(auto_map, dict):
            ours["auto_map"] = auto_map  # only refused
        with tempfile.TemporaryDirectory(prefix="seedconv-") as place:
            (Path(place) / "config.json").write_text(json.dumps(ours))
            return AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    except BaseException as error:
        if not is_fault(error):
            raise
        raise CheckpointError(f"{file}: {_refusal(error)}", passing=may_pass(error)) from error


def _refuse_quantised(file: Path, fields: Mapping[str, Any]) -> None:
    for name in ("quantization_config", "compression_config"):
        found = [part[name] for part in _parts(fields) if part.get(name)]
        if not found:
            continue
        method = found[0].get("quant_method") if isinstance(found[0], dict) else None
        if method is None and isinstance(found[0], dict):
            bits = {"load_in_4bit", "load_in_8bit"} & found[0].keys()
            method = "bitsandbytes" if bits else None
        by = f" by {method[:40]}" if isinstance(method, str) else ""
        raise CheckpointError(
            f"{file}: the weights are quantised{by} ({name}), which is not read; load the model, "
            "dequantize() it, then save_pretrained"
        )


def _refuse_versions(file: Path, fields: Mapping[str, Any]) -> None:
    """Raise CheckpointError where transformers of this version reads another file instead."""
    from transformers.configuration_utils import get_configuration_file

    names = fields.get("configuration_files")
    if names is None:
        return
    try:
        chosen = get_configuration_file(names)
    except Exception as error:  # of what is no list of names, or no version
        text = f"{file}: configuration_files cannot be what it says: {first_line(error)}"
        raise CheckpointError(text) from error
    if chosen != "config.json":
        raise CheckpointError(
            f"{file}: names {chosen[:80]} for this version of transformers (configuration_files), "
            f"which is not read. Copy {chosen[:80]} over config.json"
        )


def _check_number(file: Path, name: str, value: int) -> None:
    if value < _LEAST.get(name, value):
        raise CheckpointError(f"{file}: {name} is {value}; it should be at least {_LEAST[name]}")
    if value > _PLENTY and _COUNT.search(name):
        raise CheckpointError(
            f"{file}: {name} is {value:,}; no model that is read here has more than {_PLENTY:,}"
        )


def _numbers(fields: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for part in _parts(fields):
        for name, value in part.items():
            if isinstance(value, list) and "layer" in name:
                yield "num_" + name, len(value)
            if isinstance(value, int) and not isinstance(value, bool):
                yield name, value


def _parts(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration and those of its parts."""
    yield fields
    for name, value in fields.items():
        if isinstance(value, dict) and name not in ("id2label", "label2id"):
            yield from _parts(value)


def _without_choices(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without what is not a checkpoint's to choose, nor code to run."""
    return {
        name: _without_choices(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in _NOT_ITS_TO_CHOOSE and name != "auto_map"
    }


def _refusal(error: BaseException) -> str:
    if "trust_remote_code" in str(error):
        return (
            "its model is code of the repository, which is not run; set "
            "models.trust_remote_code = true if you trust it"
        )
    if isinstance(error, StrictDataclassError):
        return " ".join(
            str(error).split()
        )  # the first line has the field, the next what it should be
    return first_line(error)
