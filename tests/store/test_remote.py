"""A study in an object store that grows, breaks, stays silent or goes away: the study, or an error.

The server is our own, which counts requests and can fail; test_store_s3.py has a complete one.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.app import SeedconvApp
from seedconv_tui.monitor.data.live import StoreSource
from store import DamagedError, NotAStudyError, RemoteError, UnsupportedError, open_study
from store.schema import ResultPart, log_probs_path
from store.writing import StudyWriter
from tests.support.deadline import DEADLINE
from tests.support.loose import loosen
from tests.support.made_store import (
    Clock,
    committed,
    fill,
    open_writer,
    reduce,
    score,
)
from tests.support.remote_study import PREFIX, SEEDS, URL, make_study, told, use_endpoint
from tests.support.s3_server import S3Server


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("template") / "study.zarr")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    made = S3Server()
    use_endpoint(monkeypatch, made.endpoint)
    yield made
    made.close()


@pytest.fixture
def bucket(server: S3Server, template: Path) -> S3Server:
    server.upload(template, PREFIX)
    return server


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    """A copy of the study that can grow."""
    return Path(shutil.copytree(template, tmp_path / "study.zarr"))


# -- the same study ------------------------------------------------------------------------------


async def test_the_monitor(bucket: S3Server) -> None:
    app = SeedconvApp(StoreSource(URL, rest_seconds=0), poll_seconds=86_400)
    async with app.run_test() as pilot:
        for trouble in ("", f"{URL}/commits: cannot be read", ""):
            if app.reading is not None:
                app.reading.join()
            await pilot.pause()
            assert app.feed.trouble.startswith(trouble)
            assert bool(app.feed.trouble) == bool(trouble)
            assert app.feed.snapshot is not None
            assert app.feed.snapshot.path == URL
            bucket.closed = not bucket.closed  # goes away, comes back
            app.poll()


def test_a_web_server(server: S3Server, template: Path, tmp_path: Path) -> None:
    """Without listing: what cannot be listed is not asked for."""
    shutil.copytree(template, tmp_path / "a b" / "study.zarr")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as web:
        try:
            assert web.stdout is not None
            port = web.stdout.readline().split()[5]
            opened = open_study(f"http://127.0.0.1:{port}/a%20b/study.zarr/")
            assert committed(opened) == committed(open_study(template))
            assert not opened.refresh()
            with pytest.raises(NotAStudyError, match="is not a study"):
                open_study(f"http://127.0.0.1:{port}/a%20b")
        finally:
            web.terminate()


# -- how often it is asked -----------------------------------------------------------------------


async def test_the_monitor_asks_nothing_twice(bucket: S3Server) -> None:
    """Nothing while a finished study does not change; a new one at its address is still seen."""
    source = StoreSource(URL, rest_seconds=86_400)
    app = SeedconvApp(source, poll_seconds=86_400)
    async with app.run_test(size=(120, 40)) as pilot:

        async def settle() -> None:
            while app.feed.snapshot is None or app.reading is not None or app.details.busy:
                await pilot.pause()

        await settle()
        first = [key for _, key, _ in bucket.asked]
        assert len(first) <= 12
        app.poll()
        await settle()
        assert len(bucket.asked) == len(first)
        await pilot.press("4")
        for _ in range(10):  # an answer may ask for more
            await pilot.pause()
            await settle()
        asked = [key for _, key, _ in bucket.asked]
        assert [key for key in asked if asked.count(key) > 1] == []
        assert not any(key.endswith("kl/zarr.json") for key in asked)
        strips = app.screen._compositor.render_strips()
        assert "read every 1 d" in "".join(strip.text for strip in strips)


def test_a_pack_is_asked_for_once(bucket: S3Server) -> None:
    """All that a screen needs, before any of it is read; a pack that was deleted is found then."""
    parts = [ResultPart("m", "kl", 8, i, j) for i in SEEDS for j in SEEDS if i != j]
    opened = open_study(URL)
    bucket.asked.clear()
    opened.fetch(parts)
    assert len(bucket.asked) == 1
    for part in parts:
        assert len(opened.values("m", "kl", str(part.seed), 8, part.other)) == opened.n_tokens
    assert len(bucket.asked) == 1
    opened = open_study(URL)
    bucket.delete(f"{PREFIX}/models/m/kl/c.2.0.0.0")
    opened.fetch(parts)
    with pytest.raises(DamagedError, match=r"kl/c\.2\.0\.0\.0: missing, though it was committed"):
        opened.values("m", "kl", SEEDS[0], 8, SEEDS[1])


def test_chunks_are_asked_for_at_once(bucket: S3Server, study: Path) -> None:
    """All that a screen needs, before any of it is read; damage is found when it is read."""
    loosen(study)
    for key in list(bucket.objects):
        bucket.delete(key)
    bucket.upload(study, PREFIX)
    opened = open_study(URL)
    parts = [ResultPart("m", "kl", 8, i, j) for i in SEEDS for j in SEEDS if i != j]
    loose = f"{PREFIX}/models/m/loose/kl/c/2"
    bucket.delete(f"{loose}/0/1/0")
    bucket.put(f"{loose}/1/0/0", bucket.objects[f"{loose}/1/2/0"])
    bucket.asked.clear()
    opened.fetch([*parts, ResultPart("m", "kl", 8, "1", "no such seed")])
    assert len(bucket.asked) == len(parts) + 2  # whether there is a pack, and since then one
    bucket.asked.clear()
    assert len(opened.values("m", "kl", SEEDS[0], 8, SEEDS[2])) == opened.n_tokens
    assert not bucket.asked
    with pytest.raises(DamagedError, match=r"kl/c\.2\.0\.0\.0: missing, though it was committed"):
        opened.values("m", "kl", SEEDS[0], 8, SEEDS[1])
    with pytest.raises(DamagedError, match="kl/c/2/1/0/0: is not what was committed"):
        opened.values("m", "kl", SEEDS[1], 8, SEEDS[0])


def test_another_study_at_its_address_is_seen_after_the_rest(
    bucket: S3Server, tmp_path: Path
) -> None:
    source = StoreSource(URL, rest_seconds=86_400)
    before = source.snapshot()
    other = make_study(tmp_path / "other.zarr")
    for key in list(bucket.objects):
        bucket.delete(key)
    bucket.upload(other, PREFIX)
    assert source.snapshot().replaced == before.replaced  # not asked
    source.study().files.rest(0)
    assert source.snapshot().replaced == before.replaced + 1
    assert committed(source.study()) == committed(open_study(other))


# -- growth --------------------------------------------------------------------------------------


def test_growth_is_seen_and_only_new_bytes_are_read(bucket: S3Server, study: Path) -> None:
    opened = open_study(URL)
    before = committed(opened)
    log = (study / "commits/1.log").stat().st_size
    clock = Clock()
    clock.now += 60
    writer = open_writer(study, clock)
    fill(writer, "m", SEEDS, (100, 101))
    bucket.upload(study, PREFIX)
    assert opened.refresh()
    first = (study / "commits/2.log").stat().st_size
    fill(writer, "m", SEEDS, (102,))
    bucket.upload(study, PREFIX)
    bucket.asked.clear()
    assert opened.refresh()
    read = sum(sent for method, key, sent in bucket.asked if key.endswith(".log"))
    assert read == (study / "commits/2.log").stat().st_size - first
    assert read < log
    found = committed(opened)
    assert found == committed(open_study(study))
    assert before.items() < found.items()
    bucket.asked.clear()
    assert not opened.refresh()
    assert [key for _, key, _ in bucket.asked] == [f"{PREFIX}/commits/"]
    writer.close("stopped")


def test_what_did_not_change_is_not_read_again(bucket: S3Server, study: Path) -> None:
    opened = open_study(URL)
    shown = opened.snapshot()
    bucket.asked.clear()
    assert opened.snapshot().journal == shown.journal
    sent = {key.removeprefix(f"{PREFIX}/"): n_bytes for _, key, n_bytes in bucket.asked}
    assert sent.pop("commits/") > 0  # which files there are, and their versions
    assert len(sent) == len(bucket.asked) - 1 == 2  # heartbeat and journal, or whether they changed
    assert set(sent.values()) == {0}


@pytest.mark.parametrize("old", ["models/m/mean_kl", "models/m/kl", "models/m/cross_entropy"])
def test_a_log_that_arrives_before_its_data(bucket: S3Server, study: Path, old: str) -> None:
    """Never a number: an error until the data are there, then the same as where it was written."""
    opened = open_study(URL)
    known = opened.snapshot()
    clock = Clock()
    clock.now += 60
    writer = open_writer(study, clock)
    writer.plan("m", [("late", 8)], {})
    score(writer, "m", "late", 8)
    reduce(writer, "m", 8, (*SEEDS, "late"))
    writer.close("finished")
    late = {file for file in bucket.objects if file.startswith(f"{PREFIX}/{old}/")}
    stale = {key: bucket.objects[key] for key in late}
    bucket.upload(study, PREFIX)
    for key in [key for key in bucket.objects if key.startswith(f"{PREFIX}/{old}/")]:
        bucket.delete(key)
    bucket.objects.update(stale)
    opened.refresh()
    for attempt in (opened, open_study(URL)):
        if old == "models/m/kl":
            with pytest.raises(DamagedError, match="kl"):
                committed(attempt)
        else:  # the log holds these numbers, and the snapshot has them from there
            assert committed(attempt) == committed(open_study(study))
            with pytest.raises(DamagedError, match=Path(old).name):
                attempt.means("m", Path(old).name)
        with pytest.raises(DamagedError, match=Path(old).name):
            attempt.dataset("m")[Path(old).name].load()
    bucket.upload(study, PREFIX)
    assert committed(opened) == committed(open_study(study))
    assert opened.snapshot().generation > known.generation


def test_logs_that_arrive_in_the_wrong_order(bucket: S3Server, study: Path) -> None:
    opened = open_study(URL)
    clock = Clock()
    for step in (100, 101):
        clock.now += 60
        writer = open_writer(study, clock)
        fill(writer, "m", SEEDS, (step,))
        writer.close("stopped")
    bucket.upload(study, PREFIX)
    second = bucket.objects[f"{PREFIX}/commits/2.log"]
    bucket.put(f"{PREFIX}/commits/2.log", second[: len(second) // 2])
    with pytest.raises(DamagedError, match=r"commits/2.log.*"):
        opened.refresh()
    bucket.delete(f"{PREFIX}/commits/2.log")
    with pytest.raises(DamagedError, match=r"commits/2.log: missing"):
        open_study(URL)
    bucket.put(f"{PREFIX}/commits/2.log", second)
    assert opened.refresh()
    assert committed(opened) == committed(open_study(study))


def test_a_missing_chunk_is_damage(bucket: S3Server) -> None:
    opened = open_study(URL)
    bucket.delete(f"{PREFIX}/models/m/kl/c.0.0.0.0")
    with pytest.raises(DamagedError, match=f"{URL}/models/m/kl.*missing, though it was committed"):
        committed(opened)
    folder = f"{PREFIX}/{log_probs_path('m', '1', 0)}"
    bucket.delete(f"{folder}/c/0/0")
    with pytest.raises(DamagedError, match="missing, though it was committed"):
        open_study(URL).log_probs("m", "1", 0)[0:5]
    bucket.delete(f"{folder}/zarr.json")
    with pytest.raises(DamagedError, match="no readable array"):
        opened.log_probs("m", "1", 0)
    bucket.delete(f"{PREFIX}/commits/1.log")
    with pytest.raises(DamagedError, match=f"{URL}/commits/1.log: missing"):
        opened.refresh()


def test_nothing_outside_the_prefix_is_asked_for(bucket: S3Server, study: Path) -> None:
    from store.commits.log import encode

    bucket.put("runs/secret.json", b"{}")
    for name in ("../../../secret", "/../../secret", "a/./../../../../runs/secret", "%2E%2E/x"):
        end = encode({"kind": "session", "follows_bytes": 0, "writer": name, "time": 0})
        bucket.objects.pop(f"{PREFIX}/commits/1.end", None)
        bucket.put(f"{PREFIX}/commits/1.log", end)
        bucket.asked.clear()
        assert open_study(URL).snapshot().engine is None
        assert all(key.startswith(PREFIX) for _, key, _ in bucket.asked)


# -- what cannot be read -------------------------------------------------------------------------


def test_no_answer(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # a port that nobody else gets, and that refuses
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert run(["status", URL]) == 1
        assert "cannot be read; check the address, the network" in told(capsys)
        silent.listen(8)  # accepts, and says nothing
        monkeypatch.setenv("AWS_TIMEOUT", "1s")
        assert run(["status", URL]) == 1
        assert "cannot be read" in told(capsys)
        silent.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
        assert 1 <= asked <= 4  # it is not asked for minutes
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert run(["status", URL]) == 1
    assert "set AWS_ALLOW_HTTP=true" in told(capsys)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://no-such-host.invalid")
    assert run(["plot", URL]) == 1
    assert "cannot be read" in told(capsys)


def test_a_store_that_goes_away(bucket: S3Server) -> None:
    opened = open_study(URL)
    bucket.close()
    with pytest.raises(RemoteError, match=f"{URL}/commits: cannot be read"):
        opened.refresh()
    with pytest.raises(RemoteError, match=f"{URL}/models/m/kl"):
        opened.values("m", "kl", "1", 0, "2")


def test_access_denied(bucket: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(RemoteError, match="access denied; it takes the right to read"):
        open_study(URL)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://user:topsecret@bucket/x", "has no user, password.*AWS_ACCESS_KEY_ID"),
        ("https://user:topsecret@host/x", "has no user, password"),
        ("https://host/x?sig=topsecret", "has no user, password"),
        ("https://host:topsecret/x", "is not a URL"),
        ("s3:///x", "not a store's address"),
        ("s3://bucket/../other/x", "not a store's address"),
        ("ftp://host/topsecret", "ftp:// stores cannot be read"),
    ],
)
def test_addresses_that_are_none(url: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError, match=why):
        open_study(url)
    assert run(["status", url]) == 2
    told(capsys)


# -- what is not done ----------------------------------------------------------------------------


def test_a_remote_study_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for address in (URL, "s3://b/x", str(Path("s3://b/x")), str(Path("/tmp/https://h/x"))):
        with pytest.raises(UnsupportedError, match="written to a file system"):
            open_writer(Path(address))
        with pytest.raises(UnsupportedError, match="written to a file system"):
            StudyWriter(Path(address))
    assert run(["init", "study.toml"]) == 0
    file = Path("study.toml")
    file.write_text(file.read_text().replace('"study.zarr" ', f'"{URL}" '))
    capsys.readouterr()
    for command in ("run", "watch"):
        assert run([command, "study.toml"]) == 2
        assert "a study is written to a file system, not to s3://" in told(capsys)
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.toml"]


def test_without_the_extra(template: Path) -> None:
    """Local studies are read without obstore, remote ones say what is missing."""
    code = (
        "import sys; from store import open_study; from seedconv_tui.cli.main import run\n"
        f"open_study({str(template)!r}).snapshot()\n"
        "assert not any('obstore' in name and 'zarr' not in name for name in sys.modules)\n"
        "sys.modules['obstore'] = None\n"
        "sys.exit(run(['status', 's3://bucket/study.zarr']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "seedconv: a remote store needs obstore, which is not installed: "
        "pip install 'seedconv-tui[remote]'"
    ]
