"""Names of the files that hold a checkpoint's weights.

Engine and training scripts agree on this: what is held of a checkpoint is what scoring reads. A
checkpoint is a folder, or a single file such as the `ckpt-500.pt` of a loop of one's own.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

METADATA = ".metadata"  # of a distributed checkpoint of PyTorch (DCP); written last
PARTS = "__*_*.distcp"  # and what it is the table of contents of
SHARDED = "pytorch_model_fsdp_"  # begins the folder in which accelerate keeps one
SAVED = (".pt", ".pth", ".ckpt")  # what torch.save writes, by the names that people give it
ONE_FILE = (*SAVED, ".safetensors", ".bin", ".gguf")  # a checkpoint may be one such file

# Written next to the weights, by torch.save too, and none themselves.
_OTHERS = (
    "*optim*", "*scheduler*", "*scaler*", "*rng_state*", "*random_state*", "training_args.*",
    "*dataloader*", "meta.pt",
)  # fmt: skip
BESIDE = ("config.json", "tokenizer.json")  # of one file, read from the folder that it is in
_READ = (".safetensors", ".json", ".py", ".model", ".txt")


def is_saved(name: str) -> bool:
    """Return whether a file may be what torch.save wrote of a model's weights."""
    lower = name.lower()
    if lower == "pytorch_model_fsdp.bin":  # the whole model, by accelerate
        return True
    return lower.endswith(SAVED) and not any(fnmatchcase(lower, other) for other in _OTHERS)


def is_part(name: str) -> bool:
    """Return whether a file is one of a distributed checkpoint of PyTorch."""
    return name == METADATA or fnmatchcase(name, PARTS)


def is_sharded_folder(name: str) -> bool:
    """Return whether a folder in a checkpoint holds its weights as a distributed checkpoint."""
    return name.startswith(SHARDED)


def is_of_transformers(name: str) -> bool:
    """Return whether a file holds weights, or their index, as transformers saves them."""
    safetensors = name.endswith((".safetensors", ".safetensors.index.json"))
    pickled = name.startswith("pytorch_model") and name.endswith((".bin", ".bin.index.json"))
    fully_sharded = name.startswith(SHARDED.rstrip("_"))  # of accelerate, and so not its own
    return (safetensors and not name.startswith("adapter_")) or (pickled and not fully_sharded)


def is_read(name: str, *, own: bool) -> bool:
    """Return whether scoring reads a file of a checkpoint, or may.

    `own`, there are weights of transformers, and so no others are read.
    """
    small = name.endswith(_READ) or is_of_transformers(name)
    return small or (not own and (is_saved(name) or is_part(name)))
