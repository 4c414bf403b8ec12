"""The `[scoring]` and `[log_probs]` sections of the study file: how log-probs are made and kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.study_file.section import Section
from store.schema import CHOICES, KL, USUAL

if TYPE_CHECKING:
    Divergence = str
else:  # pydantic says which there are when it is another
    Divergence = Literal[CHOICES]
Prediction = Literal["causal", "visible", "pseudo"]
# A representation, or "auto": factored where a model's logits allow it, else dense.
Keep = Literal["auto", "factored", "dense", "none"]

_WORKER = r"(cpu|cuda(:\d+)?|cuda:\d+(\+cuda:\d+)+)"  # what one worker works on


class ScoringSection(Section):
    """How log-probs are computed."""

    prediction: Prediction = "causal"
    windowing: Literal["stream", "document"] = "stream"
    window: int = Field(default=2048, ge=2)
    overlap: int = Field(default=1024, ge=0)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    divergences: list[Divergence] = list(USUAL)  # of pairs of seeds, for good
    device: str = "auto"  # or several, "cuda:0,cuda:1"; "cuda:0+cuda:1" splits models over two
    offload: Literal["cpu"] | None = None  # where weights wait of a model that does not fit
    batch_tokens: int = Field(default=8192, ge=1)
    memory_gb: Annotated[float, Field(gt=0, strict=False)] | None = None

    @field_validator("device", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return ",".join(value)
        return value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if re.fullmatch(rf"auto|{_WORKER}(,{_WORKER})*", value):
            return value
        if re.search(r"cpu\+|\+cpu", value):
            raise ValueError(
                'should not have "cpu" next to "+": layers are split over GPUs. Where they are too '
                'few, set offload = "cpu"'
            )
        if re.search(r"cuda\+|\+cuda(?!:)", value):
            raise ValueError('should number the GPUs next to "+", as in "cuda:0+cuda:1"')
        raise ValueError(
            'should be "auto", "cpu", "cuda" or a list such as "cuda:0,cuda:1"; "cuda:0+cuda:1" '
            "splits each model over two"
        )

    @field_validator("divergences")
    @classmethod
    def _divergences(cls, values: list[str]) -> list[str]:
        if len({*values}) != len(values):
            raise ValueError("should name each divergence once")
        if KL.name not in values:
            raise ValueError(f'should have "{KL.name}", from which curves and categories come')
        return values

    @model_validator(mode="after")
    def _overlap(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"overlap must be smaller than window ({self.window})")
        return self


class LogProbsSection(Section):
    """How log-probs are kept, and for how long."""

    representation: Keep = "auto"
    retention: Literal["all", "until_reduced"] = "all"
    budget_gb: Annotated[float, Field(gt=0, strict=False)] | None = None
