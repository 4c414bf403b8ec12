"""The `[scoring]` and `[log_probs]` sections of the study file: how log-probs are made and kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.study_file.section import Section
from store.schema import Representation

Prediction = Literal["causal", "visible", "pseudo"]


class ScoringSection(Section):
    """How log-probs are computed."""

    prediction: Prediction = "causal"
    windowing: Literal["stream", "document"] = "stream"
    window: int = Field(default=2048, ge=2)
    overlap: int = Field(default=1024, ge=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"  # or a list: "cuda:0,cuda:1"
    batch_tokens: int = Field(default=8192, ge=1)
    memory_gb: Annotated[float, Field(gt=0, strict=False)] | None = None

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|(cpu|cuda(:\d+)?)(,(cpu|cuda(:\d+)?))*", value):
            raise ValueError('should be "auto", "cpu", "cuda" or a list such as "cuda:0,cuda:1"')
        return value

    @model_validator(mode="after")
    def _overlap(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"overlap must be smaller than window ({self.window})")
        return self


class LogProbsSection(Section):
    """How log-probs are kept, and for how long."""

    representation: Representation = "dense"
    retention: Literal["all", "until_reduced"] = "all"
    budget_gb: Annotated[float, Field(gt=0, strict=False)] | None = None
