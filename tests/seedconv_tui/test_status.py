"""`seedconv status` and the metrics: what they say is documented, and what is wrong is said."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from seedconv_tui.cli.main import run
from seedconv_tui.cli.study_status import status_json, status_text
from seedconv_tui.health import advice, health, troubled
from seedconv_tui.listeners.prometheus import metrics, serve
from seedconv_tui.text import json_text
from store.analysis import TextAgreement
from store.schema import Failure, Gpu, Phase, State, StudySnapshot
from tests.support.deadline import DEADLINE
from tests.support.made_store import beat, fill, open_writer
from tests.support.terminal import START, make_engine, make_model, make_study

DOCS = (Path(__file__).parents[2] / "docs" / "status.md").read_text(encoding="utf-8")
HOSTILE = 'm"\\\n\x1b[2J{a="b"} 1'


def documented(heading: str) -> set[str]:
    """Names in the first column of the tables below a heading."""
    section = DOCS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([^`]+)`", "".join(rows)))


def paths(value: Any, path: str = "") -> set[str]:
    """Every field of a report, `a.b[].c`; `checkpoints` has a field for each state."""
    found = {path} - {""}
    if isinstance(value, dict) and not path.endswith("checkpoints"):
        for key, inner in value.items():
            found |= paths(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                found |= paths(inner, f"{path}[]") - {f"{path}[]"}
    return found


def everything() -> StudySnapshot:
    """A study that has everything that can be reported."""
    model = make_model(n_done=8, failed=(8, 0))
    model.kl[0, 0, 1] = np.inf
    state = model.state.copy()
    state[9, 1] = State.MISSING
    model = replace(
        model,
        state=state,
        errors={**model.errors, ("2", 256): "runs/seed2/step256: there is no such folder"},
        phases=(Phase("uniform", 0, 0, 0, 1.0), Phase("sharp convergence", 16, 8, 32, 0.9)),
        duplicates={("3", 4): ("other", "1", 2)},
        failures={("1", 128): Failure("CUDA out of memory", 3, START, START + 60)},
        n_scored=23,
        restored={("2", 8): ("entropy", "surprisal")},
        probed={"blimp": 21, "icl": 23},
        probe_failures={("blimp", "2", 4): Failure("NaN\x1b[2J")},
    )
    engine = make_engine(gpus=(Gpu("cuda:0", 0.9, 1, 2),), bytes_projected=4 * 10**12)
    return make_study(model, engine=engine, bytes_stored=10)


def test_the_report_is_what_is_documented() -> None:
    study = everything()
    halves = {study.models[0].name: TextAgreement(40, 12, 0.9984, 128, 3, float("nan"))}
    report = json.loads(json_text(status_json(study, START + 2, halves)))
    fields = {path for path in paths(report) if path != "models[].duplicates[].of"}
    assert fields == documented("`seedconv status`")
    (model,) = report["models"]
    assert (model["split_half"]["steps"], model["split_half"]["pairs"]) == (0.9984, None)
    text = status_text(study, START + 2, halves)
    assert "\n  halves of the text agree: 0.998 over 12 steps (split-half, at most 1)\n" in text
    assert model["errors"] == [
        {
            "seed": "1",
            "step": 128,
            "error": "CUDA out of memory",
            "attempts": 3,
            "retry_at": START + 60,
        }
    ]
    assert [missing["step"] for missing in model["missing"]] == [256]
    error = {"seed": "2", "step": 4, "error": "NaN\x1b[2J", "attempts": 1, "retry_at": None}
    assert model["probes"] == [
        {"probe": "blimp", "answered": 21, "scored": 23, "errors": [error]},
        {"probe": "icl", "answered": 23, "scored": 23, "errors": []},
    ]
    assert model["latest"]["interval"] == pytest.approx([0.75, 0.85])
    assert report["engine"]["heartbeat_age"] == 2.0
    bare = status_json(make_study(make_model(n_done=0), engine=None), START)
    assert (bare["engine"], bare["models"][0]["latest"], bare["health"]) == (None, None, "none")


def test_what_to_do_next() -> None:
    def asked(after: float = 1.0, **changes: object) -> tuple[str, str, bool]:
        study = make_study(make_model(), engine=make_engine(**changes))
        now = START + after
        return health(study, now), " ".join(advice(study, now)), troubled(study, now)

    assert asked() == ("working", "", False)
    assert asked(29.9) == ("working", "", False)
    state, what, trouble = asked(7200)
    assert (state, trouble) == ("silent", True)
    assert "no heartbeat for 2 h from the engine (process 4242 on gpu-07)" in what
    assert asked(7200, state="finished") == (
        "finished",
        "open the results: seedconv tui study.zarr",
        False,
    )
    state, what, trouble = asked(state="failed", message="study.zarr: no space \x1b[2J")
    assert trouble
    assert "the engine failed: study.zarr: no space ␛[2J. Correct that" in what
    assert asked(7200, state="stopped") == ("stopped", "", False)  # and nothing is left to do
    halfway = make_study(make_model(n_done=3), engine=make_engine(state="stopped"))
    assert "Start it again" in advice(halfway, START)[0]
    assert "seedconv run" in advice(make_study(engine=None), START)[0]
    full = everything()
    assert troubled(full, START)
    lines = advice(full, START)
    assert [line[:12] for line in lines] == [
        "1 checkpoint", "1 probe of s", "1 checkpoint", "about 4.0 TB"
    ]  # fmt: skip
    assert "failed and is tried again" in lines[0]
    assert lines[1].endswith("no retry until these change. Retry now: seedconv run "
                             "STUDY.toml --retry-failed")  # fmt: skip
    (model,) = full.models
    scored = replace(make_model(), probe_failures={("p", "1", 4): Failure("no", 1, 1.0, 9.0)})
    assert troubled(make_study(scored), START)
    assert (
        "1 probe of scored checkpoints failed and is asked again"
        in advice(make_study(scored), START)[0]
    )
    unasked = replace(make_model(), n_scored=36, probed={"p": 35})
    halfway = make_study(unasked, engine=make_engine(state="stopped"))
    assert "Start it again" in advice(halfway, START)[0]
    parked = replace(model, failures={("1", 128): Failure("CUDA out of memory")})
    assert "seedconv run STUDY.toml --retry-failed" in advice(make_study(parked), START)[0]
    assert "not there" in lines[2]


def test_a_heartbeat_is_told_in_words() -> None:
    study = everything()
    assert "engine: working, heartbeat 4 s ago" in status_text(study, START + 4)
    silent = status_text(study, START + 300)
    assert "engine: silent, last heartbeat 5 min ago while working" in silent
    assert "next: no heartbeat for 5 min from the engine (process 4242" in silent
    assert "seed 2, step 256: missing: runs/seed2" in silent
    assert "seed 1, step 128: CUDA out of memory (tried 3 times, next try at " in silent
    assert "  probe blimp: 21 of 23 scored checkpoints, 1 failed\n" in silent
    assert "  probe blimp, seed 2, step 4: NaN␛[2J (tried once, parked until" in silent
    assert "  probe icl: 23 of 23 scored checkpoints\n" in silent
    asking = replace(make_engine().works[0], probe="blimp")
    asking_text = status_text(make_study(engine=make_engine(works=(asking,))), START)
    assert "scoring pythia-14m, seed 2, step 64 (25 %) for probe blimp" in asking_text
    busy = make_engine(summarised=36, to_summarise=140)
    assert ", 7 to go, about 3 min left, summarising 37 of 140, " in status_text(
        make_study(engine=busy), START
    )
    assert "summarising" not in status_text(make_study(engine=make_engine()), START)
    for over in (replace(busy, state="failed"), replace(busy, heartbeat=START - 300)):
        assert "summarising" not in status_text(make_study(engine=over), START)
    hostile = make_study(engine=make_engine(state="\x1b[2J", works=()))
    assert "\x1b" not in status_text(hostile, START)
    ended = make_study(engine=make_engine(state="finished", works=()))
    assert "engine: finished, ended 1 h ago" in status_text(ended, START + 3600)


def test_a_divergence_that_is_not_finite_is_left_out_and_that_is_said() -> None:
    model = make_model()
    model.kl[-1, 0, 1] = np.inf
    study = make_study(model)
    report = json.loads(json_text(status_json(study, START)))
    assert report["models"][0]["latest"]["pairs_left_out"] == 1
    assert "left out of that mean: pairs whose KL is not finite, 1" in status_text(study, START)
    assert json.loads(json_text({"a": [np.inf, {"b": float("nan")}, 1.5]})) == {
        "a": [None, {"b": None}, 1.5]
    }


def test_check_is_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "study.zarr"
    writer = open_writer(store)
    fill(writer, "m", "12", [0])
    beat(writer, time.time())
    assert run(["status", str(store), "--check"]) == 0
    beat(writer, before := time.time() - 60)
    os.utime(store / f"status/{writer.writer}.json", (before, before))
    assert run(["status", str(store)]) == 0
    capsys.readouterr()
    assert run(["status", str(store), "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["health"] == "silent"
    beat(writer, time.time())
    writer.plan("m", [("1", 10)], {})
    writer.fail("m", "1", 10, Failure("its weights are not finite"))
    assert run(["status", str(store), "--check"]) == 1
    assert run(["status", str(tmp_path / "none.zarr"), "--check"]) == 2


def scrape(port: int) -> dict[str, list[tuple[dict[str, str], float]]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE) as answer:
        text = answer.read().decode()
    return {
        family.name: [(dict(sample.labels), sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
        if family.samples
    }


def test_metrics_are_those_of_the_store_whatever_names_say(tmp_path: Path) -> None:
    store = tmp_path / "study.zarr"
    with serve(store, "127.0.0.1", 0) as port:
        assert scrape(port) == {}  # there is no store yet
        writer = open_writer(store)
        fill(writer, HOSTILE, ("1", 'a"b'), [0, 10])
        fill(writer, "m", "123", [5])
        writer.set_phases("m", (Phase("uniform", 0), Phase("sharp convergence", 5)))
        beat(writer, 1_700_000_000.25)
        study = writer.study()
        told = scrape(port)
        for name in (HOSTILE, "m"):
            model = study.model_snapshot(name)
            assert ({"model": name}, model.expected_kl[-1]) in told["seedconv_expected_kl_nats"]
            assert ({"model": name}, model.steps[-1]) in told["seedconv_newest_step"]
            n_done = np.count_nonzero(model.state == State.DONE)
            assert ({"model": name, "state": "done"}, n_done) in told["seedconv_checkpoints"]
        low = study.model_snapshot("m").kl_interval[0, 0]  # type: ignore[index]
        ends = told["seedconv_expected_kl_interval_nats"]
        assert ({"model": "m", "end": "low"}, low) in ends
        assert {labels["model"] for labels, _ in ends} == {"m"}  # two seeds have no interval
        assert told["seedconv_phase_start_step"] == [
            ({"model": "m", "phase": "sharp convergence"}, 5)
        ]
        assert told["seedconv_heartbeat_time_seconds"] == [({}, 1_700_000_000.25)]
        seeds = {labels["seed"] for labels, _ in told["seedconv_cross_entropy_nats"]}
        assert seeds == {"1", "2", "3", 'a"b'}
        states = {labels["state"]: value for labels, value in told["seedconv_engine_state"]}
        assert [state for state, value in states.items() if value] == ["working"]
        fill(writer, "m", "123", [50])  # as it goes on
        assert ({"model": "m"}, 50) in scrape(port)["seedconv_newest_step"]
        known = documented("Metrics")
        assert told.keys() <= known
        assert known - told.keys() == {
            "seedconv_tokens_per_second", "seedconv_eta_seconds", "seedconv_disk_free_bytes"
        } | {"seedconv_probe_failures"}  # fmt: skip  # which this engine did not report
        (probed,) = (m for m in metrics(everything()) if m.name == "seedconv_probe_failures")
        assert [(s.labels["probe"], s.value) for s in probed.samples] == [("blimp", 1), ("icl", 0)]


def test_steps_are_written_with_their_thousands() -> None:
    model = make_model(steps=(0, 1000, 143_000), failed=(2, 0), n_done=2)
    text = status_text(make_study(model), START)
    assert "at step 1,000 (3 seeds" in text
    assert "seed 1, step 143,000: CUDA out of memory" in text
