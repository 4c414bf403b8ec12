"""The study under fire: trainers, engine and monitor, and what happens to them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from store import StoreError, open_study
from store.schema import State
from tests.soak.compare import scored
from tests.soak.trainer import MODELS, SEEDS, STEPS, checkpoint, put
from tests.support.pty_terminal import Terminal
from tests.support.tiny_models import TEXT, make_tokenizer, write_study

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "seedconv_tui.cli.main")
_STAGGER = 0.04  # of the time between the starts of two seeds
_TRAINING = 0.6  # of the time in which a seed saves its checkpoints, were it never killed
_CALM = 240.0  # seconds for the engine to catch up in, on a machine that is busy
_STOP = 10.0  # seconds within which a request to stop is heeded
_EVERY = {  # seconds, on average, between two of a kind
    "SIGKILL engine": 25.0,
    "SIGTERM engine": 30.0,
    "SIGINT engine": 60.0,
    "SIGKILL trainer": 15.0,
    "truncate": 10.0,
    "zero": 12.0,
    "delete": 20.0,
    "replace": 8.0,
    "key": 2.0,
}
_KEYS = (b"1", b"2", b"3", b"4", b"5", b"j", b"k", b"h", b"l", b"?", b"\x1b", b"J", b"m", b"\t")
_ENDED = {0, 1, 130, -signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL}  # 2 would be a refusal

Named = tuple[str, str, int]  # model, seed, step


class SoakError(Exception):
    """What must not be."""


def write_study_file(folder: Path) -> Path:
    """The study of both stores; everything is discovered."""
    file = write_study(
        folder, corpus__max_tokens=400, models__name=MODELS[0],
        models__source="runs/{model}/seed{seed}/checkpoint-{step}",
    )  # fmt: skip
    text = file.read_text(encoding="utf-8")
    block = text[text.index("[[models]]") : text.index("[scoring]")]
    more = "".join(block.replace(MODELS[0], name) for name in MODELS[1:])
    file.write_text(text.replace(block, block + more), encoding="utf-8")
    return file


class Fire:
    """Does to a study what `random_seed` says, in a folder of its own."""

    def __init__(self, folder: Path, seconds: float, random_seed: int) -> None:
        self._folder, self._seconds, self._random = folder, seconds, random.Random(random_seed)
        folder.mkdir(parents=True, exist_ok=True)
        make_tokenizer(folder / "tokenizer")
        (folder / "text.txt").write_text(TEXT, encoding="utf-8")
        (folder / "runs").mkdir()
        self._study_file, self.store = write_study_file(folder), folder / "study.zarr"
        self._engine: subprocess.Popen[bytes] | None = None
        self._engine_due = 0.0
        self._trainers: dict[str, subprocess.Popen[bytes]] = {}
        self._trained: set[str] = set()
        self._damaged: dict[Named, str] = {}  # in `runs`, and how
        self._monitor: Terminal | None = None
        self._done: Counter[str] = Counter()

    def burn(self) -> Path:
        """All of it; returns the store. Raises SoakError."""
        try:
            self._harm()
            self._settle()
            return self.store
        finally:
            for process in (self._engine, *self._trainers.values()):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()

    # -- the time of harm ----------------------------------------------------------------------

    def _harm(self) -> None:
        plan = self._plan()
        print("to come:", _told(Counter(kind for _, kind, _ in plan)), flush=True)
        start = time.monotonic()
        starts = {seed: n * _STAGGER * self._seconds for n, seed in enumerate(SEEDS)}
        while (now := time.monotonic() - start) < self._seconds:
            self._keep_going(now, starts)
            while plan and plan[0][0] <= now:
                _, kind, share = plan.pop(0)
                self._do(kind, share, now)
            time.sleep(0.05)

    def _plan(self) -> list[tuple[float, str, float]]:
        """What happens when, in seconds, and a number from 0 to 1 that chooses what it hits."""
        plan = []
        for kind, every in _EVERY.items():
            at = self._random.expovariate(1 / every)
            while at < self._seconds:
                plan.append((at, kind, self._random.random()))
                at += self._random.expovariate(1 / every)
        return sorted(plan)

    def _keep_going(self, now: float, starts: dict[str, float]) -> None:
        """Start what is due, again if it was killed. Raises SoakError when something failed."""
        if self._engine is not None and (code := self._engine.poll()) is not None:
            raise SoakError(f"the engine ended by itself, with {code}: {self._tail('engine.log')}")
        if self._engine is None and now >= self._engine_due:
            self._engine = self._start("engine.log", *COMMAND, "watch", str(self._study_file))
        for seed, at in starts.items():
            process = self._trainers.get(seed)
            if process is not None and (code := process.poll()) is not None:
                if code > 0:
                    raise SoakError(f"the trainer of seed {seed} failed with {code}")
                if not code:
                    self._trained.add(seed)
                del self._trainers[seed]
            if seed not in self._trainers and seed not in self._trained and now >= at:
                pause = _TRAINING * self._seconds / (len(MODELS) * len(STEPS))
                self._trainers[seed] = self._start(
                    f"trainer-{seed}.log", sys.executable, "-m", "tests.soak.trainer",
                    str(self._folder), seed, str(pause),
                )  # fmt: skip
        self._keep_watching()

    def _keep_watching(self) -> None:
        if self._monitor is None:
            try:
                open_study(self.store)
            except StoreError:
                return  # the engine has not made it yet
            self._monitor = Terminal([*COMMAND, "tui", str(self.store)], (110, 36))
        if not self._monitor.alive or b"Traceback" in self._monitor.received():
            self._monitor.quiet(0.3)
            last = self._monitor.received()[-600:]
            raise SoakError(f"the monitor is gone; it showed\n{self._monitor.text}\n{last!r}")

    def _do(self, kind: str, share: float, now: float) -> None:
        what, _, whom = kind.partition(" ")
        done = True
        if whom == "engine":
            done = self._stop_engine(getattr(signal, what))
            self._engine_due = now + 3 * share
        elif whom == "trainer":
            running = sorted(self._trainers)
            if done := bool(running):
                self._trainers[running[int(share * len(running))]].kill()
        elif kind == "key":
            if done := self._monitor is not None:
                self._monitor.type(_KEYS[int(share * len(_KEYS))])
        else:
            done = self._damage(kind, share)
        self._done[kind] += done

    def _stop_engine(self, number: signal.Signals) -> bool:
        """Send it a signal; whether it was there to be sent one."""
        if self._engine is None:
            return False
        self._engine.send_signal(number)
        try:
            code = self._engine.wait(_STOP + 5)  # its process also has to leave
        except subprocess.TimeoutExpired:
            raise SoakError(f"{number.name} was not heeded: {self._tail('engine.log')}") from None
        if code not in _ENDED:
            raise SoakError(f"after {number.name} it ended with {code}: {self._tail('engine.log')}")
        self._engine = None
        return True

    def _damage(self, kind: str, share: float) -> bool:
        """Harm or repair one checkpoint of those that were once whole; whether there was one."""
        choice = sorted(self._damaged)
        if kind != "replace":
            whole = self._archived() - self._damaged.keys()
            choice = sorted(whole - self._scored()) or sorted(whole)
        if not choice:
            return False
        # The newest are the ones that are read just now.
        choice.sort(key=lambda key: checkpoint(self._folder / "archive", *key).stat().st_ctime)
        key = choice[int(share**0.25 * len(choice))]
        target = checkpoint(self._folder / "runs", *key)
        weights = target / "model.safetensors"
        match kind:
            case "delete":
                shutil.rmtree(target)
            case "truncate":
                os.truncate(weights, int(weights.stat().st_size * share))
            case "zero":
                size = weights.stat().st_size
                with weights.open("r+b") as stream:  # the header stays: only reading shows it
                    start = 8 + int.from_bytes(stream.read(8), "little") if share < 0.7 else 0
                    stream.seek(start)
                    stream.write(b"\0" * (size - start))
            case _:
                put(checkpoint(self._folder / "archive", *key), target)
                del self._damaged[key]
                return True
        self._damaged[key] = kind
        return True

    def _scored(self) -> set[Named]:
        try:
            return {(model, *key) for model, keys in scored(self.store).items() for key in keys}
        except StoreError:
            return set()  # there is none yet

    def _archived(self) -> set[Named]:
        return {
            (model, seed, step)
            for model in MODELS
            for seed in SEEDS
            for step in STEPS
            if checkpoint(self._folder / "archive", model, seed, step).exists()
        }

    # -- the end -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let training end, repair half of the damage and have the engine do the rest."""
        print("done:   ", _told(self._done), flush=True)
        starts = dict.fromkeys(SEEDS, 0.0)
        self._until(lambda: len(self._trained) == len(SEEDS), "training does not end", starts)
        for n, key in enumerate(sorted(self._damaged)):
            if n % 2:
                put(
                    checkpoint(self._folder / "archive", *key),
                    checkpoint(self._folder / "runs", *key),
                )
                del self._damaged[key]
        whole = self._archived() - self._damaged.keys()
        self._until(lambda: whole <= self._reduced(), "the engine does not catch up", starts)
        began = time.monotonic()
        self._stop_engine(signal.SIGTERM)
        print(f"the engine caught up, and stopped within {time.monotonic() - began:.1f} s")
        end = subprocess.run(
            [*COMMAND, "run", str(self._study_file)], capture_output=True, text=True, check=False
        )
        log = self._folder / "engine.log"
        if end.returncode not in (0, 1) or (end.returncode and not self._damaged):
            raise SoakError(f"the last run ends with {end.returncode}: {end.stderr[-500:]}")
        if "Traceback" in end.stderr or b"Traceback" in log.read_bytes():
            raise SoakError(f"the engine left a traceback in {log}")
        self._tell_scored(whole)
        self._look_at_the_end()

    def _until(self, so: Callable[[], bool], failing: str, starts: dict[str, float]) -> None:
        deadline = time.monotonic() + _CALM
        while not so():
            if time.monotonic() > deadline:
                raise SoakError(f"{failing}: {self._tail('engine.log')}")
            self._keep_going(sys.float_info.max, starts)
            time.sleep(0.2)

    def _reduced(self) -> set[Named]:
        """Checkpoints that are compared with all others of their step."""
        study = open_study(self.store)
        return {
            (model, seed, step)
            for model in study.models
            for step, seeds in study.ledger(model).reduced.items()
            for seed in seeds
            if seeds >= study.ledger(model).scored_at(step)
        }

    def _tell_scored(self, whole: set[Named]) -> None:
        have = self._scored()
        if lost := whole - have:
            raise SoakError(f"{len(lost)} checkpoints are whole and not scored: {sorted(lost)[:3]}")
        gone = self._archived() - have
        print(
            f"{len(self._archived())} checkpoints were saved, {len(have)} are scored; "
            f"{len(have - whole)} of these are damaged or deleted by now; {len(gone)} were so "
            "before they could be scored and are in neither store"
        )

    def _look_at_the_end(self) -> None:
        """The monitor, open all the time, must show what the store holds."""
        assert self._monitor is not None
        states = [
            int(state) for model in open_study(self.store).snapshot().models
            for state in model.state.ravel()
        ]  # fmt: skip
        done = sum(state in (State.DONE, State.PRUNED) for state in states)
        total = sum(state not in (State.ABSENT, State.MISSING) for state in states)
        deadline = time.monotonic() + 30
        while f"{done}/{total} done" not in (seen := self._monitor.text) or "finished" not in seen:
            if time.monotonic() > deadline:
                raise SoakError(f"the monitor does not show {done}/{total} done, but\n{seen}")
            for key in (b"\x1b", b"1"):  # apart: together they would be another key
                self._monitor.type(key)
                self._monitor.quiet(0.3)
        if b"Traceback" in self._monitor.received():
            raise SoakError("the monitor left a traceback")
        print(
            f"the monitor shows {done}/{total} done; {self._monitor.sent:,} bytes were sent to it"
        )
        self._monitor.close()

    # -- processes -----------------------------------------------------------------------------

    def _start(self, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / log).open("ab") as file:
            return subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def _tail(self, log: str) -> str:
        return (self._folder / log).read_text(errors="replace")[-800:]


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]} x {kind}" for kind in _EVERY)
