"""The `[scoring]` and `[log_probs]` sections of the study file: how log-probs are made and kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.study_file.section import Section
from store.schema import CHOICES, KL, USUAL, Representation

if TYPE_CHECKING:
    Divergence = str
else:  # pydantic says which there are when it is another
    Divergence = Literal[CHOICES]
Prediction = Literal["causal", "visible", "pseudo"]
# A representation, or "auto": factored where a model's logits allow it, else dense.
Keep = Literal["auto", Representation]

_WORKER = r"(cpu|cuda(:\d+)?|cuda:\d+(\+cuda:\d+)+)"  # what one worker works on


class ScoringSection(Section):
    """Settings of the computation of log-probs."""

    prediction: Prediction = "causal"
    """what is predicted: the next token; or, for masked models, each token with the whole text
    visible, or with the token itself masked
    """
    windowing: Literal["stream", "document"] = "stream"
    """windows over the whole text, or each document on its own"""
    window: int = Field(default=2048, ge=2)
    """tokens the model sees at once, at most"""
    overlap: int = Field(default=1024, ge=0)
    """tokens of a window that the window before has scored: they are context only"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """precision of the forward pass; half precision is faster on a GPU and less exact"""
    divergences: list[Divergence] = list(USUAL)
    """how seeds are compared ([method](method.md)). `"kl"` is always among them. The choice is
    made when the store is created
    """
    device: str = "auto"
    """`"auto"`, `"cpu"`, `"cuda:1"`, or several, `"cuda:0,cuda:1"`; `"cuda:0+cuda:1"` splits
    each model over two GPUs
    """
    offload: Literal["cpu"] | None = None
    """where weights wait that a GPU has no room for; they come to it layer by layer"""
    batch_tokens: int = Field(default=8192, ge=1)
    """tokens of a forward pass"""
    memory_gb: Annotated[float, Field(gt=0, strict=False)] | None = None
    """GPU memory for models that are loaded together, GB; the rest take turns"""

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
    """The representation of kept log-probs, and how long they are kept."""

    representation: Keep = "auto"
    """how log-probs are kept: `"factored"`, hidden states and output embedding, exact and mostly
    far smaller; `"dense"`, float16 over the whole vocabulary; `"none"`, not at all; `"auto"`,
    factored where the model allows it, else dense
    """
    retention: Literal["all", "until_reduced"] = "all"
    """keep log-probs, or delete them once all seeds of a step are compared"""
    budget_gb: Annotated[float, Field(gt=0, strict=False)] | None = None
    """refuse to start if log-probs would take more than this, GB"""
