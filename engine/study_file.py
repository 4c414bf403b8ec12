"""The study file: what is compared, on which text and how; checked before anything starts."""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from engine.announcing import choose_folder
from engine.errors import ConfigError
from engine.limits_file import NO_LIMITS, LimitsSection
from engine.patterns import on_hub, source_fields
from engine.presets import PRESETS, Preset
from engine.probe_file import ProbeSection, check_probes
from engine.telling_file import NotifySection, ScalarsSection
from engine.watching_file import WatchSection
from store import Representation
from store.category import CONTEXT


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StudySection(_Section):
    """What the study is called and where its results go."""

    name: str = Field(min_length=1)
    store: str = Field(min_length=1)


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


def _label(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ModelSection(_Section):
    """One model, trained with several seeds."""

    name: str = Field(min_length=1, max_length=60)
    source: str | dict[str, str]  # a template, a preset's name, or a template per seed
    seeds: Literal["discover"] | list[Annotated[str, BeforeValidator(_label)]] = "discover"
    steps: Literal["discover"] | list[Annotated[int, Field(ge=0)]] = "discover"
    allow_pickle: bool = False
    trust_remote_code: bool = False
    cache: Literal["keep", "drop"] = "keep"  # of what was downloaded, once it is scored

    @property
    def _preset(self) -> Preset | None:
        return PRESETS.get(self.source) if isinstance(self.source, str) else None

    @property
    def templates(self) -> dict[str | None, str]:
        """Templates by seed; one for all seeds, which has {seed}, is under None."""
        source = self.source if self._preset is None else self._preset.source
        if isinstance(source, str):
            return {None: source}
        return {seed: source[seed] for seed in source if self.accepts(seed)}

    @property
    def on_hub(self) -> bool:
        """Whether the checkpoints are on the hub, else in folders."""
        return on_hub(next(iter(self.templates.values())))

    @property
    def listed(self) -> set[tuple[str, int]] | None:
        """Every (seed, step), or None when some are to be discovered."""
        seeds: Collection[str] | None = None if isinstance(self.seeds, str) else self.seeds
        steps: Collection[int] | None = None if isinstance(self.steps, str) else self.steps
        known = self._preset or Preset(self.source)
        if seeds is None:
            labels = tuple(label for label in self.templates if label is not None)
            seeds = known.seeds or labels or None
        if steps is None:
            steps = known.steps
        if seeds is None or steps is None:
            return None
        return {(seed, step) for seed in seeds for step in steps}

    @property
    def only_step(self) -> int | None:
        """The step, when there is only one."""
        steps = self.steps if isinstance(self.steps, list) else getattr(self._preset, "steps", None)
        return steps[0] if steps and len(steps) == 1 else None

    def accepts(self, seed: str, step: int | None = None) -> bool:
        """Whether a seed or a checkpoint that was found belongs to the study."""
        return (isinstance(self.seeds, str) or seed in self.seeds) and (
            step is None or isinstance(self.steps, str) or step in self.steps
        )

    def asks_for(self, key: tuple[str, int]) -> bool:
        """Whether a (seed, step) that was announced belongs to the study."""
        return self.accepts(*key) if self.listed is None else key in self.listed

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, source: object) -> object:
        if not isinstance(source, (str, dict)):
            raise ValueError("should be a template, or a table of templates by seed")  # noqa: TRY004
        preset = PRESETS.get(source) if isinstance(source, str) else None
        if isinstance(source, str) and preset is None and not source_fields(source):
            raise ValueError(
                "must hold {seed} and {step}, or its checkpoints cannot be told apart, or be one "
                f"of {', '.join(PRESETS)}"
            )
        return source

    @model_validator(mode="after")
    def _sources(self) -> Self:
        table = (self._preset or Preset(self.source)).source
        if not isinstance(table, str):
            if not table:
                raise ValueError("source names no seeds")
            for seed in self.seeds if isinstance(self.seeds, list) else ():
                if seed not in table:
                    raise ValueError(f"seeds: {seed!r} has no source; there are {', '.join(table)}")
        for label, template in self.templates.items():
            place = "source" if label is None else f"source.{label}"
            try:
                fields = source_fields(template)
            except ValueError as error:
                raise ValueError(f"{place}: {error}, found {template!r}") from None
            absent = [
                name
                for name, needed in (("seed", label is None), ("step", self.only_step is None))
                if needed and name not in fields
            ]
            if absent:
                raise ValueError(
                    f"{place}: must hold {{{absent[0]}}}, or its checkpoints cannot be told "
                    f"apart, found {template!r}"
                )
            if label is not None and "seed" in fields:
                raise ValueError(f"{place}: is of one seed and so cannot hold {{seed}}")
        if len({on_hub(template) for template in self.templates.values()}) > 1:
            raise ValueError("source: mixes folders and the hub; use two models")
        if self.cache == "drop" and not self.on_hub:
            raise ValueError("cache: is about downloads; folders are never deleted")
        return self

    @field_validator("seeds", "steps")
    @classmethod
    def _listed(cls, values: str | list[Any]) -> str | list[Any]:
        if isinstance(values, list):
            if not values:
                raise ValueError('is empty; list them, or use "discover"')
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"names {', '.join(twice)} twice")
        return values


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


Partition = Literal[
    "frequency", "pos", "word_class", "surprisal", "word_position", "position", "document"
]
PARTITIONS: tuple[Partition, ...] = get_args(Partition)
_RESERVED = {"all", "pos_fine", *PARTITIONS}


class CustomSection(_Section):
    """A category of the user's: by a pattern, or by a file of labels."""

    name: str = Field(max_length=60)
    pattern: str | None = None  # a regular expression, searched in a token's text
    labels: str | None = None  # a file
    context: bool | None = None  # also by the token before; None: as the section says

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError("should be of letters, digits, _ and -")
        if name.lower() in _RESERVED:
            raise ValueError("is the name of a built-in category; choose another")
        if name.lower().endswith(CONTEXT):
            raise ValueError(f"must not end in {CONTEXT}, as categories by the token before do")
        return name

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        try:
            with warnings.catch_warnings(action="error"):  # of what will mean something else
                re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.pattern) == bool(self.labels):
            raise ValueError("should have either pattern or labels")
        return self


class CategoriesSection(_Section):
    """How tokens are told apart."""

    include: list[Partition] = list(PARTITIONS)
    context: bool = True  # also by the token before the target, where that makes sense
    tagger: str = Field(default="auto", min_length=1)  # or "rules", or a spaCy pipeline
    surprisal_step: int | Literal["latest"] = "latest"  # the latest that all seeds have reached
    custom: list[CustomSection] = []

    @field_validator("surprisal_step", mode="before")
    @classmethod
    def _step(cls, value: object) -> object:
        number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not number and value != "latest":
            raise ValueError('should be "latest" or a step')
        return value

    @model_validator(mode="after")
    def _once(self) -> Self:
        for field, names in (
            ("include", [str(name) for name in self.include]),
            ("custom", [custom.name.lower() for custom in self.custom]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{field}: names {', '.join(twice)} twice")
        return self


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


def load_study_file(file: Path) -> StudyFile:
    """Read and check a study file.

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
        return StudyFile.model_validate({**fields, "folder": file.parent})
    except ValidationError as error:
        raise ConfigError("\n".join(_findings(file, error))) from None


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
