"""Studies with probes: pairs of sentences and long documents."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from seedconv_tui.cli.main import run
from store import Study, open_study
from tests.support.tiny_models import TEXT, write_study

PAIRS = [
    ("agreement", "The seeds of a model are trained.", "The seeds of a model is trained."),
    ("agreement", "They learn the same distribution.", "They learns the same distribution."),
    (
        "agreement",
        "The reader measures it, token by token, step by step.",
        "The reader measure it.",
    ),
    ("order", "Do they learn?", "They do learn the text of it always, sometimes?"),
    ("order", "Careful ones measure it.", "Ones careful measure it."),
]

LONG = [TEXT, TEXT[20:400], "The seeds of"]  # the last is short
PLACES = {"positions": [4, 20], "contexts": [3, 15]}


def write_probes(
    folder: Path, study: Path, *, per_task: int | None = None, icl: bool = True
) -> None:
    """Add probes to a study file, and the files that they are of."""
    (folder / "blimp").mkdir(exist_ok=True)
    for task, pairs in itertools.groupby(PAIRS, key=lambda pair: pair[0]):
        lines = [
            json.dumps(
                {"sentence_good": good, "sentence_bad": bad, "UID": task, "linguistics_term": "x"}
            )
            for _, good, bad in pairs
        ]
        (folder / "blimp" / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
    text = '\n[[probes]]\nname = "pairs"\nkind = "blimp"\nfolder = "blimp"\n'
    if per_task is not None:
        text += f"per_task = {per_task}\n"
    if icl:
        (folder / "long.txt").write_text("#".join(LONG))
        text += '\n[[probes]]\nname = "long"\nkind = "icl"\nfiles = ["lo*.txt"]\nseparator = "#"\n'
        text += "".join(f"{name} = {numbers}\n" for name, numbers in PLACES.items())
    study.write_text(study.read_text() + text)


def probed(folder: Path, *, icl: bool = True, **settings: Any) -> Study:
    """Run a study with probes."""
    study = write_study(folder, **settings)
    write_probes(folder, study, icl=icl)
    assert run(["run", str(study)]) == 0
    return open_study(folder / "study.zarr")


def results(store: Path) -> dict[str, bytes]:
    """Every file of a study's corpus, models and probes."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for part in ("corpus", "models", "probes")
        for file in (store / part).rglob("*")
        if file.is_file()
    }
