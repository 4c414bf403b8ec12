"""What is kept of text from one start to the next: the same numbers, whatever lies there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.categories.partition import build_categories
from engine.probes.questions import build_probes
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text import derived_cache, streams
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import entry_texts, load_tokenizer
from tests.support.masked_models import make_word_pieces
from tests.support.probe_studies import write_probes
from tests.support.tiny_models import END, TEXT, make_tokenizer, write_study

INCLUDE = ["frequency", "pos", "word_class", "word_position", "position", "document"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which things are kept, which is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "seedconv"


def start(file: Path) -> tuple[list[Any], bool]:
    """Everything that a start makes of its texts, and whether it loaded the tokenizer."""
    study = load_study_file(file)
    tokenizer = load_tokenizer(study, HubClient(threading.Event()))
    text = build_text(study, tokenizer)
    facts = [getattr(tokenizer, name) for name in ("size", "digest", "names", "special", "pad")]
    more = [entry_texts(tokenizer), build_probes(study, tokenizer)]
    found = [*facts, text, build_categories(study, tokenizer, text), *more]
    loaded = tokenizer.load.cache_info().currsize > 0  # type: ignore[attr-defined]
    return found, loaded


def assert_same(one: Any, other: Any) -> None:
    """Equal, to the types of the arrays within."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        assert one.flags.writeable == other.flags.writeable
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def first_and_second(file: Path) -> list[Any]:
    """What both starts make, which is the same, and for which the second loads no tokenizer."""
    (found, loaded), (again, loaded_again) = start(file), start(file)
    assert (loaded, loaded_again) == (True, False)
    assert_same(found, again)
    return again


@pytest.mark.parametrize(
    "changes",
    [
        {"scoring__windowing": "stream"},
        {"scoring__windowing": "document", "corpus__max_tokens": 100_000},
        {"corpus__final_end_of_text": 2, "corpus__max_tokens": 100_000},
        {"tokenizer__bos": "none", "corpus__special_tokens": "text"},
        {"corpus__counts": ["counted*"], "corpus__separator": ""},
        {"scoring__prediction": "pseudo", "scoring__windowing": "document"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_a_second_start_finds_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    for setting, n in (("LONG", 300), ("SHARED", 64), ("_CHUNK", 100)):  # documents in pieces
        monkeypatch.setattr(streams, setting, n)
    masked = "scoring__prediction" in changes
    (make_word_pieces if masked else make_tokenizer)(tmp_path / "tokenizer")
    (tmp_path / "text.txt").write_text(f"{TEXT}\n{END} “naïve” {END}", encoding="utf-8")
    records = [json.dumps({"text": f"{TEXT} {n}"}) + "\n" for n in range(3)]
    (tmp_path / "more.jsonl").write_text("".join(records))
    (tmp_path / "counted.txt").write_text(TEXT * 3)
    (tmp_path / "counted.jsonl").write_text(records[0])
    file = write_study(
        tmp_path,
        corpus__files=["text.txt", "more.jsonl"],
        categories__include=INCLUDE,
        categories__tagger="rules",
        **changes,
    )
    write_probes(tmp_path, file, icl=not masked)
    first_and_second(file)
    assert {path.name.partition("-")[0] for path in cache.iterdir()} == {
        *("corpus", "entries", "tags", "texts", "tokenizer"),
        *(["counts"] if "corpus__counts" in changes else []),
    }


def made(folder: Path, **changes: Any) -> Path:
    """A study of which all is kept, but for its checkpoints, which it has none of."""
    make_tokenizer(folder / "tokenizer")
    (folder / "text.txt").write_text(TEXT)
    (folder / "counted.txt").write_text(TEXT * 2)
    settings = {
        "corpus__counts": ["counted.txt"],
        "categories__include": ["pos"],
        "categories__tagger": "rules",
    }
    file = write_study(folder, **settings | changes)
    write_probes(folder, file)
    return file


def swapped(text: str) -> str:
    return text.replace("model", "ledom", 1)


def other_text(folder: Path) -> None:
    (folder / "text.txt").write_text(swapped(TEXT))


def more_documents(folder: Path) -> None:
    with (folder / "text.txt").open("a") as file:
        file.write("\nAnd one more of them.")


def other_counts(folder: Path) -> None:
    (folder / "counted.txt").write_text(swapped(TEXT * 2))


def other_probe(folder: Path) -> None:
    (folder / "long.txt").write_text(swapped((folder / "long.txt").read_text()))


def other_tokenizer(folder: Path) -> None:
    settings = folder / "tokenizer" / "tokenizer.json"
    fields = json.loads(settings.read_text())
    fields["model"]["merges"] = fields["model"]["merges"][:-1]
    fields["pre_tokenizer"]["add_prefix_space"] = True
    settings.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "change", [other_text, more_documents, other_counts, other_probe, other_tokenizer]
)
def test_what_depends_on_something_that_changed_is_made_again(
    tmp_path: Path, cache: Path, change: Callable[[Path], None]
) -> None:
    """Though times and sizes of files may be the same."""
    file = made(tmp_path, corpus__max_tokens=100_000)
    before, _ = start(file)
    times = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
    change(tmp_path)
    for path, found in times.items():
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    after, _ = start(file)
    shutil.rmtree(cache)
    expected, _ = start(file)
    assert_same(after, expected)
    with pytest.raises(AssertionError):
        assert_same(after, before)


def test_settings_are_told_apart(tmp_path: Path, cache: Path) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"tokenizer__bos": "none"},
        {"corpus__max_tokens": 77},
        {"corpus__separator": "."},
        {"scoring__windowing": "document"},
        {"corpus__special_tokens": "text"},
    ]
    for n, changes in enumerate(settings):
        found, _ = start(made(tmp_path, **changes))
        again, _ = start(made(tmp_path, **changes))
        shutil.move(cache, tmp_path / f"cache {n}")
        expected, _ = start(made(tmp_path, **changes))
        assert_same(found, expected)
        assert_same(again, expected)
        shutil.rmtree(cache)
        shutil.move(tmp_path / f"cache {n}", cache)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    np.savez(path, ids=np.zeros(3), count=np.zeros(3), facts=np.zeros(3), texts=np.zeros(3))


