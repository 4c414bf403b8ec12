"""The Hub's client: patient where waiting helps, brief where it does not."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants, hf_hub_download

from engine.errors import Interrupted
from engine.sources.hub import fetch_tokenizer
from engine.sources.hub_client import HubClient
from engine.sources.hub_errors import HubError
from tests.support.hub_server import HubServer
from tests.support.tiny_models import make_tokenizer

SMALL = {"config.json": b"{}", "model.safetensors": bytes(1000)}


class Waits(list[float]):
    """Seconds that were to be waited, none of which pass."""

    def __call__(self, seconds: float) -> bool:
        self.append(seconds)
        return False


def client(waits: Waits | None = None) -> HubClient:
    return HubClient(Event(), Waits() if waits is None else waits)


def test_refusals_are_waited_out_as_long_as_told(hub: HubServer) -> None:
    commit = hub.push("lab/m", "x", SMALL)
    waits, told = Waits(), list[str]()
    patient = HubClient(Event(), waits, told.append)
    hub.refuse("/refs", 429, times=2, Retry_After="7")
    assert patient.revisions("lab/m") == {"x": commit}
    hub.refuse("/resolve/", 503, times=3)
    file = patient.download("lab/m", "x", "model.safetensors")
    assert file.read_bytes() == SMALL["model.safetensors"]
    hub.refuse("/tree/", 429, RateLimit='"api";r=0;t=55')
    assert patient.files("lab/m", commit) == set(SMALL)
    hub.refuse("/api/models", 500)
    assert patient.repositories("lab", "m") == {"lab/m": None}
    assert waits == [7, 7, 1, 2, 4, 55, 1]
    said = f"lab/m: {hub.endpoint} answers 429 (too many requests); waiting"
    assert told == [f"{said} 7 s", f"{said} 7 s", f"{said} 55 s"]


def test_a_refused_download_is_put_again(hub: HubServer) -> None:
    hub.push("lab/m", "x", SMALL)
    turns = iter([True, False])

    def refuse_the_get(name: str) -> None:
        if next(turns, False):
            raise ConnectionResetError

    hub.sending = refuse_the_get
    file = client().download("lab/m", "x", "model.safetensors")
    assert file.read_bytes() == SMALL["model.safetensors"]


def test_patience_has_an_end(hub: HubServer) -> None:
    hub.push("lab/m", "x", SMALL)
    waits = Waits()
    hub.refuse("/refs", 429, times=99, Retry_After="3600")
    with pytest.raises(
        HubError, match=r"answers 429 \(too many requests\); .* wait 3600 s"
    ) as told:
        client(waits).revisions("lab/m")
    assert told.value.passing
    assert waits == []
    hub.refuse("/tree/", 504, times=99)
    with pytest.raises(HubError, match=r"answers 504; gave up after 8 tries$"):
        client(waits).files("lab/m", "x")
    assert waits == [1, 2, 4, 8, 16, 32, 64]


def test_silence_is_not_waited_out_for_ever(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.push("lab/m", "x", SMALL)
    monkeypatch.setattr("engine.sources.hub_patience.TIMEOUT", 0.2)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.refuse("/refs", 0)
    hub.refuse("/tree/", 0)
    assert client().revisions("lab/m") == {"x": commit}
    assert client().files("lab/m", commit) == set(SMALL)


@pytest.mark.parametrize(
    ("at_once", "expected"),
    [
        (3, "does not begin to answer within 0 s"),
        (1000, r"(sends \d+ bytes a second|does not end its answer within 0 s)"),
    ],
)
@pytest.mark.parametrize("connected", [False, True])
def test_a_server_that_trickles_is_given_up(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, at_once: int, expected: str, connected: bool
) -> None:
    commit = hub.push("lab/m", "x", SMALL)
    patient = client()
    if connected:  # so that a connection is there already
        assert patient.revisions("lab/m") == {"x": commit}
    for limit in ("ANSWER", "WINDOW", "WHOLE"):
        monkeypatch.setattr(f"engine.sources.hub_pace.{limit}_SECONDS", 0.3)
    hub.trickles = [("/refs", at_once), ("/tree/", at_once), ("/resolve/", at_once)]
    for ask in (
        lambda: patient.revisions("lab/m"),
        lambda: patient.files("lab/m", commit),
        lambda: patient.download("lab/m", "x", "model.safetensors"),
    ):
        with pytest.raises(HubError, match=f"{hub.endpoint} {expected}; given up$") as told:
            ask()
        assert told.value.passing
    hub.trickles = []
    assert patient.download("lab/m", "x", "model.safetensors").read_bytes() == bytes(1000)
    assert patient.files("lab/m", commit) == set(SMALL)


def test_a_slow_answer_that_comes_is_taken(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("lab/m", "x", SMALL)
    monkeypatch.setattr("engine.sources.hub_pace.WINDOW_SECONDS", 1e-9)  # looks at every part
    monkeypatch.setattr("engine.sources.hub_pace.LEAST_RATE", 0)
    file = client().download("lab/m", "x", "model.safetensors")
    assert file.read_bytes() == SMALL["model.safetensors"]


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    hub.push("lab/m", "x", {"model.safetensors": data})
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is less is thrown away
    hub.cuts = [("model.safetensors", 0.5), ("model.safetensors", 0.5)]
    assert client().download("lab/m", "x", "model.safetensors").read_bytes() == data
    ranges = [asked for method, path, asked in hub.asked if method == "GET" and "resolve" in path]
    assert len(ranges) == 3
    assert ranges[0] == ""
    assert all(text.startswith("bytes=") and text != "bytes=0-" for text in ranges[1:])


def test_storage_that_fails_in_ways_of_its_own_is_tried_again(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push("lab/m", "x", SMALL)
    failures = iter([RuntimeError("storage service: timer expired\ndetails")])

    def download(*args: Any, **settings: Any) -> str:  # that storage cannot be had on loopback
        for error in failures:
            raise error
        return hf_hub_download(*args, **settings)

    monkeypatch.setattr("engine.sources.hub_patience.hf_hub_download", download)
    waits = Waits()
    assert client(waits).download("lab/m", "x", "config.json").read_bytes() == b"{}"
    assert waits == [1]


def test_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "nonsense")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(HubError, match=r"^lab/m: nonsense is no address .*; see HF_ENDPOINT$"):
        client().revisions("lab/m")
    with pytest.raises(HubError, match="--"):
        client().revisions("lab/--no--name--")


def test_a_request_to_stop_is_heard_while_waiting_and_while_downloading(hub: HubServer) -> None:
    hub.push("lab/m", "x", SMALL)
    stop = Event()

    def stopping(_: float) -> bool:
        stop.set()
        return True

    hub.refuse("/refs", 429, Retry_After="300")
    with pytest.raises(Interrupted, match="waiting"):
        HubClient(stop, stopping).revisions("lab/m")
    with pytest.raises(Interrupted, match="downloading"):
        HubClient(stop).download("lab/m", "x", "model.safetensors")


def test_a_tokenizer_comes_from_the_hub_as_patiently(tmp_path: Path, hub: HubServer) -> None:
    make_tokenizer(tmp_path / "tokenizer")
    hub.push("lab/tok", "v1", {**read(tmp_path / "tokenizer"), "model.safetensors": b"large"})
    hub.refuse("tokenizer.json", 429, Retry_After="5")
    waits = Waits()
    folder = fetch_tokenizer(client(waits), "lab/tok", "v1")
    assert read(folder) == read(tmp_path / "tokenizer")
    assert waits == [5]
    with pytest.raises(HubError, match="lab/tok@v2: there is no such revision"):
        fetch_tokenizer(client(), "lab/tok", "v2")


def read(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
