"""Groups of seeds, from the study file to the screen Seeds, export and report."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.common.pairs import PairMatrix
from seedconv_tui.monitor.seeds.screen import SeedsScreen
from seedconv_tui.report.families import FAMILIES
from seedconv_tui.text import nats
from store import open_study
from tests.support.made_store import fill, js, kl, make_categories, open_writer
from tests.support.terminal import terminal
from tests.support.tiny_models import make_runs, write_study

GROUPS = {"data": ("a", "c", "e"), "init": ("b", "d")}
SEEDS, STEPS = ("a", "b", "c", "d", "e", "f"), (0, 8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("groups") / "study"
    writer = open_writer(path)
    writer.set_groups("m", GROUPS)
    for _ in range(2):  # said again, it is recorded once
        writer.set_groups("m", GROUPS)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    return path


def mean_kl(pairs: list[tuple[str, str]], level: int | None = None) -> float:
    """Mean at step 8 over these pairs, one after the other."""
    inside = slice(None) if level is None else make_categories()[1].level == level
    return float(np.mean([kl("m", *pair, 8)[inside].mean(dtype=np.float64) for pair in pairs]))


def within(*groups: str) -> list[tuple[str, str]]:
    return [pair for group in groups for pair in itertools.permutations(GROUPS[group], 2)]


def between() -> list[tuple[str, str]]:
    sides = itertools.product(GROUPS["data"], GROUPS["init"])
    return [pair for i, j in sides for pair in ((i, j), (j, i))]


def p_between() -> float:
    """By going through all ways to take three of the five."""
    five = "abcde"

    def apart(three: tuple[str, ...]) -> float:
        two = [seed for seed in five if seed not in three]
        inner = [*itertools.permutations(three, 2), *itertools.permutations(two, 2)]
        outer = [pair for pair in itertools.permutations(five, 2) if pair not in inner]
        return mean_kl(outer) - mean_kl(inner)

    found = [apart(three) for three in itertools.combinations(five, 3)]
    return float(np.mean([value >= apart(GROUPS["data"]) - 1e-12 for value in found]))


def test_export_has_them_by_level(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(store), "--what", "groups"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(STEPS) * 4
    of = {(row["pairs"], row["group"]): row for row in rows if row["step"] == "8"}
    for name, n in (("data", 3), ("init", 2)):
        assert float(of["group", name]["kl"]) == pytest.approx(mean_kl(within(name)))
        assert of["group", name]["n_seeds"] == str(n)
    inner, outer = of["within", ""], of["between", ""]
    assert float(inner["kl"]) == pytest.approx(mean_kl(within("data", "init")))
    assert float(outer["kl"]) == pytest.approx(mean_kl(between()))
    whole = sum(float(row["share"]) * float(row["kl"]) for row in (inner, outer))
    assert whole == pytest.approx(mean_kl([*itertools.permutations("abcde", 2)]))
    assert float(outer["p"]) == pytest.approx(p_between())
    assert (outer["arrangements"], outer["exact"].lower()) == ("10", "true")
    assert run(["export", str(store), "--what", "groups", "--category", "third"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (row,) = (
        row for row in rows if (row["step"], row["label"], row["pairs"]) == ("8", "a", "between")
    )
    assert float(row["kl"]) == pytest.approx(mean_kl(between(), 0))


async def test_the_screen_has_blocks(store: Path) -> None:
    async with terminal(store=store, size=(120, 30)) as screen:
        await screen.go_to(SeedsScreen)
        region = screen.app.screen.query_one(PairMatrix).region
        rows = screen.text.splitlines()[region.y : region.bottom]
        assert [row[3:].split()[0] for row in rows[1:7]] == [*"acebdf"]
        header = rows[0][: region.width]
        assert header.replace("│", " │ ").split()[-8:] == ["a", "c", "e", "│", "b", "d", "│", "f"]
        assert f"within data {nats(mean_kl(within('data')))}" in screen.text
        words = f"between {nats(mean_kl(between()))} (p {p_between():.3g})"
        assert words in screen.text
        await screen.press("down", "down", "down", "L")  # seed b, and the column after c's
        await screen.settle()
        value = nats(float(kl("m", "b", "e", 8).mean(dtype=np.float64)))
        assert f"seed b → e · KL {value}" in screen.text
        value = nats(float(js("m", "b", "e", 8).mean(dtype=np.float64)))
        assert f"JS {value}" in screen.text


def test_the_report_draws_them(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    others = [part for name in FAMILIES if name != "groups" for part in ("--without", name)]
    assert run(["report", str(store), "--out", str(out), "--format", "png", *others]) == 0
    with (out / "groups_m.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["step"] == "8"]
    found = {row["pairs"]: float(row["kl"]) for row in rows}
    assert found == {
        "data": pytest.approx(mean_kl(within("data"))),
        "init": pytest.approx(mean_kl(within("init"))),
        "between groups": pytest.approx(mean_kl(between())),
    }
    assert float(rows[-1]["p"]) == pytest.approx(p_between())
    assert (out / "groups_m.png").stat().st_size > 10_000
    captions = (out / "captions.md").read_text(encoding="utf-8")
    assert "all 10 arrangements" in captions


def write_groups(folder: Path, groups: str, **changes: object) -> Path:
    """A study file whose model has these groups, as TOML."""
    file = write_study(folder, **changes)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('name = "m"\n', f'name = "m"\ngroups = {groups}\n'))
    return file


def test_the_study_file_says_which(tmp_path: Path) -> None:
    make_runs(tmp_path, steps=(5,))
    groups = "{ one = [1, 2], other = [3] }"
    file = write_groups(tmp_path, groups, log_probs__representation="none")
    assert run(["run", str(file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    assert study.ledger("m").groups == {"one": ("1", "2"), "other": ("3",)}
    assert study.snapshot().models[0].groups == study.ledger("m").groups
    assert run(["verify", str(tmp_path / "study.zarr")]) == 0
    assert run(["run", str(write_study(tmp_path, log_probs__representation="none"))]) == 0
    assert open_study(tmp_path / "study.zarr").ledger("m").groups == {}


def test_seeds_that_are_not_there_and_names_of_any_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(5,))
    groups = '{ "a, b" = [1, 2], "between groups" = [3, "x7"] }'
    file = write_groups(tmp_path, groups, log_probs__representation="none")
    assert run(["run", str(file)]) == 0
    said = "model m: groups.between groups: there is no checkpoint of seed x7; correct it"
    assert said in capsys.readouterr().err
    out, store = tmp_path / "report", str(tmp_path / "study.zarr")
    others = [part for name in FAMILIES if name != "groups" for part in ("--without", name)]
    assert run(["report", store, "--out", str(out), "--format", "png", *others]) == 0
    with (out / "groups_m.csv").open(encoding="utf-8") as table:
        rows = [(row["pairs"], bool(row["kl"])) for row in csv.DictReader(table)]
    assert rows == [("a, b", True), ("between groups", False), ("between groups", True)]
    captions = (out / "captions.md").read_text(encoding="utf-8")
    assert 'Groups of seeds: "a, b": 1, 2; between groups: 3, x7.' in captions
    assert "No pair of seeds within: between groups." in captions


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("{ one = [1] }", "has one group"),
        ("{ one = [1], two = [] }", "groups.two: is empty"),
        ("{ one = [1], two = [2, 1] }", "groups.two: '1' is in one as well"),
        ("{ one = [1], two = [9] }", "groups.two: '9' is no seed; there are 1, 2"),
    ],
)
def test_groups_that_cannot_be_are_refused(
    tmp_path: Path, groups: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_groups(tmp_path, groups, models__seeds=["1", "2"])
    assert run(["run", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
