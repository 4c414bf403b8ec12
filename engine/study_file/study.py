"""The study file: what is compared, on which text and how; checked before anything starts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from engine.errors import ConfigError
from engine.study_file.categories import PARTITIONS, CategoriesSection
from engine.study_file.limits import NO_LIMITS, LimitsSection
from engine.study_file.models import ModelSection
from engine.study_file.notify import NotifySection, ScalarsSection
from engine.study_file.probes import ProbeSection, check_probes
from engine.study_file.watch import WatchSection
from seedconv_tui.training.announcing import choose_folder
from store import Representation
from store.reading.category import CONTEXT
from store.schema.schedule import Schedule, read_schedules


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StudySection(_Section):
    """What the study is called and where its results go."""

    name: str = Field(min_length=1)
    store: str = Field(min_length=1)
    learning_rate: str | None = Field(default=None, min_length=1)  # a CSV of the schedule


class CorpusSection(_Section):
    """The evaluation text."""

    files: list[str] = Field(min_length=1)
    separator: str = ""  # "" makes each file one document
    max_tokens: int | None = Field(default=None, ge=2)
    counts: str | list[str] = "corpus"  # or a .npy file, id -> count, or text files to count in

    @field_validator("counts", mode="before")
    @classmethod
    def _counts(cls, value: object) -> object:
        files = [value] if isinstance(value, str) else value
        if not (isinstance(files, list) and files and all(isinstance(f, str) and f for f in files)):
            raise ValueError('should be "corpus", a .npy file or a list of text files')
        if isinstance(value, str) and value != "corpus" and not value.endswith(".npy"):
            raise ValueError('should be "corpus" or end in .npy; text files go in a list')
        return value


class TokenizerSection(_Section):
    """The tokenizer that all models of the study share."""

    source: str = Field(min_length=1)  # folder, or name on the hub
    revision: str | None = None
    bos: str = "auto"  # "auto", "none" or a token of the vocabulary


Prediction = Literal["causal", "visible", "pseudo"]


class ScoringSection(_Section):
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


class LogProbsSection(_Section):
    """How log-probs are kept, and for how long."""

    representation: Representation = "dense"
    retention: Literal["all", "until_reduced"] = "all"
    budget_gb: Annotated[float, Field(gt=0, strict=False)] | None = None


class StudyFile(_Section):
    """A whole study file. Paths in it are relative to the folder that holds it."""

    study: StudySection
    corpus: CorpusSection
    tokenizer: TokenizerSection
    models: list[ModelSection] = Field(min_length=1)
    scoring: ScoringSection = ScoringSection()
    log_probs: LogProbsSection = LogProbsSection()
    categories: CategoriesSection = CategoriesSection()
    limits: LimitsSection = NO_LIMITS
    notify: NotifySection = Field(default=NotifySection(), exclude=True)  # may hold secrets
    scalars: ScalarsSection = ScalarsSection()
    watch: WatchSection = WatchSection()
    probes: list[ProbeSection] = []
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("models")
    @classmethod
    def _names(cls, models: list[ModelSection]) -> list[ModelSection]:
        names = [model.name for model in models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two models are named {', '.join(twice)}; names must differ")
        return models

    @model_validator(mode="after")
    def _charted(self) -> Self:
        made = {"pos_fine", *self.categories.include, *(one.name for one in self.categories.custom)}
        for name in self.scalars.categories:
            if name.removesuffix(CONTEXT) not in made | set(PARTITIONS):
                raise ValueError(f"scalars.categories: no category is named {name!r}")
        return self

    @model_validator(mode="after")
    def _probes(self) -> Self:
        check_probes(self.probes, causal=self.scoring.prediction == "causal")
        return self

    @property
    def store(self) -> Path:
        """Where the store is or will be."""
        return self.path(self.study.store)

    @property
    def announcements(self) -> Path:
        """Where training scripts announce checkpoints; it need not exist."""
        return choose_folder(self.folder, self.study.store, self.watch.announcements)

    def path(self, relative: str) -> Path:
        """A path of the study file, from its folder."""
        return self.folder / Path(relative).expanduser()

    def learning_rates(self) -> dict[str, Schedule]:
        """The learning-rate schedules, as `read_schedules` gives them; {} if not given.

        Raises ConfigError naming the file and the line at fault.
        """
        if self.study.learning_rate is None:
            return {}
        names = [model.name for model in self.models]
        try:
            return read_schedules(self.path(self.study.learning_rate), names)
        except ValueError as error:
            raise ConfigError(f"study.learning_rate: {error}") from None


def load_study_file(file: Path) -> StudyFile:
    """Read and check a study file, and the learning-rate schedule that it names.

    Raises ConfigError with one line per finding: file, field, what was found, what is allowed.
    """
    try:
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: does not exist; `seedconv init {file}` writes one") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from None
    if "folder" in fields:
        raise ConfigError(f"{file}: folder: no such field")
    try:
        study = StudyFile.model_validate({**fields, "folder": file.parent})
        study.learning_rates()
    except ValidationError as error:
        raise ConfigError("\n".join(_findings(file, error))) from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return study


def with_device(study: StudyFile, device: str) -> StudyFile:
    """The study with another `scoring.device`. Raises ConfigError."""
    try:
        scoring = ScoringSection.model_validate({**study.scoring.model_dump(), "device": device})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--device: {message}, found {device!r}") from None
    return study.model_copy(update={"scoring": scoring})


def _findings(file: Path, error: ValidationError) -> list[str]:
    lines: dict[str, None] = {}
    branches = ("list[", "literal[", "function-")  # pydantic's names for the branches of a type
    findings = error.errors(include_url=False)
    places = [
        [str(part) for part in finding["loc"] if not str(part).startswith(branches)]
        for finding in findings
    ]
    for finding, parts in zip(findings, places, strict=True):
        if finding["type"] == "literal_error" and sum(p[: len(parts)] == parts for p in places) > 1:
            continue  # the other branch of the type says more
        field = ".".join(parts)
        message = finding["msg"].removeprefix("Value error, ")
        message = message.replace("Input should", "should", 1).replace("List should", "should", 1)
        if finding["type"] == "list_type" and parts[-1] in {"seeds", "steps"}:
            message = 'should be a list or "discover"'
        match finding["type"]:
            case "missing":
                text = "is required and was not found"
            case "extra_forbidden":
                allowed = ", ".join(_allowed(parts[:-1]))
                text = f"no such field; allowed: {allowed}"
            case "model_type":
                text = f"should be a table, found {finding['input']!r}"
            case _ if isinstance(finding["input"], dict):
                text = message
            case _:
                text = f"{message}, found {str(finding['input'])[:80]!r}"
        lines[f"{file}: {field}: {text}"] = None
    return list(lines)


def _allowed(parts: list[str]) -> list[str]:
    """Fields of the table that is at this place of a study file."""
    section: Any = StudyFile
    for part in parts:
        if not part.isdigit():  # of a list, one table is as good as another
            kind = section.model_fields[part].annotation
            section = next(iter(get_args(kind)), kind)
    return [name for name in section.model_fields if name != "folder"]
