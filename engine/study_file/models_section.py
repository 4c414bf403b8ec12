"""The `[[models]]` sections of the study file: where checkpoints are, and which are wanted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from engine.study_file.patterns import SourceKind, kind_of, source_fields
from engine.study_file.presets import PRESETS, Preset
from engine.study_file.section import Section
from seedconv_tui.training.announcing import check_names

# Fields that say how checkpoints are read.
_OF_CHECKPOINTS = frozenset({"allow_pickle", "cache", "config", "loader", "trust_remote_code"})
_LOADER = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def _label(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


SeedLabel = Annotated[str, BeforeValidator(_label)]


def _lacking(place: str, template: str, seed: bool, step: bool) -> str:
    """Say which fields a template lacks, by which checkpoints are distinguished, and what to do."""
    says = f"{place} {template!r} has no"
    a_step = "list exactly one step: steps = [1000]"
    if seed and step:
        return (
            f"{says} {{seed}} and no {{step}}. Add both; if each seed has one checkpoint, add "
            f"{{seed}} and {a_step}; or use a ready-made source: {', '.join(PRESETS)}"
        )
    if step:
        return f"{says} {{step}}. Add {{step}}, or {a_step}"
    table = 'source = { 1 = "...", 2 = "..." }'
    return f"{says} {{seed}}. Add {{seed}}, or give a source for each seed: {table}"


class ModelSection(Section):
    """One model, trained with several seeds."""

    name: str = Field(min_length=1, max_length=60)
    """name of the model (architecture and size); `{model}` in `source` stands for it"""
    source: str | dict[str, str]
    """where its checkpoints are: a pattern with `{seed}` and `{step}`, the name of a published
    suite, `"captured"`, or a table with a pattern for each seed
    """
    seeds: Literal["discover"] | list[SeedLabel] = "discover"
    """seeds to compare: a list, or those that `source` has"""
    steps: Literal["discover"] | list[Annotated[int, Field(ge=0)]] = "discover"
    """steps to score: a list, or those that `source` has"""
    # Seeds by what they have in common: a name for each group
    groups: dict[Annotated[str, Field(min_length=1, max_length=40)], list[SeedLabel]] = {}
    """seeds by what they have in common, as `{ order = [1, 2], init = [3, 4] }`: KL within and
    between groups
    """
    config: str | None = None
    """`config.json` of all checkpoints, or its folder, where it is not next to the weights"""
    # A function of the user's, "package.module:function", that makes a model of a checkpoint.
    loader: Annotated[str, Field(pattern=_LOADER)] | None = None
    """your function, `package.module:function`, that makes a model of a checkpoint"""
    allow_pickle: bool = False
    """also read pickled weights (`pytorch_model.bin`, `.pt`, `.ckpt`, distributed checkpoints of
    PyTorch); tensors and plain data only
    """
    trust_remote_code: bool = False
    """run Python code that comes with the checkpoints"""
    cache: Literal["keep", "drop"] = "keep"
    """what happens to a download once it is scored"""

    @property
    def _preset(self) -> Preset | None:
        return PRESETS.get(self.source) if isinstance(self.source, str) else None

    @property
    def templates(self) -> dict[str | None, str]:
        """Return templates by seed; one for all seeds, which has {seed}, is under None."""
        source = self.source if self._preset is None else self._preset.source
        if isinstance(source, str):
            return {None: source}
        return {seed: source[seed] for seed in source if self.accepts(seed)}

    def config_file(self, folder: Path) -> Path | None:
        """Return where config.json is, below the study file's folder; None: next to the weights."""
        return None if self.config is None else folder / Path(self.config).expanduser()

    @property
    def source_kind(self) -> SourceKind:
        """Return what kind of place the checkpoints are in."""
        return kind_of(next(iter(self.templates.values())))

    @property
    def listed_seeds(self) -> set[str] | None:
        """Return every seed, or None when they are to be discovered."""
        if not isinstance(self.seeds, str):
            return set(self.seeds)
        known = (self._preset or Preset(self.source)).seeds
        return set(known or {label for label in self.templates if label is not None}) or None

    @property
    def listed(self) -> set[tuple[str, int]] | None:
        """Return every (seed, step), or None when some are to be discovered."""
        seeds, steps = self.listed_seeds, self.steps
        known = (self._preset or Preset(self.source)).steps
        wanted: Collection[int] | None = known if isinstance(steps, str) else steps
        if seeds is None or wanted is None:
            return None
        return {(seed, step) for seed in seeds for step in wanted}

    @property
    def only_step(self) -> int | None:
        """Return the step, when there is only one."""
        steps = self.steps if isinstance(self.steps, list) else getattr(self._preset, "steps", None)
        return steps[0] if steps and len(steps) == 1 else None

    def accepts(self, seed: str, step: int | None = None) -> bool:
        """Return whether a seed or a checkpoint that was found belongs to the study."""
        return (isinstance(self.seeds, str) or seed in self.seeds) and (
            step is None or isinstance(self.steps, str) or step in self.steps
        )

    def asks_for(self, key: tuple[str, int]) -> bool:
        """Return whether a (seed, step) that was announced belongs to the study."""
        return self.accepts(*key) if self.listed is None else key in self.listed

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, source: object) -> object:
        if not isinstance(source, (str, dict)):
            raise ValueError("should be a template, or a table of templates by seed")  # noqa: TRY004
        for seed, template in source.items() if isinstance(source, dict) else ():
            if not isinstance(template, str):
                text = f"should have a template for each seed, has {template!r} for {seed}"
                raise ValueError(text)  # noqa: TRY004
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
            if label is not None and kind_of(template).captured:
                raise ValueError(f'{place}: write source = "captured" for all seeds of a model')
            try:
                fields = source_fields(template)
            except ValueError as error:
                raise ValueError(f"{place}: {error}, found {template!r}") from None
            absent = (
                (label is None and "seed" not in fields),
                (self.only_step is None and "step" not in fields),
            )
            if any(absent):
                raise ValueError(_lacking(place, template, *absent))
            if label is not None and "seed" in fields:
                raise ValueError(f"{place}: is of one seed and so cannot hold {{seed}}")
        kinds = sorted({kind_of(template).name for template in self.templates.values()})
        if len(kinds) > 1:
            raise ValueError(f"source: mixes {' and '.join(kinds)}; use two models")
        if self.cache == "drop" and not self.source_kind.downloads:
            raise ValueError("cache: is about downloads; folders are never deleted")
        if self.config is not None and self.source_kind.downloads:
            raise ValueError("config: is about folders; on the Hub each checkpoint has its own")
        return self

    @model_validator(mode="after")
    def _captured(self) -> Self:
        """Refuse what is about reading checkpoints where there are none."""
        if self.source_kind.captured:
            for name in sorted(_OF_CHECKPOINTS & self.model_fields_set):
                raise ValueError(
                    f'{name}: is about reading checkpoints, and source = "captured" has none. '
                    "Leave it out"
                )
            seeds = self.seeds if isinstance(self.seeds, list) else ["0"]
            last = max(self.steps, default=0) if isinstance(self.steps, list) else 0
            for seed in seeds:  # as `Capture` does
                check_names(self.name, seed, last, "/")
        return self

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if len(self.groups) == 1:
            raise ValueError("groups: has one group; KL between groups needs two")
        of: dict[str, str] = {}
        for name, seeds in self.groups.items():
            if not seeds:
                raise ValueError(f"groups.{name}: is empty")
            for seed in seeds:
                if seed in of:
                    raise ValueError(f"groups.{name}: {seed!r} is in {of[seed]} as well")
                of[seed] = name
                if self.listed_seeds is not None and seed not in self.listed_seeds:
                    there = ", ".join(sorted(self.listed_seeds))
                    raise ValueError(f"groups.{name}: {seed!r} is no seed; there are {there}")
        return self

    @model_validator(mode="after")
    def _loader(self) -> Self:
        if self.loader is None:
            return self
        if self.source_kind.downloads:
            raise ValueError("loader: is for checkpoints in folders; download these first")
        for name in ("allow_pickle", "config", "trust_remote_code"):
            if name in self.model_fields_set:
                raise ValueError(f"{name}: is of no use with a loader, which reads checkpoints")
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
