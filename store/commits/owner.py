"""Who may write: one coordinating process at a time, known by its heartbeat."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

from store.commits.heartbeat import read_status
from store.commits.ledger import Ledger, Record
from store.errors import BusyError
from store.schema.snapshot import ACTIVE_STATES

STALE_SECONDS = 30.0  # a coordinator whose heart has not beaten for so long may be replaced


def refuse_if_busy(path: Path, ledger: Ledger, now: float) -> None:
    """Raise BusyError while the last session's process may still be at work."""
    session = ledger.session
    if session is None or ledger.ended is not None:
        return
    status = read_status(path, session["writer"])
    if status is not None and status.state not in ACTIVE_STATES:
        return  # it has ended, but could not write so into the log
    age = max(0.0, now - (status.heartbeat if status else session["time"]))
    if age < STALE_SECONDS and not _died(session):
        raise BusyError(
            f"{path}: process {session['pid']} on {session['host']} is working on this study "
            f"(heartbeat {age:.0f} s ago); stop it, or wait until it has been silent for "
            f"{STALE_SECONDS:.0f} s"
        )


def _died(session: Record) -> bool:
    """Return whether the session's process is known to have ended: only on this machine."""
    if session["host"] != socket.gethostname() or session.get("pid_space") != pid_space():
        return False
    try:
        os.kill(int(session["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
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
