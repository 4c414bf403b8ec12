"""The `[reference]` section of the study file: fixed distributions that seeds are compared with."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from engine.study_file.models_section import ModelSection
from engine.study_file.section import Section
from store.schema import REFERENCE_METRICS

KEY = ("reference", 0)
"""Seed and step under which the source of the reference model has its only checkpoint."""


class ReferenceSection(Section):
    """A named model of the same tokenizer, the end of training, or both."""

    model: Annotated[str, Field(min_length=1)] | None = None
    """a model of the same tokenizer: a folder, or a name on the Hub"""
    config: str | None = None
    """its `config.json`, if that is not next to the weights"""
    allow_pickle: bool = False
    """also read pickled weights; tensors only"""
    end: Annotated[int, Field(ge=0)] | None = None
    """a step of the study's own models: compare each seed with itself and the seeds' mean there"""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the metrics that it asks for."""
        asked = {True: self.end is not None, False: self.model is not None}
        return tuple(metric.name for metric in REFERENCE_METRICS if asked[metric.at_end])

    @property
    def source(self) -> ModelSection | None:
        """Return the section that its checkpoint is read by; None: no model is named."""
        if self.model is None:
            return None
        seed, step = KEY
        return ModelSection(
            name="reference",
            source={seed: self.model},
            seeds=[seed],
            steps=[step],
            config=self.config,
            allow_pickle=self.allow_pickle,
        )

    @model_validator(mode="after")
    def _model(self) -> Self:
        for name in ("config", "allow_pickle"):
            if self.model is None and name in self.model_fields_set:
                raise ValueError(f"{name}: is about reference.model, which is not given")
        if self.model is not None and ("{" in self.model or "*" in self.model):
            raise ValueError(
                f"model: should be one folder, or one name on the Hub, without {{...}} and *, "
                f"found {self.model!r}"
            )
        try:
            _ = self.source
        except ValueError as error:  # of the section that it is read by
            line = str(error).strip().splitlines()[-1]
            raise ValueError(f"model: {line}") from None
        return self
