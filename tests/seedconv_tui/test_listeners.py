"""What an engine says besides the terminal: events, a log, messages to commands and URLs."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from engine.events import Event
from seedconv_tui.cli.main import run
from seedconv_tui.listeners.log_file import LogFile
from seedconv_tui.listeners.notifier import Message, Notifier
from seedconv_tui.listeners.targets import CommandTarget, UrlTarget
from store.commits.heartbeat import JournalWriter
from store.schema import JournalEntry, Phase
from tests.support.deadline import DEADLINE
from tests.support.made_store import Clock, fill, open_writer
from tests.support.tiny_models import make_runs, write_study

ROOT = Path(__file__).parents[2]
HOSTILE = "a\x1b[2J$(touch pwned) `touch pwned`; <!channel>\nnext"


def documented(heading: str) -> dict[str, set[str]]:
    """Rows of the table below a heading of docs/status.md: names in the first and second column."""
    text = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert rows
    return {row[0].strip("| `"): set(re.findall(r"`(\w+)`", row[1])) for row in rows}


EVENTS = documented("The events of `run` and `watch`")


class Hook:
    """A server on loopback that remembers what is posted to it."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes]] = []  # content type, body
        self.answers: list[int] = []  # of the next requests; then 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posts.append((self.headers["Content-Type"], body))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                raise AssertionError("a redirect was followed")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


def break_weights(folder: Path) -> None:
    """Make weights that can be read and are not finite."""
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    weights[name][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


# -- events --------------------------------------------------------------------------------------


def said_in_the_engine() -> set[str]:
    """Names of events that are written out where something is said."""
    found = set()
    for file in [*(ROOT / "engine").rglob("*.py"), *(ROOT / "seedconv_tui/listeners").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            named = node.func.id if isinstance(node.func, ast.Name) else ""
            at = 2 if called == "_tell" or named in {"Event", "partial"} else None
            at = 1 if called == "say" else at
            if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                found.add(node.args[at].value)
    return found


def test_every_event_is_documented() -> None:
    said = said_in_the_engine()
    assert {"scored", "hub", "telling", "end"} <= said
    assert said - EVENTS.keys() == set()
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "engine").rglob("*.py"))
    for name in EVENTS.keys() - said:
        assert f'"{name}"' in source, f"{name} is documented and never said"


def test_a_run_tells_everybody(
    tmp_path: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (0, 10, 20, 30, 40, 50, 60)
    make_runs(tmp_path, steps=steps)
    study = write_study(tmp_path, log_probs__representation="none")
    for step in steps[:2]:  # comes later
        (tmp_path / f"runs/seed3/step{step}").rename(tmp_path / f"late{step}")
    break_weights(tmp_path / "runs/seed1/step60")
    command = tmp_path / "tell.py"
    command.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "with open('told.jsonl', 'a') as f: f.write(sys.stdin.read() + '\\n')\n"
        "with open('env.txt', 'a') as f: print(sys.argv[1:], os.environ['SEEDCONV_KIND'],"
        " os.environ.get('SEEDCONV_SEED'), file=f)\n"
    )
    command.chmod(0o755)
    with study.open("a") as file:
        file.write("\n[notify]\ncommand = \"./tell.py 'two words' $HOME\"\n")
        file.write(f'url = "{hook.url}"\non = ["phase", "failure", "end"]\n')
    capsys.readouterr()
    assert run(["run", str(study), "--json"]) == 1

    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    for event in events:
        assert set(event) == {"schema", "time", "level", "event", "text", "fields"}
        assert event["schema"] == 1
        assert event["fields"].keys() <= EVENTS[event["event"]]
    end = events[-1]
    assert (end["event"], end["fields"]["how"]) == ("end", "finished")
    assert (end["fields"]["scored"], end["fields"]["failed"]) == (18, 1)
    (phase,) = [event for event in events if event["event"] == "phase"]
    assert phase["fields"]["phase"] == "uniform"

    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    kinds = [message["kind"] for message in told]
    assert sorted(kinds) == ["end", "failure", "phase"]
    assert kinds[-1] == "end"
    assert all(message["study"] == "test" and message["schema"] == 1 for message in told)
    assert [json.loads(body)["kind"] for _, body in hook.posts] == kinds
    arguments = (tmp_path / "env.txt").read_text().splitlines()
    assert "['two words', '$HOME'] failure 1" in arguments

    assert "secret" not in (tmp_path / "study.zarr/zarr.json").read_text()
    log = (tmp_path / "study.log").read_text(encoding="utf-8")
    assert f"process {os.getpid()} on" in log
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d error   .*step60", log, re.M)
    assert re.search(r"step60.*parked.*\n    Traceback.*\n(    .*\n)+    .*CheckpointError", log)
    assert re.search(r"info    finished: 18 scored, \d compared, 1 failed", log)

    # More arrives, and an engine starts again: the phase is no news.
    for step in steps[:2]:
        (tmp_path / f"late{step}").rename(tmp_path / f"runs/seed3/step{step}")
    n_posts = len(hook.posts)
    run(["run", str(study), "--notify", hook.url])
    assert [json.loads(body)["kind"] for _, body in hook.posts[n_posts:]].count("end") == 2
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "told.jsonl").open()]
    assert kinds.count("phase") == 1
    assert kinds.count("end") == 2


