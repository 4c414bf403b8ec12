"""What others wrote into a study's small files: readers go without it, or say so in one line."""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.cli.study_status import status_json, status_text
from seedconv_tui.health import troubled
from store import StoreError, StudyProgress, open_study
from store.commits.log import CommitReader, decode, encode
from store.commits.record_types import FIELDS
from store.schema.checksums import checksum
from tests.support.made_store import Clock, beat, fill, open_writer

WRITER_STATE = "working"
ODD: tuple[Any, ...] = (
    None, True, -1, 0.5, 1e300, 10**30, float("nan"), float("inf"), "", "x", "\ud800", "a" * 300,
    "\x1b[2J", [], [None], [[]], ["\ud800"], [1e300], {}, {"": None}, {"x": {"steps": "y"}},
)  # fmt: skip
CONTENTS = {
    "nothing": b"",
    "null": b"null",
    "text": b'"working"',
    "list": b"[]",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "no UTF-8": b'{"writer": "\xff\xfe"}',
    "a long number": b"9" * 5000,
    "half": b'{"writer": "a", "host": "b", "pid": 1,',
    "long": b" " * 3_000_000,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", ("1", "2"), (0, 8))
    beat(writer, Clock().now)
    writer.close("finished")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "study.zarr"))


def shown_in_a_line(study: Path, capsys: pytest.CaptureFixture[str], *commands: str) -> list[int]:
    """Run commands; each works, or ends with one line that is no bug's."""
    codes = []
    for command in commands or ("status", "plot"):
        codes.append(run([command, str(study)]))
        said = capsys.readouterr()
        assert "internal error" not in said.err, said.err
        assert len(said.err.splitlines()) == (codes[-1] != 0)
    return codes


def status_file(study: Path) -> Path:
    (found,) = (study / "status").iterdir()
    return found


def journal_file(study: Path) -> Path:
    (found,) = (study / "journal").iterdir()
    return found


def instead(path: Path, kind: str) -> None:
    """Put something else than a file in a file's place."""
    path.unlink(missing_ok=True)
    make: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/dev/zero"),
        "nothing": lambda: None,
    }
    make[kind]()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "nothing"])