def folder_there(path: Path) -> None:
    path.unlink()
    (path / "x").mkdir(parents=True)


def pipe_there(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def of_another(path: Path) -> None:
    """What is kept of each in the place of the next: whole, and somebody else's."""
    others = sorted(path.parent.iterdir())
    path.write_bytes(others[(others.index(path) + 1) % len(others)].read_bytes())


@pytest.mark.parametrize(
    "damage", [flip, cut, empty, foreign, folder_there, pipe_there, of_another]
)
def test_what_is_damaged_is_made_again(
    tmp_path: Path, cache: Path, damage: Callable[[Path], None]
) -> None:
    file = made(tmp_path)
    expected, _ = start(file)
    for path in sorted(cache.iterdir()):
        damage(path)
    found, loaded = start(file)
    assert loaded
    assert_same(found, expected)
    if damage is not folder_there:  # it is in order again
        assert start(file)[1] is False


@pytest.mark.parametrize("where", ["a file", "read-only", "relative", "new home"])
def test_nothing_is_kept_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    file = made(tmp_path)
    match where:
        case "a file":
            (tmp_path / "taken").touch()
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
        case "read-only":
            if os.geteuid() == 0:
                monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
            else:
                home.chmod(0o500)
                monkeypatch.delenv("XDG_CACHE_HOME")
        case "relative":  # as the specification has it, it counts as not set
            monkeypatch.setenv("XDG_CACHE_HOME", "here")
        case "new home":
            monkeypatch.delenv("XDG_CACHE_HOME")
            monkeypatch.setenv("HOME", str(tmp_path / "none"))
    first, _ = start(file)
    second, loaded = start(file)
    assert_same(first, second)
    assert loaded == (where in ("a file", "read-only"))
    assert (home / ".cache" / "seedconv").exists() == (where == "relative")
    assert not Path("here").exists()


def test_it_takes_no_more_room_than_it_may(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived_cache, "MOST_BYTES", 20_000)
    cache.mkdir(parents=True)
    for name in ("notes.txt", "corpus-x.npz"):
        (cache / name).write_bytes(bytes(30_000))
    half_written = cache / f"corpus-{'0' * 32}.npz.1.partial"
    half_written.touch()
    os.utime(half_written, (0, 0))
    for n in range(40):
        derived_cache.keep("counts", f"{n:032x}", {"count": np.full(100, n)})
        os.utime(cache / f"counts-{n:032x}.npz", (n, n))
        assert derived_cache.recall("counts", f"{0:032x}") is not None  # it is used all the time
    ours = sorted(path.name for path in cache.glob("counts-*"))
    assert sum((cache / name).stat().st_size for name in ours) <= 20_000
    assert ours[0] == f"counts-{0:032x}.npz"
    assert ours[1:] == [f"counts-{n:032x}.npz" for n in range(41 - len(ours), 40)]
    assert sorted(path.name for path in cache.iterdir() if path.name not in ours) == [
        "corpus-x.npz",
        "notes.txt",
    ]
    monkeypatch.setattr(derived_cache, "MOST_FILES", 3)
    derived_cache.keep("counts", f"{99:032x}", {"count": np.zeros(1)})
    kept = [f"counts-{n:032x}.npz" for n in (0, 39, 99)]  # 0 was used since
    assert sorted(path.name for path in cache.glob("counts-*")) == kept


def test_what_can_be_read_once_is_read_once(tmp_path: Path, cache: Path) -> None:
    file = made(tmp_path)
    expected, _ = start(file)
    for name in ("text.txt", "counted.txt"):
        (tmp_path / name).rename(tmp_path / f"whole {name}")
        os.mkfifo(tmp_path / name)

    def write() -> None:
        for name in ("text.txt", "counted.txt"):
            (tmp_path / name).write_bytes((tmp_path / f"whole {name}").read_bytes())

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    found, _ = start(file)
    assert_same(found, expected)
    writer.join()
