"""The study file: what is compared, on which text and how; checked before anything starts."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator, model_validator

from engine.errors import ConfigError
from engine.study_file.categories_section import CategoriesSection
from engine.study_file.corpus_section import CorpusSection, TokenizerSection, field_category
from engine.study_file.findings import findings
from engine.study_file.limits_section import NO_LIMITS, LimitsSection
from engine.study_file.models_section import ModelSection
from engine.study_file.notify_section import NotifySection, ScalarsSection
from engine.study_file.probes_section import ProbeSection, check_probes
from engine.study_file.reference_section import ReferenceSection
from engine.study_file.scoring_section import LogProbsSection, ScoringSection
from engine.study_file.section import Section
from engine.study_file.study_section import StudySection
from engine.study_file.watch_section import WatchSection
from seedconv_tui.training.announcing import choose_folder
from store.schema import CATEGORIES, CKA, CONTEXT, DEPTHS, Schedule, read_schedules


class StudyFile(Section):
    """A whole study file. Paths in it are relative to the folder that holds it."""

    study: StudySection
    corpus: CorpusSection
    tokenizer: TokenizerSection
    models: list[ModelSection] = Field(min_length=1)
    scoring: ScoringSection = ScoringSection()
    log_probs: LogProbsSection = LogProbsSection()
    reference: ReferenceSection = ReferenceSection()
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
            raise ValueError(f"two are named {', '.join(twice)}; names must differ")
        return models

    @model_validator(mode="after")
    def _fields(self) -> Self:
        own = {name.lower() for name in self.categories.own_names()}
        for name in self.field_categories:
            if name.lower() in own:
                raise ValueError(
                    f"corpus.fields: {name!r} is the name of a category in [categories] too; give "
                    "that another one"
                )
        return self

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        there = list(self._ungrouped())
        for group in self.categories.groups:
            if group.of not in there:
                raise ValueError(
                    f"categories.groups {group.name!r}: of: should be a category of the study "
                    f"({', '.join(there)}), found {group.of!r}"
                )
        return self

    @model_validator(mode="after")
    def _charted(self) -> Self:
        groups = [group.name for group in self.categories.groups]
        there = {*CATEGORIES, *self._ungrouped(), *groups}
        for name in self.scalars.categories:
            if name.removesuffix(CONTEXT) not in there:
                raise ValueError(f"scalars.categories: no category is named {name!r}")
        return self

    def _ungrouped(self) -> Iterator[str]:
        """Yield the names of the study's categories of the target, without groups of their levels.

        Those that come with another are among them, though a tagger may not give them.
        """
        include = self.categories.include
        yield from (name for name, of in CATEGORIES.items() if (of.comes_with or name) in include)
        yield from self.field_categories
        yield from (custom.name for custom in self.categories.custom)

    @model_validator(mode="after")
    def _surprisals(self) -> Self:
        seed = self.categories.surprisal_seed
        for model in self.models if seed is not None else ():
            if (listed := model.listed_seeds) is not None and seed not in listed:
                raise ValueError(
                    f'categories.surprisal_seed: model "{model.name}" has no seed "{seed}"; '
                    "name one that all models have"
                )
        return self

    @model_validator(mode="after")
    def _ends(self) -> Self:
        scoring = self.scoring
        if self.corpus.final_end_of_text and (
            scoring.windowing != "stream" or scoring.prediction != "causal"
        ):
            raise ValueError(
                'corpus.final_end_of_text: is for scoring.windowing = "stream" and '
                'scoring.prediction = "causal"; leave it out'
            )
        return self

    @model_validator(mode="after")
    def _hidden_states(self) -> Self:
        if CKA in self.scoring.divergences and self.log_probs.representation == "dense":
            raise ValueError(
                f'scoring.divergences: "{CKA}" compares hidden states, which '
                'log_probs.representation = "dense" does not keep; leave it out, or set "auto", '
                '"factored" or "none"'
            )
        return self

    @model_validator(mode="after")
    def _inner_states(self) -> Self:
        asked = next((name for name in self.scoring.divergences if name in DEPTHS), None)
        if asked is None:
            return self
        field = f'scoring.divergences: "{asked}"'
        if self.log_probs.representation != "none":
            raise ValueError(
                f"{field} compares hidden states of inner layers, which no store keeps: all seeds "
                'of a step must be scored side by side. Set log_probs.representation = "none"'
            )
        for model in self.models:
            if model.source_kind.captured or model.loader is not None:
                has = "is captured in training" if model.loader is None else "has a loader"
                raise ValueError(
                    f"{field} needs models that transformers loads, and model "
                    f'"{model.name}" {has}; leave it out'
                )
        return self

    @model_validator(mode="after")
    def _kept_for_end(self) -> Self:
        kept = self.log_probs
        if self.reference.end is None:
            return self
        if kept.representation == "none" or kept.retention != "all":
            raise ValueError(
                "reference.end: needs log-probs that are kept: set log_probs.representation to "
                '"factored" or "dense", and log_probs.retention to "all"'
            )
        for model in self.models:
            if isinstance(model.steps, list) and self.reference.end not in model.steps:
                raise ValueError(
                    f'reference.end: model "{model.name}" has no step {self.reference.end}; name '
                    "one that all models have"
                )
        return self

    @model_validator(mode="after")
    def _loaders(self) -> Self:
        loaded = [model.name for model in self.models if model.loader is not None]
        if loaded and self.scoring.prediction != "causal":
            raise ValueError(
                f'scoring.prediction: should be "causal" where a model has a loader, as model '
                f'"{loaded[0]}" has, found "{self.scoring.prediction}"'
            )
        return self

    @model_validator(mode="after")
    def _probes(self) -> Self:
        check_probes(self.probes, causal=self.scoring.prediction == "causal")
        return self

    @model_validator(mode="after")
    def _captured(self) -> Self:
        if self.scoring.prediction != "causal":
            for model in self.captured:
                raise ValueError(
                    f'scoring.prediction: should be "causal" where a model is captured in '
                    f'training, as model "{model}" is, found "{self.scoring.prediction}"'
                )
        return self

    @property
    def field_categories(self) -> tuple[str, ...]:
        """Return the names of the categories that `corpus.fields` make, in its order."""
        return tuple(map(field_category, self.corpus.fields))

    @property
    def captured(self) -> tuple[str, ...]:
        """Return the names of models that are captured in training."""
        return tuple(model.name for model in self.models if model.source_kind.captured)

    @property
    def store(self) -> Path:
        """Return where the store is or will be."""
        return self.path(self.study.store)

    @property
    def announcements(self) -> Path:
        """Return where training scripts announce checkpoints; it need not exist."""
        return choose_folder(self.folder, self.study.store, self.watch.announcements)

    def path(self, relative: str) -> Path:
        """Return a path of the study file, from its folder."""
        return self.folder / Path(relative).expanduser()

    def learning_rates(self) -> dict[str, Schedule]:
        """Return the learning-rate schedules, as `read_schedules` gives them; {} if not given.

        Raise ConfigError naming the file and the line at fault.
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

    Raise ConfigError with one line per finding: file, field, what was found, what is allowed.
    """
    try:
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: does not exist; `seedconv init {file}` writes one") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{file}: is a folder. Name a study file, as `seedconv init` writes it"
        ) from None
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
        lines = [f"{file}: {line}" for line in findings(error, StudyFile, fields)]
        raise ConfigError("\n".join(lines)) from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return study
