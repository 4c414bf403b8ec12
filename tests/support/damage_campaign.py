"""Damage to every kind of file of a study, and what comes of it: read, verified, repaired, rerun.

`python -m tests.support.damage_campaign 300` prints the table of `docs/damage.md`, and each outcome
to stderr as it comes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seedconv_tui.cli.main import run
from store import StoreError, open_study
from store.maintenance import verify
from store.schema import Damage, Part
from tests.support.made_store import MEANS, PER_PAIR, PER_TOKEN, committed
from tests.support.probe_studies import write_probes
from tests.support.tiny_models import make_runs, write_study

WAYS = ("flip", "truncate", "zero", "delete", "swap", "foreign", "older")
SAID = {  # what each way is called in the table
    "flip": "one bit flipped",
    "truncate": "cut short",
    "zero": "zeros",
    "delete": "deleted",
    "swap": "copy of its neighbour",
    "foreign": "copy from another study",
    "older": "an older version",
}
KINDS: dict[str, frozenset[Part]] = {  # of files -> what `verify` may name for them
    "attributes of the study": frozenset({Part.STUDY}),
    "commit log": frozenset({Part.STUDY}),
    "corpus": frozenset({Part.CORPUS}),
    "category": frozenset({Part.CATEGORY}),
    "metadata": frozenset({Part.METADATA, Part.COORDINATES, Part.STUDY, Part.CATEGORY, Part.PROBE}),
    "coordinates": frozenset({Part.COORDINATES}),
    "results": frozenset({Part.RESULTS}),
    "pairs": frozenset({Part.PAIRS}),
    "means": frozenset({Part.MEANS}),
    "summary": frozenset({Part.SUMMARY}),
    "log-probs": frozenset({Part.LOG_PROBS, Part.METADATA}),
    "probe": frozenset({Part.PROBE}),
    "status and journal": frozenset(),
}
UNMENDABLE = {Part.STUDY, Part.CORPUS}


@dataclass
class Outcome:
    """What came of one damage."""

    kind: str
    way: str
    name: str
    reader: str = "refused"  # or "right": what was asked for does not come from there
    restored: str = ""  # "at once", "by run", "dropped", "from a copy" or "nothing to do"
    wrong: list[str] = field(default_factory=list)


class Campaign:
    """A study, an older version of it and another one; and copies of the first to be damaged."""

    def __init__(self, folder: Path) -> None:
        """Score small models."""
        self.folder = folder
        self.whole, self.older, self.other = (folder / n for n in ("whole", "older", "other"))
        self._make(self.other, "gpt2", (0, 10))
        self._make(self.whole, "gpt-neox", (0,))
        shutil.copytree(self.whole, self.older)
        self._make(self.whole, "gpt-neox", (0, 10))
        self.before = committed(open_study(self.whole / "study.zarr"))
        self._numbers = itertools.count()

    def _make(self, folder: Path, architecture: str, steps: tuple[int, ...]) -> None:
        make_runs(folder, architecture=architecture, steps=steps)
        file = write_study(
            folder,
            corpus__max_tokens=60,
            log_probs__representation="factored",
            categories__include=["document"],
        )
        write_probes(folder, file, icl=False)
        quiet(["run", str(file)])

    def damages(self, n: int, seed: int) -> Iterator[tuple[str, str, str]]:
        """Yield (kind, way, file): every kind in every way that there is, again and again."""
        rng, store = random.Random(seed), self.whole / "study.zarr"
        by_kind: dict[tuple[str, str], list[str]] = defaultdict(list)
        for file in sorted(store.rglob("*")):
            if file.is_file() and file.stat().st_size:
                name = str(file.relative_to(store))
                for way in WAYS:
                    if self._source(name, way) is not None:
                        by_kind[kind_of(name), way].append(name)
        made = 0
        while True:
            for (kind, way), names in rng.sample(sorted(by_kind.items()), len(by_kind)):
                if made == n:
                    return
                made += 1
                yield kind, way, rng.choice(names)

    def _source(self, name: str, way: str) -> bytes | None:
        """Return what a file becomes; None where that way there is no damage to it."""
        store = self.whole / "study.zarr"
        data = (store / name).read_bytes()
        if way in {"foreign", "older"}:
            source = (self.other if way == "foreign" else self.older) / "study.zarr" / name
            found = source.read_bytes() if source.is_file() else None
        elif way == "swap":
            near = [f.read_bytes() for f in self._neighbours(store / name)]
            found = next((other for other in near if other != data), None)
        else:
            return b""
        return found if found != data else None

    def _neighbours(self, file: Path) -> list[Path]:
        """Return the other files of the same array or kind."""
        parts = file.parts
        top = Path(*parts[: parts.index("c")]) if "c" in parts else file.parent
        return sorted(f for f in top.rglob("*") if f.is_file() and f != file and (
            ("c" in f.parts) == ("c" in parts) and f.suffix == file.suffix
        ))  # fmt: skip

    def judge(self, kind: str, way: str, name: str, rng: random.Random) -> Outcome:
        """Damage a copy of the study and return what comes of it."""
        outcome = Outcome(kind, way, name)
        copy = self.folder / f"copy{next(self._numbers)}"
        copy.mkdir()
        for entry in self.whole.iterdir():
            if entry.name == "study.zarr":
                shutil.copytree(entry, copy / entry.name)
            else:
                (copy / entry.name).symlink_to(entry)
        store = copy / "study.zarr"
        damage(store / name, way, self._source(name, way) or b"", rng)
        self._read(outcome, store)
        self._verify(outcome, store)
        self._restore(outcome, copy)
        shutil.rmtree(copy)
        return outcome

    def _read(self, outcome: Outcome, store: Path) -> None:
        try:
            after = committed(open_study(store))
            open_study(store).corpus  # noqa: B018
            for model in open_study(store).models:
                open_study(store).dataset(model).load()
        except StoreError as error:
            if len(str(error).splitlines()) != 1:
                outcome.wrong.append(f"told in several lines: {error}")
        except Exception as error:
            outcome.wrong.append(f"reader: {error!r}")
        else:
            outcome.reader = "right"
            outcome.wrong += [f"read {k}" for k in self.before if after.get(k) != self.before[k]][
                :1
            ]

    def _verify(self, outcome: Outcome, store: Path) -> None:
        try:
            found = damage_of(store)
        except StoreError as error:
            found = [Damage(Part.STUDY, "", str(error))]
        parts = {Part(d.part) for d in found}
        if harmless(outcome) and not found:
            outcome.restored = "nothing to do"
            return
        if not parts or not parts <= KINDS[outcome.kind]:
            outcome.wrong.append(f"verify found {[(d.part, d.path) for d in found]}")
        if parts & UNMENDABLE:
            outcome.restored = "from a copy"

    def _restore(self, outcome: Outcome, copy: Path) -> None:
        if outcome.restored:
            return
        store = copy / "study.zarr"
        quiet(["verify", str(store), "--mend"])
        outcome.restored = "at once"
        try:
            if not self._lost(store):
                outcome.wrong += self._differences(store)
                return
            quiet(["run", str(copy / "study.toml")])
            lost, left = self._lost(store), damage_of(store)
        except StoreError as error:
            outcome.wrong.append(f"not restored: {error}")
            return
        kinds = {key[1] for key in lost}
        outcome.restored = "dropped" if kinds else "by run"
        if kinds - {"log_probs"} or left:
            outcome.wrong.append(f"not restored: {sorted(map(str, kinds))}, {left}")
        outcome.wrong += self._differences(store)

    def _lost(self, store: Path) -> set[Any]:
        return self.before.keys() - committed(open_study(store)).keys()

    def _differences(self, store: Path) -> list[str]:
        """Return what of a study is not what it was, to the rounding of float32."""
        after = committed(open_study(store))
        wrong = []
        for key in self.before.keys() & after.keys():
            if after[key] == self.before[key]:
                continue
            was, now = (np.frombuffer(of[key], dtype_of(key)) for of in (self.before, after))
            if was.shape != now.shape or not np.allclose(was, now, rtol=1e-5, atol=2e-6):
                wrong.append(f"restored {key} wrongly")
        return wrong[:1]


def dtype_of(key: tuple[Any, ...]) -> str:
    """Return the dtype of a value that `committed` gives as bytes."""
    if key[1] == "top_id":
        return "i4"
    doubles = {"summary", "expected_kl", *MEANS} - {*PER_TOKEN, *PER_PAIR}
    return "f8" if key[1] in doubles else "f4"


def kind_of(name: str) -> str:
    """Return the kind of a file of a study."""
    parts = name.split("/")
    match parts:
        case ["zarr.json"]:
            return "attributes of the study"
        case ["status" | "journal", *_]:
            return "status and journal"
        case ["commits", *_]:
            return "commit log"
        case ["corpus", "category", *_] | ["models", _, "category", *_]:
            return (
                "metadata" if len(parts) < 5 and name.endswith("category/zarr.json") else "category"
            )
        case ["corpus", *_]:
            return "corpus"
        case ["models", _, "log_probs", _, _, *_] if len(parts) > 5:
            return "log-probs"
        case ["probes", *_] if len(parts) > 2:
            return "probe"
        case [*_, "zarr.json"]:
            return "metadata"
        case ["models", _, "step" | "seed" | "other_seed", *_]:
            return "coordinates"
        case ["models", _, "probe", *_]:
            return "probe"
        case ["models", _, "summary", *_]:
            return "summary"
        case ["models", _, array, *_] if array in PER_TOKEN:
            return "results"
        case ["models", _, array, *_] if array in PER_PAIR:
            return "pairs"
    return "means"


def harmless(outcome: Outcome) -> bool:
    """Return whether nothing that is committed needs the file."""
    # Of the repeated lengths of logs only the last one's is used, and without it nothing is lost.
    return outcome.kind == "status and journal" or (
        outcome.name.endswith(".end") and (outcome.way == "delete" or outcome.name != _LAST_END)
    )


_LAST_END = "commits/2.end"


def damage(file: Path, way: str, source: bytes, rng: random.Random) -> None:
    """Damage one file; a flipped bit is anywhere in it."""
    data = bytearray(file.read_bytes())
    if way == "delete":
        file.unlink()
        return
    if way == "truncate":
        data = data[: rng.randrange(len(data))]
    elif way == "zero":
        data = bytearray(len(data))
    elif way == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        data = bytearray(source)
    file.write_bytes(data)


def damage_of(store: Path) -> list[Damage]:
    """Return everything that `verify` finds."""
    return [found for checked in verify(store) for found in checked.damage]


def quiet(command: list[str]) -> int:
    """Run a command of ours, and show nothing."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return run(command)


def table(outcomes: list[Outcome]) -> str:
    """Return rows by kind of file: how many damages, what readers did and what restored them."""
    lines = [
        "| files | damages | refused by readers | not needed by them | restored by `--mend` | "
        "and by `run` | dropped | from a copy | nothing to do |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        of = [outcome for outcome in outcomes if outcome.kind == kind]
        read, back = Counter(o.reader for o in of), Counter(o.restored for o in of)
        numbers = [len(of), read["refused"], read["right"]]
        fates = ("at once", "by run", "dropped", "from a copy", "nothing to do")
        numbers += [back[fate] for fate in fates]
        lines.append(f"| {kind} | " + " | ".join(str(n) if n else "" for n in numbers) + " |")
    return "\n".join(lines)


def play(folder: Path, n: int, seed: int) -> list[Outcome]:
    """Return what came of `n` damages."""
    campaign, rng = Campaign(folder), random.Random(seed)
    return [campaign.judge(*found, rng) for found in campaign.damages(n, seed)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        campaign, rng, done = Campaign(Path(made)), random.Random(1), []
        for found in campaign.damages(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 1):
            done.append(campaign.judge(*found, rng))
            print(json.dumps(asdict(done[-1])), file=sys.stderr, flush=True)
    print(table(done))