def test_something_else_in_the_place_of_status_and_journal(
    study: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instead(status_file(study), kind)
    instead(journal_file(study), kind)
    assert shown_in_a_line(study, capsys) == [0, 0]
    open_writer(study).close("finished")


@pytest.mark.parametrize("content", CONTENTS)
def test_status_and_journal_with_other_contents(
    study: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status_file(study).write_bytes(CONTENTS[content])
    journal_file(study).write_bytes(CONTENTS[content] + b"\n")
    assert shown_in_a_line(study, capsys) == [0, 0]
    assert open_study(study).snapshot().engine is None
    open_writer(study).close("finished")


@pytest.mark.long
def test_any_field_of_status_and_journal_may_be_anything(study: Path) -> None:
    """And what is shown of it is valid JSON and can be printed."""
    work = {"model": "m", "seed": "1", "step": 8, "state": 3, "tokens_done": 1, "tokens_total": 2}
    gpu = {"device": "cuda:0", "utilisation": 0.5, "memory_used": 1, "memory_total": 2}
    status = json.loads(status_file(study).read_bytes()) | {"state": WRITER_STATE}
    entry = {"time": 1.0, "level": "info", "event": "x", "text": "y"}
    cases = [status | {name: odd} for name in status for odd in ODD]
    cases += [status | {"works": [work | {name: odd}]} for name in work for odd in ODD]
    cases += [status | {"gpus": [gpu | {name: odd}]} for name in gpu for odd in ODD]
    lines = [entry | {name: odd} for name in entry for odd in ODD]
    journal_file(study).write_text("\n" + "\n".join(map(json.dumps, lines)) + "\n")
    progress = StudyProgress(study)
    for case in cases:
        status_file(study).write_text(json.dumps(case))
        snapshot = progress.snapshot()
        assert status_text(snapshot, 2.0).encode()
        assert json.dumps(status_json(snapshot, 2.0), allow_nan=False)
        troubled(snapshot, 2.0)
    for line in progress.snapshot().journal:
        assert line.text is not None
        assert -1e11 < line.time < 1e11


def test_a_status_with_more_fields_than_are_known_is_read(study: Path) -> None:
    status = json.loads(status_file(study).read_bytes())
    status_file(study).write_text(json.dumps(status | {"of a later version": [1]}))
    engine = open_study(study).snapshot().engine
    assert engine is not None
    assert engine.state == status["state"]


def records(study: Path) -> list[dict[str, Any]]:
    """The log of the study, and a record of every kind that is not in it."""
    found = [decode(line) for line in (study / "commits/1.log").read_bytes().splitlines()]
    made = [record for record in found if record is not None and record["kind"] != "end"]
    of = {"model": "m", "seed": "1", "step": 8}
    failure = {"error": "e", "attempts": 1, "time": 1.0, "retry_at": None, "looks": "x"}
    probe = {"name": "p", "digest": "d", "items": 3, "variants": 2}
    return [
        *made,
        {"kind": "missing", **of, "error": "gone"},
        {"kind": "failed", **of, **failure},
        {"kind": "probe", **probe},
        {"kind": "unplanned", "model": "m", "seed": "1", "steps": [8]},
        {"kind": "probed", **of, "probe": "p", "digest": "d"},
        {"kind": "probe_failed", **of, "probe": "p", **failure},
        {"kind": "unprobed", **of, "probe": "p"},
        {"kind": "category", "model": "m", "name": "own", "digest": "d", "first": 9, "size": 2,
         "step": 8},
        {"kind": "phases", "model": "m", "names": ["a"], "starts": [0], "lows": [None],
         "highs": [None], "supports": [0.5], "settled": True},
        {"kind": "learning_rate", "models": {"m": {"steps": [0], "rates": [0.5]}}},
        {"kind": "groups", "model": "m", "groups": {"data order": ["1"], "start": ["2"]}},
        {"kind": "pruned", "model": "m", "step": 0, "seeds": ["1"]},
        {"kind": "forgotten", "model": "m", "step": 0, "seeds": ["1"], "what": "pairs"},
        {"kind": "end", "how": "stopped"},
    ]  # fmt: skip


def line_of(record: dict[str, Any]) -> bytes:
    """A line with a sound checksum, also of what `encode` refuses to write."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


@pytest.mark.long
def test_any_field_of_any_record_may_be_anything(study: Path) -> None:
    """The log is refused in one line, or what it says can be shown."""
    log, all_of_them = study / "commits/1.log", records(study)
    assert {record["kind"] for record in all_of_them} == FIELDS.keys()
    log.write_bytes(b"".join(map(encode, all_of_them)))
    (study / "commits/1.end").unlink()
    assert StudyProgress(study).snapshot().models
    last = {record["kind"]: n for n, record in enumerate(all_of_them)}
    refused = 0
    for n in last.values():
        record = all_of_them[n]
        left_out = [{k: v for k, v in record.items() if k != name} for name in record]
        for changed in left_out + [record | {name: odd} for name in record for odd in ODD]:
            lines = [*all_of_them[:n], changed, *all_of_them[n + 1 :]]
            log.write_bytes(b"".join(map(line_of, lines)))
            try:
                snapshot = StudyProgress(study).snapshot()
                assert status_text(snapshot, 2.0).encode()
                json.dumps(status_json(snapshot, 2.0), allow_nan=False)
            except StoreError as error:
                assert "\n" not in str(error)  # noqa: PT017  either is right
                refused += 1
    assert refused > 200


@pytest.mark.parametrize("n_seeds", [30_000, 3_000_000])
def test_more_seeds_than_anybody_has_are_refused(
    study: Path, n_seeds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [str(n) for n in range(n_seeds)]
    with (study / "commits/1.log").open("ab") as log:
        log.write(line_of({"kind": "axis", "model": "m", "steps": [], "seeds": seeds}))
        log.write(line_of({"kind": "end", "how": "finished"}))
    assert shown_in_a_line(study, capsys) == [1, 1]


def test_a_log_without_line_ends_is_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (study / "commits/1.log").open("ab") as log:
        log.write(b"00000000 {" * 4_000_000)
    assert shown_in_a_line(study, capsys, "status") == [1]


def test_a_log_longer_than_a_block_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_bytes(
        encode({"kind": "session", "follows_bytes": 0, "writer": "a"})
        + encode({"kind": "x", "text": "y" * 9_000_000}) * 4
        + encode({"kind": "end", "how": "finished"})
    )
    reader = CommitReader(tmp_path)
    reader.refresh()
    assert reader.ledger.changes == 6
    assert reader.ledger.ended == "finished"


def change_root(study: Path, /, **changes: Any) -> None:
    """Change the study's own attributes, and put the right checksum to it."""
    document = json.loads((study / "zarr.json").read_bytes())
    root = document["attributes"]["seedconv"] | changes
    document["attributes"]["seedconv"] = root | {"crc32": checksum(root)}
    (study / "zarr.json").write_text(json.dumps(document))


@pytest.mark.long
def test_any_field_of_the_root_may_be_anything(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = (study / "zarr.json").read_bytes()
    names = ["format", "study", "n_tokens", "vocab_size", "identity", "corpus_crc32", "crc32"]
    for name in names:
        for odd in [*ODD, 10**12]:
            change_root(study, **{name: odd})
            shown_in_a_line(study, capsys, "status")
    for whole in [*ODD, *({"attributes": odd} for odd in ODD)]:
        (study / "zarr.json").write_text(json.dumps(whole))
        assert shown_in_a_line(study, capsys, "status") != [0]
    for content in CONTENTS.values():
        (study / "zarr.json").write_bytes(content)
        assert shown_in_a_line(study, capsys, "status") != [0]
    (study / "zarr.json").write_bytes(sound)
    assert shown_in_a_line(study, capsys, "status") == [0]


@pytest.mark.parametrize(
    ("skew", "age", "health"),
    [(86_400, 0, "working"), (-86_400, 0, "working"), (86_400, 40, "silent"), (0, 40, "silent")],
)
def test_an_engine_is_silent_by_the_clock_of_the_file_system(
    study: Path, skew: float, age: float, health: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the clock of its machine says: this one's is that of the files here."""
    file, now = status_file(study), time.time()
    status = json.loads(file.read_bytes())
    file.write_text(json.dumps(status | {"state": "working", "heartbeat": now - age + skew}))
    os.utime(file, (now - age, now - age))
    assert run(["status", "--json", str(study)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["health"] == health
    assert age <= report["engine"]["heartbeat_age"] < age + 3600  # and not off by a day
