"""The work order: what training runs are asked to capture, where a study has captured models."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from engine.errors import ConfigError
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from seedconv_tui.training.work_order import (
    ORDER_FILE,
    ModelOrder,
    Sequences,
    WorkOrder,
    read_order,
    write_order,
)


def make_order(
    study: StudyFile,
    tokenizer: Tokenizer,
    text: EvaluationText,
    probes: Mapping[str, Sequences],
) -> WorkOrder:
    """Return what is to be captured of each checkpoint. Raise ConfigError: no model is captured."""
    models = {
        model.name: ModelOrder(
            tuple(model.seeds) if isinstance(model.seeds, list) else None,
            tuple(model.steps) if isinstance(model.steps, list) else None,
        )
        for model in study.models
        if model.name in study.captured
    }
    if not models:
        raise ConfigError(
            'models: none is captured in training; give one source = "captured" (docs/capture.md)'
        )
    scoring = study.scoring
    return WorkOrder(
        study=study.study.name,
        models=models,
        keep="dense" if study.log_probs.representation == "dense" else "factored",
        vocab=tokenizer.size,
        vocabulary=tokenizer.digest,
        window=scoring.window,
        overlap=scoring.overlap,
        pad=text.pad,
        dtype=scoring.dtype,
        text=Sequences.of([(one.inputs, one.predicts) for one in text.sequences]),
        probes=dict(probes),
    )


def publish_order(study: StudyFile, order: WorkOrder) -> tuple[Path, bool]:
    """Write an order where training runs look for it; return where, and whether it is new.

    An equal one stays unchanged. Raise ConfigError when it cannot be written.
    """
    path = study.announcements / ORDER_FILE
    with contextlib.suppress(ValueError):
        if _same(read_order(path), order):
            return path, False
    try:
        write_order(path, order)
    except OSError as error:
        text = f"{path.parent}: the work order cannot be written: {error.strerror or error}"
        raise ConfigError(f"{text}. Set watch.announcements to a folder that can be") from None
    return path, True


def _same(one: WorkOrder, other: WorkOrder) -> bool:
    plain = ("study", "models", "keep", "vocab", "pad", "dtype", "digest")
    digests = [{name: it.digest for name, it in order.probes.items()} for order in (one, other)]
    return digests[0] == digests[1] and all(
        getattr(one, name) == getattr(other, name) for name in plain
    )
