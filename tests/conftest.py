"""Tests never use the network: the Hub's client refuses at once instead of trying for a minute.

Nor do they touch anybody's home. Code that comes with checkpoints is kept as transformers does it,
in one folder for the process.
"""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forked_engine import Engines
from tests.support.hub_server import HubServer
from tests.support.small_disk import SmallDisk

_LONGEST = {"test_report", "test_tui_everywhere", "test_verify"}

gc.disable()  # while all modules are imported, of which nothing can go
os.environ["HF_HUB_OFFLINE"] = "1"
_modules = tempfile.TemporaryDirectory(prefix="seedconv-tests-")  # gone when the process ends
os.environ["HF_MODULES_CACHE"] = _modules.name
_state = tempfile.TemporaryDirectory(prefix="seedconv-tests-")  # what the terminal remembers
os.environ["XDG_STATE_HOME"] = _state.name
_cache = tempfile.TemporaryDirectory(prefix="seedconv-tests-")  # what was computed of text
os.environ["XDG_CACHE_HOME"] = _cache.name
(Path(_state.name) / "seedconv").mkdir(mode=0o700)
(Path(_state.name) / "seedconv" / "toured").touch()  # no first start, which begins with a tour


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: those who share out the files then end together."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def pytest_collection_finish() -> None:
    """Collect garbage, but seldom, and never look at what was imported again."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)  # 700, 10 and 10 took a thirtieth of the time
    gc.enable()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on loopback that the client takes for the only one; its cache is the test's own."""
    from huggingface_hub import constants

    server = HubServer()
    files = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk whose size can be set; the test is skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SmallDisk(folder)
    yield disk
    disk.unmount()


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """Engines that start at once: what they import is imported once for a process of tests."""
    with Engines() as started:
        yield started


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the studies of `tests.support.compared_studies`; never changed.

    Processes that share out a session's tests share it: the first that asks makes it.
    """
    from filelock import FileLock

    from tests.support.compared_studies import make_compared

    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compared"
    with FileLock(made.with_suffix(".lock")):
        if not made.exists():
            make_compared(made.with_suffix(".making"))
            made.with_suffix(".making").rename(made)
    return made
