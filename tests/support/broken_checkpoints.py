"""Checkpoint folders unchanged found in the world: sound ones in disguise, and broken ones."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Kind:
    """What is done to a sound checkpoint, and what is then said of it; None: it is scored."""

    change: Callable[[Path], None]
    says: str | None


def set_config(**fields: Any) -> Callable[[Path], None]:
    """Set fields of config.json."""

    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


def set_text(name: str, text: str) -> Callable[[Path], None]:
    """Replace a file."""
    return lambda folder: (folder / name).write_text(text) and None


def set_weights(change: Callable[[Weights], Weights]) -> Callable[[Path], None]:
    """Change the weights."""

    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        changed = {name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}
        save_file(changed, file, metadata={"format": "pt"})

    return apply


def set_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the header of the weights' file, whose data stay."""

    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = change(json.loads(data[8 : 8 + length]))
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return apply


def renamed(rename: Callable[[str], str]) -> Callable[[Path], None]:
    """Rename the weights."""
    return set_weights(lambda weights: {rename(name): t for name, t in weights.items()})


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    """Do several changes."""

    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


def _first(header: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in sorted(header.items()) if name != "__metadata__")


def _offsets(offsets: list[Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(header: dict[str, Any]) -> dict[str, Any]:
        _first(header)["data_offsets"] = offsets
        return header

    return change


def _adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def _scaled(factor: float) -> Callable[[Path], None]:
    return set_weights(
        lambda weights: {
            name: tensor * factor if "embed_out" in name else tensor
            for name, tensor in weights.items()
        }
    )


def _typed(dtype: torch.dtype) -> Callable[[Path], None]:
    return set_weights(
        lambda weights: {
            name: (tensor * 8).to(dtype) if tensor.ndim > 1 else tensor
            for name, tensor in weights.items()
        }
    )


_EMBEDDING = "gpt_neox.embed_in.weight"
_DEEP = "[" * 20_000 + "]" * 20_000


def _quantised(**fields: Any) -> Callable[[Path], None]:
    return set_config(quantization_config=fields)


# Of a GPT-NeoX of `make_model`.
KINDS: dict[str, Kind] = {
    "plain": Kind(lambda folder: None, None),
    # Quantised.
    "bitsandbytes": Kind(
        _quantised(quant_method="bitsandbytes", load_in_8bit=True), "bitsandbytes"
    ),
    "bnb-without-method": Kind(_quantised(load_in_4bit=True), "bitsandbytes"),
    "gptq": Kind(_quantised(quant_method="gptq", bits=4), "gptq"),
    "compressed": Kind(_quantised(quant_method="compressed-tensors"), "compressed-tensors"),
    "fp8": Kind(_quantised(quant_method="fp8"), "fp8"),
    "odd-quantisation": Kind(set_config(quantization_config=["x"]), "quantised"),
    "float8": Kind(_typed(torch.float8_e4m3fn), "float8_e4m3fn"),
    "int8": Kind(_typed(torch.int8), "int8"),
    # What the configuration asks for that is not its to choose.
    "flash": Kind(set_config(_attn_implementation="flash_attention_2"), None),
    "kernel": Kind(set_config(attn_implementation="somebody/kernel"), None),
    "nonsense-attention": Kind(set_config(attn_implementation={"": ["x"]}), None),
    "experts": Kind(set_config(experts_implementation="somebody/kernel"), None),
    "odd-dtype": Kind(set_config(torch_dtype="load", dtype="nothing"), None),
    "device-map": Kind(set_config(device_map="auto", tp_plan="auto", use_kernels=True), None),
    "odd-outputs": Kind(
        set_config(return_dict=False, output_attentions=True, torchscript=True), None
    ),
    # What the configuration says and cannot be.
    "versions-later": Kind(set_config(configuration_files=["config.99.0.0.json"]), None),
    "versions": Kind(
        set_config(configuration_files=["config.4.0.0.json"]), "Copy config.4.0.0.json over"
    ),
    "odd-versions": Kind(set_config(configuration_files=["config.x.json"]), "configuration_files"),
    "no-versions": Kind(set_config(configuration_files=5), "configuration_files"),
    "zero-heads": Kind(set_config(num_attention_heads=0), "num_attention_heads"),
    "zero-hidden": Kind(set_config(hidden_size=0), "hidden_size"),
    "negative-layers": Kind(set_config(num_hidden_layers=-1), "num_hidden_layers"),
    "million-layers": Kind(set_config(num_hidden_layers=10**6), "num_hidden_layers"),
    "endless-layers": Kind(set_config(num_hidden_layers=10**12), "num_hidden_layers"),
    "endless-labels": Kind(set_config(num_labels=10**12), "num_labels"),
    "huge-hidden": Kind(set_config(hidden_size=2 * 10**6), "(304, 2000000)"),
    "huge-middle": Kind(set_config(intermediate_size=10**9), "(32, 1000000000)"),
    "huge-vocabulary": Kind(set_config(vocab_size=10**12), "(1000000000000, 32)"),
    "other-vocabulary": Kind(set_config(vocab_size=310), "embed_in.weight"),
    "long-positions": Kind(set_config(max_position_embeddings=10**9), None),
    "no-positions": Kind(set_config(max_position_embeddings=-5), "max_position_embeddings"),
    "text-for-number": Kind(set_config(hidden_size="32"), "hidden_size"),
    "unknown-rope": Kind(
        set_config(rope_parameters={"rope_type": "nothing", "rope_theta": 1e4}), "nothing"
    ),
    "unknown-model": Kind(set_config(model_type="nothing"), "nothing"),
    "no-model": Kind(set_config(model_type=None), "model_type"),
    "no-text": Kind(set_config(model_type="vit"), "not a causal language model"),
    "remote-code": Kind(
        set_config(model_type="mine", auto_map={"AutoConfig": "mine.Mine"}), "trust_remote_code"
    ),
    # JSON nobody reads to its end.
    "deep-config": Kind(set_text("config.json", '{"a": ' + _DEEP + "}"), "config.json"),
    "deep-state": Kind(set_text("trainer_state.json", '{"a": ' + _DEEP + "}"), "trainer_state"),
    "deep-index": Kind(
        both(
            set_text("model.safetensors.index.json", '{"weight_map": ' + _DEEP + "}"),
            lambda folder: (folder / "model.safetensors").unlink(),
        ),
        "index.json",
    ),
    "deep-header": Kind(
        set_header(lambda header: b'{"a": ' + _DEEP.encode() + b"}"), "safetensors header"
    ),
    "deep-tokenizer": Kind(set_text("tokenizer.json", '{"a": ' + _DEEP + "}"), None),
    "far-id": Kind(
        set_text(
            "tokenizer.json",
            json.dumps(
                {
                    "model": {
                        "type": "WordLevel",
                        "vocab": {"a": 0, "b": 4 * 10**9},
                        "unk_token": "a",
                    }
                }
            ),
        ),
        "tokenizer.json has an id 4,000,000,000",
    ),
    # Weights' files.
    "text-offsets": Kind(set_header(_offsets(["0", "9"])), "data_offsets"),
    "far-offsets": Kind(set_header(_offsets([0, 10**9])), "model.safetensors"),
    "negative-offsets": Kind(set_header(_offsets([-8, 0])), "data_offsets"),
    "same-offsets": Kind(set_header(_offsets([0, 4])), "model.safetensors"),
    "cut": Kind(
        lambda folder: (
            (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-10]
            )
            and None
        ),
        "bytes long",
    ),
    "a-folder-of-weights": Kind(
        both(
            lambda folder: (folder / "model.safetensors").unlink(),
            lambda folder: (folder / "model.safetensors").mkdir(),
        ),
        "model.safetensors",
    ),
    "adapter": Kind(_adapter, "PEFT adapter"),
    "adapter-beside": Kind(
        set_text("adapter_config.json", '{"peft_type": "LORA"}'), "PEFT adapter"
    ),
    # Names.
    "compiled": Kind(renamed(lambda name: f"_orig_mod.{name}"), None),
    "compiled-inside": Kind(renamed(lambda name: name.replace("s.0.", "s.0._orig_mod.")), None),
    "distributed": Kind(renamed(lambda name: f"module.{name}"), None),
    "lightning": Kind(renamed(lambda name: f"_forward_module.module._orig_mod.{name}"), None),
    "wrapped": Kind(renamed(lambda name: f"model.{name}"), None),
    "missing": Kind(
        set_weights(lambda weights: {n: t for n, t in weights.items() if n != _EMBEDDING}),
        "embed_in.weight",
    ),
    # Values.
    "nan": Kind(
        set_weights(lambda weights: {**weights, _EMBEDDING: weights[_EMBEDDING] * torch.nan}),
        "NaN",
    ),
    "unused-infinity": Kind(
        set_weights(
            lambda weights: {
                **weights,
                "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-torch.inf),
            }
        ),
        None,
    ),
    "zeros": Kind(
        set_weights(lambda weights: {n: t * 0 for n, t in weights.items()}), "all weights are zero"
    ),
    "diverged": Kind(_scaled(1e6), "factored"),
    "far-diverged": Kind(_scaled(1e36), ""),
}


def make_kind(sound: Path, target: Path, kind: str) -> None:
    """Copy a sound checkpoint and make it one of this kind."""
    shutil.copytree(sound, target)
    KINDS[kind].change(target)
