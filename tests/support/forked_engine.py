"""Engines that can be killed: a process with torch imported forks one whenever it is asked.

    with Engines() as engines:
        ended = engines.run(study_file, kill_after=0.3)

A fork starts in milliseconds where a new interpreter takes seconds, and nothing is shared with the
test: what is killed is a whole process, heartbeat and writer threads included.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Ended:
    """How one engine ended."""

    code: int  # exit code, or minus the signal that killed it
    seconds: float
    changes: int  # to files below the study's folder, when it was not killed
    opened_at: int  # how many of them there were when the study was open for writing
    stderr: str

    @property
    def killed(self) -> bool:
        """Whether it was killed before it was done."""
        return self.code == -signal.SIGKILL


class Engines:
    """Starts engines, one at a time."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def run(
        self,
        study: Path,
        *,
        kill_after: float | None = None,
        kill_at_change: int | None = None,
        when_scored: tuple[int, int] | None = None,
        command_line: bool = False,
        command: str = "run",
        arguments: tuple[str, ...] = (),
    ) -> Ended:
        """Work through a study; killed after that many seconds, or before its n-th file change.

        `when_scored`: the signal that it gets when so many checkpoints are committed, before it
        changes another file. By the command line, with a command and further arguments; given a
        store in place of a study file, migrate it.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        words = [command, *arguments] if command_line else []
        order = [str(study), kill_after, kill_at_change, when_scored, words]
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return Ended(**json.loads(self._server.stdout.readline()))


def changed_path(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The file that is changed by what an audit hook hears of; None: none is."""
    if event == "open":
        path, _, flags = arguments
        return path if isinstance(path, str) and flags & _WRITING else None
    if event not in _CHANGES:
        return None
    path = arguments[0]  # or the descriptor of a file that is open already
    return str(
        Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else os.fspath(path)
    )


class _Watch:
    """Counts changes to files below a folder, and kills this process before the n-th.

    Or sends it a signal when so many checkpoints are committed to the study in this folder.
    """

    def __init__(
        self, folder: Path, kill_at: int | None, when_scored: tuple[int, int] | None
    ) -> None:
        self._folder, self._kill_at, self._when_scored = str(folder), kill_at, when_scored
        self._lock = threading.Lock()
        self.changes = self.opened_at = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = changed_path(event, arguments)
        if path is None:
            return
        # Removing a tree names files relative to their folder, so those count wherever they are.
        if path.startswith(self._folder) or event in {"os.remove", "os.rmdir"}:
            self.changes += 1
            if self._kill_at is not None and self.changes >= self._kill_at:  # threads count, too
                os.kill(os.getpid(), signal.SIGKILL)
            if self._when_scored is not None:
                self._look(*self._when_scored)

    def _look(self, scored: int, number: int) -> None:
        from tests.support.gated_engine import records

        with self._lock:
            if self._when_scored and records(Path(self._folder, "study.zarr"), "scored") >= scored:
                self._when_scored = None
                os.kill(os.getpid(), number)


def _engine(
    study: Path,
    kill_at: int | None,
    when_scored: tuple[int, int] | None,
    words: list[str],
    report: int,
) -> int:
    from engine.coordination.build import build_coordinator
    from engine.study_file.file import load_study_file

    watch = _Watch(study.parent, kill_at, when_scored)
    sys.addaudithook(watch)
    try:
        if words:
            from seedconv_tui.cli.main import main
            from tests.support.gated_engine import be_patient

            be_patient()
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for what is reported
                command = "migrate" if study.suffix == ".zarr" else words[0]
                try:
                    main([command, str(study), *words[1:]])
                except SystemExit as end:
                    return int(end.code or 0)
        engine = build_coordinator(load_study_file(study), _Silent())
        watch.opened_at = watch.changes
        totals = engine.run()
        return 1 if totals.failed else 0
    finally:
        counted = [watch.changes, watch.opened_at]
        os.write(report, json.dumps(counted).encode())


class _Silent:
    def on_event(self, event: object) -> None:
        """Nobody listens."""

    def on_status(self, status: object) -> None:
        """Nobody looks."""


def _fork(
    study: str,
    kill_after: float | None,
    kill_at: int | None,
    when_scored: tuple[int, int] | None,
    words: list[str],
) -> dict[str, Any]:
    """Run one engine in a process of its own and wait for it."""
    report_read, report_write = os.pipe()
    errors = os.memfd_create("stderr")
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(errors, 2)
            code = _engine(Path(study), kill_at, when_scored, words, report_write)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(report_write)
    process = os.pidfd_open(pid)
    if not select.select([process], [], [], kill_after)[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - started
    os.close(process)
    changes, opened_at = json.loads(os.read(report_read, 100) or b"[0, 0]")
    os.close(report_read)
    stderr = os.pread(errors, 100_000, 0).decode()
    os.close(errors)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "changes": changes,
        "opened_at": opened_at,
        "stderr": stderr,
    }


def _serve() -> None:
    import torch

    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    import transformers.models.gpt_neox.modeling_gpt_neox  # transformers imports late
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    import engine.coordination.build
    import seedconv_tui.cli.main
    import seedconv_tui.cli.run
    import seedconv_tui.listeners.console
    import store.storage.side_by_side as disk

    disk._LONG = -1.0  # every disk counts as slow: what is killed is at several files at once
    del transformers, AutoConfig, AutoModelForCausalLM, AutoTokenizer, engine, seedconv_tui
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            print(json.dumps(_fork(*json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
