"""A study in S3 is the same study: moto's server, filled by the client that AWS makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from seedconv_tui.cli.main import run
from store import DamagedError, NotAStudyError, open_study
from tests.support.deadline import DEADLINE
from tests.support.made_store import Clock, committed, fill, open_writer
from tests.support.remote_study import PREFIX, SEEDS, URL, make_study, told, use_endpoint
from tests.support.s3_server import BUCKET

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("template") / "study.zarr")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    use_endpoint(monkeypatch, endpoint)
    made = boto3.client("s3", region_name="us-east-1")
    made.create_bucket(Bucket=BUCKET)
    return made


@pytest.fixture
def bucket(client: Any, template: Path) -> Iterator[Any]:
    """The client of a bucket that holds the study."""
    upload(client, template)
    yield client
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    for found in listed.search("Contents[].Key"):
        client.delete_object(Bucket=BUCKET, Key=found)


def upload(client: Any, folder: Path, *, logs: bool = True) -> None:
    """Copy a study's files, the commit logs last or not at all."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file.parent.name == "commits"):
        if logs or file.parent.name != "commits":
            key = f"{PREFIX}/{file.relative_to(folder).as_posix()}"
            client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())


def test_the_same_values(bucket: Any, template: Path) -> None:
    remote, local = open_study(URL), open_study(template)
    found = committed(remote)
    assert len(found) > 80
    assert found == committed(local)
    assert remote.dataset("m").load().identical(local.dataset("m").load())
    assert (remote.path, remote.name, remote.identity) == (URL, local.name, local.identity)
    for ours, theirs in zip(vars(remote.corpus).values(), vars(local.corpus).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_snapshot(bucket: Any, template: Path) -> None:
    remote, local = open_study(URL).snapshot(), open_study(template).snapshot()
    for name in ("name", "n_tokens", "vocab_size", "generation", "engine", "journal"):
        assert getattr(remote, name) == getattr(local, name)
    assert remote.engine is not None
    assert remote.journal
    (ours,), (theirs,) = remote.models, local.models
    for name, values in vars(theirs).items():
        np.testing.assert_array_equal(getattr(ours, name), values)


def test_growth(bucket: Any, template: Path, tmp_path: Path) -> None:
    """A live study: what the logs say is there, once they are there and not before."""
    study = Path(shutil.copytree(template, tmp_path / "study.zarr"))
    opened = open_study(URL)
    before = committed(opened)
    clock = Clock()
    clock.now += 60
    writer = open_writer(study, clock)
    for step in (100, 101):  # a session that begins, and one that goes on
        fill(writer, "m", SEEDS, (step,))
        upload(bucket, study, logs=False)
        assert not opened.refresh()
        upload(bucket, study)
        assert opened.refresh()
        grown = committed(opened)
        assert grown == committed(open_study(study))
        assert before.items() < grown.items()
        before = grown
    assert not opened.refresh()
    writer.close("stopped")


def test_the_commands(bucket: Any, template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    # The engine of this old study has just beaten, as only the file system's clock shows.
    for store, health in ((URL, "silent"), (str(template), "working")):
        for heartbeat in (template / "status").iterdir():
            heartbeat.touch()
        assert run(["status", store, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report.pop("store") == store
        report["engine"].pop("heartbeat_age")
        report.pop("time")
        assert report.pop("health") == health
        assert bool(report.pop("amiss")) == bool(report.pop("advice")) == (health == "silent")
        reports.append(report)
        assert run(["plot", store, "--ascii", "--width", "80", "--height", "12"]) == 0
        reports.append(capsys.readouterr().out)
        for command in (["compare", store, "--steps", "0", "8"], ["regress", store]):
            assert run([*command, "--category", "third"]) == 0
        reports.append(capsys.readouterr().out)
    assert reports[:3] == reports[3:]
    assert run(["plot", URL, "--model", "n"]) == 2
    assert told(capsys).startswith(f"seedconv: {URL}: no model 'n'")
    assert run(["tui", URL]) == 2  # it is read before the terminal is asked for
    assert "needs a terminal" in told(capsys)


def test_a_command_of_its_own(bucket: Any) -> None:
    command = [sys.executable, "-m", "seedconv_tui.cli.main", "status", "--json", URL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert json.loads(done.stdout)["models"][0]["checkpoints"] == {"done": 9}
    assert not done.stderr


def test_nothing_there(bucket: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for url, why in (
        ("s3://no-such-bucket/study.zarr", "does not exist"),
        (f"s3://{BUCKET}/none.zarr", "does not exist"),
        (f"s3://{BUCKET}/{Path(PREFIX).parent}", "is not a study"),
        (f"{URL}/corpus", "is not a seedconv study"),
        (f"{URL}/models", "is not a seedconv study"),
    ):
        with pytest.raises(NotAStudyError, match=why):
            open_study(url)
        assert run(["status", url]) == 2
        line = told(capsys)
        assert line.startswith(f"seedconv: {url}: {why}")
        assert "seedconv run" not in line


def test_a_missing_object_is_damage(bucket: Any) -> None:
    opened = open_study(URL)
    bucket.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/models/m/kl/c.0.0.0.0")
    with pytest.raises(DamagedError, match=f"{URL}/models/m/kl.*missing, though it was committed"):
        committed(opened)
