"""Metrics of a study in the Prometheus text format, over HTTP while an engine works.

They are a view of the store, like `seedconv status`: what is not committed is not told. Needs the
extra `metrics`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from seedconv_tui.health import blocked, states
from seedconv_tui.listeners.metrics_server import MetricsServer
from store import StoreError, UnsupportedError, from_extra
from store.schema import UNDECIDED, ModelSnapshot, StudySnapshot

with from_extra("--metrics-port", "metrics"):
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

_ENGINE = (  # name, help, field of EngineStatus
    ("heartbeat_time_seconds", "Unix time of the engine's last heartbeat.", "heartbeat"),
    ("start_time_seconds", "Unix time at which the engine started.", "started"),
    ("tokens_per_second", "Tokens scored per second of work.", "tokens_per_second"),
    ("queued_checkpoints", "Checkpoints that are there and wait to be scored.", "queued"),
    ("eta_seconds", "Seconds until these are scored, about.", "eta_seconds"),
    ("written_bytes", "Bytes that the engine has written.", "bytes_written"),
    ("disk_free_bytes", "Bytes free where the store lies.", "disk_free"),
)
_ENGINE_STATES = ("starting", "working", "waiting", "finished", "stopped", "failed")


@contextlib.contextmanager
def serve(
    store: Path, host: str, port: int, warn: Callable[[str], None] = lambda text: None
) -> Iterator[int]:
    """Serve the metrics of the store at `http://host:port/metrics`; yields the port.

    The store need not be there yet. Port 0 takes a free one. `warn` is called with what keeps
    others from reading metrics. Raise UnsupportedError when the port is taken or there is no such
    host.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Store(store))
    try:
        server = MetricsServer(host, port, make_wsgi_app(registry), warn)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnsupportedError(
            f"--metrics-port {port}: cannot serve at {host}: {reason}; choose another"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Store(Collector):
    """Looks into the store each time it is asked."""

    def __init__(self, path: Path) -> None:
        from store import Study, open_study

        self._path, self._open = path, open_study
        self._study: Study | None = None
        self._lock = threading.Lock()  # two may ask at a time

    def collect(self) -> Iterable[Metric]:
        try:
            with self._lock:
                if self._study is None:
                    self._study = self._open(self._path)
                snapshot = self._study.snapshot()
        except (StoreError, OSError):
            return []
        return metrics(snapshot)


def metrics(snapshot: StudySnapshot) -> Iterator[Metric]:
    """Yield all metrics of a study. Labels hold names from outside; the format escapes them."""
    stored = GaugeMetricFamily("seedconv_log_probs_bytes", "Bytes that stored log-probs take.")
    stored.add_metric([], snapshot.bytes_stored)
    yield stored
    yield from _of_engine(snapshot)
    yield from _of_models(snapshot.models)


def _of_engine(snapshot: StudySnapshot) -> Iterator[Metric]:
    if (engine := snapshot.engine) is None:
        return
    for name, text, field in _ENGINE:
        if (value := getattr(engine, field)) is not None:
            yield GaugeMetricFamily(f"seedconv_{name}", text, value=value)
    state = GaugeMetricFamily(
        "seedconv_engine_state", "1 for the state the engine is in, else 0.", labels=["state"]
    )
    for name in _ENGINE_STATES:
        state.add_metric([name], name == engine.state)
    yield state
    yield GaugeMetricFamily(
        "seedconv_engine_blocked",
        "1 while the engine cannot write to the study, as on a full disk, else 0.",
        value=bool(blocked(snapshot)),
    )


def _label(name: str) -> str:
    """Return a name as UTF-8, which a folder's need not be; Prometheus escapes all else."""
    return name.encode(errors="backslashreplace").decode()


def _of_models(models: Iterable[ModelSnapshot]) -> Iterator[Metric]:
    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"seedconv_{name}", text, labels=["model", *labels])

    newest = "of the newest step whose seeds were compared"
    kl = gauge("expected_kl_nats", f"Expected KL {newest}.")
    ends = gauge("expected_kl_interval_nats", f"Its 95 % interval, {newest}.", "end")
    left_out = gauge("pairs_left_out", f"Pairs whose KL is not finite, {newest}: it lacks them.")
    step = gauge("newest_step", "The newest step whose seeds were compared.")
    cross_entropy = gauge("cross_entropy_nats", f"Mean surprisal {newest}.", "seed")
    checkpoints = gauge("checkpoints", "Checkpoints by where they stand.", "state")
    probes = gauge("probe_failures", "Scored checkpoints that could not be asked it.", "probe")
    phase = gauge("phase_start_step", "The phase of training, and where it starts.", "phase")
    for model in models:
        named = _label(model.name)
        for state, n in states(model).items():
            checkpoints.add_metric([named, state], n)
        for probe in model.probed:
            n = sum(name == probe for name, *_ in model.probe_failures)
            probes.add_metric([named, _label(probe)], n)
        if model.phases:
            now = model.phases[-1]
            phase.add_metric([named, now.name or UNDECIDED], now.start)
        reduced = np.flatnonzero(model.n_pairs)
        if not len(reduced):
            continue
        at = reduced[-1]
        kl.add_metric([named], model.expected_kl[at])
        left_out.add_metric([named], model.n_left_out[at])
        step.add_metric([named], model.steps[at])
        if model.kl_interval is not None and np.isfinite(model.kl_interval[at]).all():
            for end, value in zip(("low", "high"), model.kl_interval[at], strict=True):
                ends.add_metric([named, end], value)
        for seed, value in zip(model.seeds, model.cross_entropy[at], strict=True):
            if np.isfinite(value):
                cross_entropy.add_metric([named, _label(seed)], value)
    yield from (kl, ends, left_out, step, cross_entropy, checkpoints, probes, phase)
