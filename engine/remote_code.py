"""Model classes: those of transformers, and with trust_remote_code those of a repository."""

from __future__ import annotations

from typing import Any

import transformers

from engine.errors import CheckpointError
from engine.weights import Checkpoint


def causal_model_class(checkpoint: Checkpoint) -> Any:
    """The class of a checkpoint's model. Raises CheckpointError when it has none.

    A class of the repository is taken only where `trust_remote_code` is set and config.json names
    one; importing it runs the repository's code.
    """
    config = checkpoint.config
    named = getattr(config, "auto_map", None) or {}
    if checkpoint.trust_remote_code and "AutoModelForCausalLM" in named:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        name = named["AutoModelForCausalLM"]
        try:
            return get_class_from_dynamic_module(name, checkpoint.folder, local_files_only=True)
        except Exception as error:  # it is anybody's code
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{checkpoint.where}: its code fails: {reason}") from None
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = type(config).__name__
        raise CheckpointError(f"{checkpoint.where}: {kind} is not a causal language model")
    return transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
