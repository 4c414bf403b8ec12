"""What tests of remote reading share: a finished study, and how a client finds an S3 endpoint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.schema import JournalEntry
from tests.support.made_store import beat, fill, open_writer
from tests.support.s3_server import BUCKET

PREFIX = "runs/50% of é/study.zarr"  # names are taken unchanged, not as encoded URLs
URL = f"s3://{BUCKET}/{PREFIX}"
SEEDS, STEPS = ("1", "2", "x y/z"), (64, 0, 8)


def make_study(path: Path) -> Path:
    """A finished study with a line in its journal and a heartbeat."""
    writer = open_writer(path)
    fill(writer, "m", SEEDS, STEPS)
    writer.log(JournalEntry(1.0, "info", "scored", "a line"))
    beat(writer, 1_700_000_000.0)
    writer.close("finished")
    return path


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let clients find this endpoint, and nothing else that the environment may hold."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seedconv: ")
    assert "topsecret" not in line
    return line
