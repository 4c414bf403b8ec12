"""Model classes: those of transformers, and with trust_remote_code those of a repository."""

from __future__ import annotations

from typing import Any

import transformers

from engine.errors import CheckpointError
from engine.models.weights import CheckpointWeights


def model_class(checkpoint: CheckpointWeights, *, masked: bool) -> Any:
    """Return the class of a checkpoint's model, causal or `masked`.

    A class of the repository is taken only where `trust_remote_code` is set and config.json names
    one; importing it runs the repository's code. Raise CheckpointError when there is none, or when
    the model is of the other kind.
    """
    config = checkpoint.config
    named = getattr(config, "auto_map", None) or {}
    auto = "AutoModelForMaskedLM" if masked else "AutoModelForCausalLM"
    if checkpoint.trust_remote_code and auto in named:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        try:
            return get_class_from_dynamic_module(
                named[auto], checkpoint.folder, local_files_only=True
            )
        except Exception as error:  # it is anybody's code
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{checkpoint.where}: its code fails: {reason}") from None
    kind = type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(
            f"{checkpoint.where}: {kind} is an encoder with a decoder, neither a causal nor a "
            "masked language model"
        )
    # Classes of both kinds may take the same configuration; it says whether it sees both sides.
    one_sided = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    is_masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING and not one_sided
    if masked and is_masked:
        return transformers.MODEL_FOR_MASKED_LM_MAPPING[type(config)]
    is_causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and not is_masked
    if is_causal and not masked:
        return transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if is_masked:
        raise CheckpointError(
            f"{checkpoint.where}: {kind} is a masked language model; set scoring.prediction to "
            '"visible" or "pseudo"'
        )
    if is_causal:
        raise CheckpointError(
            f"{checkpoint.where}: {kind} is a causal language model; set scoring.prediction to "
            '"causal"'
        )
    wanted = "masked" if masked else "causal"
    raise CheckpointError(f"{checkpoint.where}: {kind} is not a {wanted} language model")
