"""Choose how one checkpoint's log-probs are kept, which may depend on its model."""

from __future__ import annotations

from engine.errors import CheckpointError
from engine.models.language_model import LanguageModel
from engine.study_file.scoring_section import Keep
from store import REPRESENTATIONS
from store.schema import OutputLayer, Representation


def kept_as(
    where: str, model: LanguageModel, keep: Keep
) -> tuple[Representation, OutputLayer | None, str | None]:
    """Return the representation, the output layer if it is kept too, and what users should know.

    `model` has run on the first tokens of the text, which showed how it makes its logits. Raise
    CheckpointError when the study asks for factors and the model has none.
    """
    wanted: Representation = "factored" if keep == "auto" else keep
    kept = REPRESENTATIONS[wanted]
    if kept is None or not kept.has_factors:
        return wanted, None, None
    layer = model.head.output_layer() if model.head is not None else None
    if layer is not None:
        return wanted, layer, None
    if keep == "auto":
        note = (
            f"logits of {model.name} are not hidden states times an output embedding, so "
            "log-probs are kept dense, not factored"
        )
        return "dense", None, note
    raise CheckpointError(
        f"{where}: its logits are not hidden states times an output embedding, so "
        'log-probs cannot be kept factored; set log_probs.representation = "dense"'
    )