# -- messages ------------------------------------------------------------------------------------


class Slow:
    """A target that answers when the test says so, and fails as often as asked."""

    name = "slow"

    def __init__(self, fails: int = 0) -> None:
        self.got: list[Message] = []
        self.tried = 0
        self.go, self._fails = threading.Event(), fails
        self.delivered = threading.Semaphore(0)

    def send(self, message: Message, seconds: float) -> None:
        self.go.wait(DEADLINE)
        self.tried += 1
        if self._fails:
            self._fails -= 1
            raise ConnectionRefusedError("nobody is there")
        self.got.append(message)
        self.delivered.release()


def event(kind: str, text: str = "x", level: Any = "info", **fields: Any) -> Event:
    return Event(1.0, level, kind, text, fields)


def notifier(target: Any, warned: list[str], clock: Clock, waits: Sequence[float]) -> Notifier:
    kinds = ("phase", "outlier", "failure", "end")
    targets = [(target, kinds)]
    return Notifier(targets, "s", "s.zarr", warned.append, clock=clock, waits=waits)


def test_a_target_that_does_not_answer_holds_nobody_up_and_is_warned_of_once() -> None:
    target, warned, clock = Slow(fails=2), list[str](), Clock()
    with notifier(target, warned, clock, waits=(0.0, 0.0)) as told:
        for step in range(300):  # far more than are kept
            told.on_event(event("phase", f"step {step}"))
        told.on_event(event("scored"))  # is no message
        assert not target.got
        target.go.set()
        assert target.delivered.acquire(timeout=DEADLINE)
    assert warned == ["slow was not told: nobody is there"]
    assert 100 <= len(target.got) <= 101  # the newest, and at most one that was being sent
    assert target.got[-1].text == "s: step 299"
    assert target.tried == len(target.got) + 2


def test_many_failures_are_one_message_a_minute() -> None:
    target, warned, clock = Slow(), list[str](), Clock()
    target.go.set()
    with notifier(target, warned, clock, waits=()) as told:
        for n in range(5):
            told.on_event(event("failed", f"checkpoint {n}", "error"))
        assert target.delivered.acquire(timeout=DEADLINE)
        assert [message.text for message in target.got] == ["s: checkpoint 0"]
        clock.now += 61
        told.on_event(event("damaged", "another", "error"))
        assert target.delivered.acquire(timeout=DEADLINE)
        told.on_event(event("failed", "the last", "error"))
        told.on_event(event("end", "over"))
    assert [message.text for message in target.got[1:]] == [
        "s: another (and 4 more since the last message)", "s: the last", "s: over"
    ]  # fmt: skip
    assert {message.kind for message in target.got[:-1]} == {"failure"}
    assert not warned


def test_a_dead_target_does_not_keep_the_engine_from_ending() -> None:
    target, warned, clock = Slow(fails=10**9), list[str](), Clock()
    target.go.set()
    with notifier(target, warned, clock, waits=(3600.0,)) as told:
        told.on_event(event("phase"))
        told.on_event(event("end"))
    assert len(warned) == 1


def message(**fields: Any) -> Message:
    return Message("outlier", "outlier", "warning", 1.0, "s", "s.zarr", HOSTILE, fields)


def test_a_command_gets_what_a_checkpoint_says_as_data(tmp_path: Path) -> None:
    code = "import os, sys, json; json.dump("
    code += "[sys.argv[1:], dict(os.environ), sys.stdin.read()], open('got', 'w'))"
    CommandTarget([sys.executable, "-c", code, "$SEEDCONV_TEXT"], tmp_path).send(
        message(model=HOSTILE, step=3, seed=None), 20
    )
    argv, environment, stdin = json.loads((tmp_path / "got").read_text())
    assert argv == ["$SEEDCONV_TEXT"]
    assert environment["SEEDCONV_MODEL"].startswith("a␛[2J$(touch pwned)")
    assert "\n" not in environment["SEEDCONV_MODEL"]
    assert environment["SEEDCONV_STEP"] == "3"
    assert "SEEDCONV_SEED" not in environment
    assert json.loads(stdin)["fields"] == {"model": HOSTILE, "step": 3, "seed": None}
    assert not (tmp_path / "pwned").exists()


def test_a_command_that_fails_or_hangs_says_so(tmp_path: Path) -> None:
    fails = [sys.executable, "-c", "import sys; sys.exit('no such room')"]
    with pytest.raises(OSError, match="it exited with 1: no such room"):
        CommandTarget(fails, tmp_path).send(message(), 20)
    hangs = ["sh", "-c", "sleep 60 & sleep 60"]
    with pytest.raises(TimeoutError, match="was ended"):
        CommandTarget(hangs, tmp_path).send(message(), 0.2)


