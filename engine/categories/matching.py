"""Searching many texts for a regular expression of the user's, within a limit of time.

Some expressions take longer than a life for a text of thirty characters, and this process would be
deaf meanwhile. So they are searched for in a process of its own, which the system ends in time.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

CPU_SECONDS: Final = 20  # more than a sound expression takes for all entries of a vocabulary

_SEARCH = """
import json, re, resource, sys
seconds = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
pattern, texts = json.load(sys.stdin)
search = re.compile(pattern).search
print(json.dumps([search(text) is not None for text in texts]))
"""


class MatchingError(Exception):
    """The expression cannot be searched for: it takes too long, or too much memory."""


def search_each(pattern: str, texts: Sequence[str]) -> list[bool]:
    """Return whether each text has a match. Raise MatchingError."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    cpu_seconds = CPU_SECONDS if most == resource.RLIM_INFINITY else min(CPU_SECONDS, most)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SEARCH, str(cpu_seconds)],
        input=json.dumps([pattern, list(texts)]).encode(),
        capture_output=True,
        check=False,
        start_new_session=True,  # a terminal's Ctrl-C is for this process to answer
    )
    if done.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        raise MatchingError(f"takes more than {cpu_seconds} s of a CPU for the corpus")
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise MatchingError(f"cannot be searched for ({last or done.returncode})")
    found: list[bool] = json.loads(done.stdout)
    return found
