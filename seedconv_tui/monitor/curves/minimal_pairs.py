"""Read minimal pairs for the Curves screen: a step at a time, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from store import from_extra
from store.schema import Floats

if TYPE_CHECKING:
    from seedconv_tui.monitor.data.details import Details
    from store import Study

Told = Mapping[str, tuple[float, float, float]]  # by measure: value, low, high; nats


@dataclass(frozen=True)
class Asked:
    """A probe of minimal pairs of a model: where it was asked, and of what."""

    probe: str
    digest: str
    seeds: Mapping[int, tuple[str, ...]]  # by step, ascending


@dataclass(frozen=True)
class AskedPairs:
    """A model's checkpoints that were asked about minimal pairs, by probe."""

    model: str
    generation: int

    KEEP: ClassVar[int] = 64

    def read(self, study: Study) -> tuple[Asked, ...]:
        """Look into the commit log, and for the kinds of probes."""
        from store.analysis import PROBE_KINDS, probed_seeds, probed_steps

        study.refresh()  # to what the generation has
        known, found = study.ledger(self.model), []
        for name in study.probes():
            kind = PROBE_KINDS.get(study.probe(name).kind)
            if kind is not None and kind.of_pairs:
                there = {
                    step: probed_seeds(known, name, step) for step in probed_steps(known, name)
                }
                found.append(Asked(name, study.probe_entry(name).digest, there))
        return tuple(found)


@dataclass(frozen=True)
class PairsAtStep:
    """The KL between these seeds on all minimal pairs of a probe at a step."""

    model: str
    probe: str
    digest: str
    step: int
    seeds: tuple[str, ...]

    KEEP: ClassVar[int] = 4096

    def read(self, study: Study) -> Told:
        """Read what the seeds' checkpoints said, and compare."""
        from store.analysis import KL_MEASURES, blimp_summary

        with from_extra("an interval", "analysis"):
            found = blimp_summary(study, self.model, self.probe, self.step)
        return {
            measure: (float(of.value[0]), float(of.low[0]), float(of.high[0]))
            for measure in KL_MEASURES
            for of in (getattr(found, measure),)
        }


@dataclass(frozen=True, eq=False)
class PairsCurve:
    """The known answers of a model so far, (step,) each."""

    steps: tuple[int, ...]
    n_seeds: tuple[int, ...]
    told: tuple[Told | None, ...]

    def of(self, measure: str) -> Floats:
        """Return value, low and high of a measure: (3, step); NaN where they are not read yet."""
        unknown = (np.nan,) * 3
        rows = [unknown if told is None else told[measure] for told in self.told]
        return np.array(rows, np.float64).reshape(-1, 3).T


def probes_of(details: Details, model: str, generation: int) -> tuple[str, ...]:
    """Return the names of a model's probes of minimal pairs that are known by now."""
    return tuple(asked.probe for asked in details.get(AskedPairs(model, generation)) or ())


def questions(
    details: Details, model: str, generation: int, probe: str
) -> list[AskedPairs | PairsAtStep]:
    """Return what is to be asked of a model about a probe, as far as is known by now."""
    return [AskedPairs(model, generation), *_at_steps(details, model, generation, probe)]


def pairs_curve(details: Details, model: str, generation: int, probe: str) -> PairsCurve | None:
    """Return what is known of a model by now; None: not where it was asked."""
    if details.get(AskedPairs(model, generation)) is None:
        return None
    at = list(_at_steps(details, model, generation, probe))
    steps = tuple(query.step for query in at)
    return PairsCurve(steps, tuple(len(q.seeds) for q in at), tuple(map(details.get, at)))


def _at_steps(details: Details, model: str, generation: int, probe: str) -> Iterator[PairsAtStep]:
    for asked in details.get(AskedPairs(model, generation)) or ():
        if asked.probe == probe:
            for step, seeds in asked.seeds.items():
                if len(seeds) > 1:
                    yield PairsAtStep(model, probe, asked.digest, step, seeds)