def test_a_url_gets_json_or_text(hook: Hook) -> None:
    UrlTarget(hook.url, as_text=False).send(message(step=3), 10)
    UrlTarget(hook.url, as_text=True).send(message(), 10)
    (json_type, body), (text_type, text) = hook.posts
    assert (json_type, text_type) == ("application/json", "text/plain; charset=utf-8")
    told = json.loads(body)
    assert told.keys() == {
        "schema", "kind", "event", "level", "time", "study", "store", "host", "text", "fields"
    }  # fmt: skip
    assert "‹!channel›" in told["text"]
    assert "‹!channel›" in text.decode()


def test_a_url_that_fails_says_so_and_not_its_secret(hook: Hook) -> None:
    target = UrlTarget(hook.url, as_text=False)
    assert target.name == "127.0.0.1"
    for status in (302, 500, 404):
        hook.answers.append(status)
        with pytest.raises(OSError, match=f"it answered {status}"):
            target.send(message(), 10)
    hook.close()
    with pytest.raises(OSError, match="refused"):
        target.send(message(), 10)


# -- logs ----------------------------------------------------------------------------------------


def test_a_log_has_lines_tracebacks_and_warnings_and_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "study.log"

    def fail() -> None:
        raise ValueError(HOSTILE)

    with pytest.raises(ValueError, match="touch"), LogFile(path) as log:
        log.on_event(event("failed", HOSTILE, "error", trace="Traceback\n  in a file"))
        logging.getLogger("some.library").warning("beware\nof this")
        warnings.warn("and of that", stacklevel=1)
        fail()
    logging.getLogger("some.library").warning("nobody listens")
    text = path.read_text(encoding="utf-8")
    assert "\x1b" not in text
    heads = [line for line in text.splitlines() if line[:1] != " "]
    assert len(heads) == 5
    assert heads[1].endswith("error   a␛[2J$(touch pwned) `touch pwned`; <!channel>␊next")
    assert "    Traceback\n      in a file\n" in text
    assert "warning some.library: beware\n    of this\n" in text
    assert "and of that" in text
    assert "error   ended by ValueError" in text
    assert "in fail" in text
    assert "nobody listens" not in text

    with LogFile(path, most_bytes=2000) as log:
        for n in range(200):
            log.on_event(event("scored", f"line {n}"))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["study.log", "study.log.1", "study.log.2", "study.log.3"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert path.read_text().splitlines()[-1].endswith("line 199")


def test_a_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    journal = JournalWriter(tmp_path, "me", most_bytes=10_000)
    for n in range(1000):
        journal.append(JournalEntry(float(n), "info", "scored", f"line {n}"))
    journal.close()
    (file,) = (tmp_path / "journal").iterdir()
    assert file.stat().st_size <= 10_100
    kept = [json.loads(line)["text"] for line in file.read_text().splitlines()]
    assert len(kept) > 50
    assert kept == [f"line {n}" for n in range(1000 - len(kept), 1000)]


# -- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "options", "expected"),
    [
        ('[notify]\nurl = "ftp://x"', [], "notify.url: should start with http:// or https://"),
        ('[notify]\non = ["phases"]', [], "notify.on: first entry: should be 'phase', 'outlier'"),
        ('[notify]\ncommand = "say \'x"', [], "notify.command: is not a command line: no closing"),
        ('[notify]\ncommand = "no-such-program"', [], "there is no program 'no-such-program'"),
        ('[scalars]\ncategories = ["pos", "x"]', [], "scalars.categories: no category is named"),
        ("", ["--notify", "ftp://x/y"], "--notify: should start with http:// or https://"),
        ("", ["--notify", "https://x/y z"], "--notify: should start with http:// or https://"),
        ("", ["--notify", " "], "--notify: should be a URL or a command line"),
        ("", ["--log", "/dev/null/x.log"], "--log /dev/null/x.log: cannot be written: Not a dir"),
        ("", ["--metrics-port", "99999"], "--metrics-port 99999: cannot serve"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    section: str,
    options: list[str],
    expected: str,
) -> None:
    study = write_study(tmp_path)
    with study.open("a") as file:
        file.write(f"\n{section}\n")
    assert run(["run", str(study), *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert not (tmp_path / "study.zarr").exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["run", str(write_study(tmp_path)), "--metrics-port", port]) == 2
    assert f"--metrics-port {port}: cannot serve at 127.0.0.1: Address already in use" in (
        capsys.readouterr().err
    )


def test_a_phase_of_half_a_curve_is_not_told_for_good(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "12", [10])
    phases = (Phase("uniform", 10),)
    writer.set_phases("m", phases, settled=False)  # earlier steps wait
    assert writer.study().model_snapshot("m").phases == phases
    assert not writer.study().ledger("m").phases_seen
    for _ in range(2):
        writer.set_phases("m", phases)
    assert writer.study().ledger("m").phases_seen == {"uniform"}
    log = (tmp_path / "study.zarr/commits/1.log").read_text()
    assert log.count('"kind":"phases"') == 2
    writer.set_phases("m", (Phase("uniform", 0), Phase("sharp convergence", 10)), settled=False)
    assert writer.study().ledger("m").phases_seen == {"uniform"}
