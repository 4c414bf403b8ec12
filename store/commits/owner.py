"""Allow one coordinating process at a time to write; recognise it by its heartbeat."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from store.commits.heartbeat import read_status
from store.commits.ledger import Ledger, Record
from store.errors import BusyError
from store.schema.snapshot import ACTIVE_STATES

STALE_SECONDS = 30.0  # a coordinator whose heart has not beaten for so long may be replaced
_LOOK_SECONDS = 0.5  # between two looks at another's heartbeat


@dataclass(frozen=True)
class Watching:
    """The clock while another's heartbeat is watched, and the listener that hears of it."""

    monotonic: Callable[[], float] = time.monotonic
    rest: Callable[[float], None] = time.sleep
    say: Callable[[str], object] = lambda text: None


def refuse_if_busy(path: Path, ledger: Ledger, now: float, watching: Watching) -> None:
    """Raise BusyError while the last session's process may still be at work.

    A heartbeat that looks fresh is enough to refuse. One that looks old, or that is of the future,
    may only be of a machine whose clock differs: it is watched for `STALE_SECONDS` by the own
    monotonic clock, and a single beat in that time refuses.
    """
    session = ledger.session
    if session is None or ledger.ended is not None:
        return
    writer, host, pid = (session.get(name) for name in ("writer", "host", "pid"))
    status = read_status(path, str(writer))
    if status is not None and status.state not in ACTIVE_STATES:
        return  # it has ended, but could not write so into the log
    if _died(session):
        return
    beat = status.heartbeat if status else float(session.get("time", 0.0))
    if not 0 <= now - beat < STALE_SECONDS:
        watching.say(
            f"{path}: process {pid} on {host} worked on this study and did not end; waiting "
            f"{STALE_SECONDS:.0f} s to see whether it is alive"
        )
        if not _beats(path, str(writer), status.heartbeat if status else None, watching):
            return
        beat = now
    raise BusyError(
        f"{path}: process {pid} on {host} is working on this study (heartbeat {now - beat:.0f} s "
        f"ago); stop it, or wait until it has been silent for {STALE_SECONDS:.0f} s"
    )


def _beats(path: Path, writer: str, last: float | None, watching: Watching) -> bool:
    """Return whether the heartbeat changes within `STALE_SECONDS`."""
    until = watching.monotonic() + STALE_SECONDS
    while watching.monotonic() < until:
        watching.rest(_LOOK_SECONDS)
        status = read_status(path, writer)
        if status is not None and status.heartbeat != last:
            return status.state in ACTIVE_STATES
    return False


def _died(session: Record) -> bool:
    """Return whether the session's process is known to have ended: only on this machine."""
    if session.get("host") != socket.gethostname() or session.get("pid_space") != pid_space():
        return False
    try:
        os.kill(int(session.get("pid", 0)), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def pid_space() -> str:
    """Return what makes process ids comparable: the boot and the container they belong to."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
        return hashlib.sha256(space.encode()).hexdigest()[:16]
    except OSError:
        return ""
