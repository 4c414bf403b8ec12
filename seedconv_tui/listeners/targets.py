"""Targets of notifications: a program, or a service at a URL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from seedconv_tui.listeners.notifier import Message
from seedconv_tui.text import visible


class CommandTarget:
    """A program. It gets the message as JSON on stdin, and in its environment; no shell is asked.

    SEEDCONV_KIND, _EVENT, _LEVEL, _TEXT, _STUDY, _STORE and, where there is one, _MODEL, _SEED,
    _STEP and _PHASE. What a checkpoint says can be in them, but never in the program's arguments.
    """

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        """`folder` is where the program runs."""
        self.name = f"the command {argv[0]}"
        self._argv, self._folder = list(argv), folder

    def send(self, message: Message, seconds: float) -> None:
        """Run the program; it is killed when it takes longer. Raise OSError when it fails."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=self._folder,
                env={**os.environ, **_environment(message)},
                start_new_session=True,  # Ctrl-C is for the engine
            )
            try:
                process.communicate(message.payload, timeout=seconds)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise TimeoutError(f"it took longer than {seconds:.0f} s and was ended") from None
            if process.returncode:
                raise OSError(f"it exited with {process.returncode}{_last_line(said)}")


def _environment(message: Message) -> dict[str, str]:
    values: dict[str, object] = {
        "kind": message.kind,
        "event": message.event,
        "level": message.level,
        "text": message.text,
        "study": message.study,
        "store": message.store,
    }
    values |= {
        key: message.fields[key]
        for key in ("model", "seed", "step", "phase")
        if message.fields.get(key) is not None
    }
    return {f"SEEDCONV_{key.upper()}": visible(str(value)) for key, value in values.items()}


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read(10_000).decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


class UrlTarget:
    """A URL that is posted to: the message as JSON, or its text alone.

    The object has a field `text`, which chat services show. In it, `<` and `>` are replaced: such
    services read names and links between them.
    """

    def __init__(self, url: str, *, as_text: bool) -> None:
        self.name = str(urlsplit(url).hostname)  # the rest may be a secret
        self._url, self._as_text = url, as_text
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, message: Message, seconds: float) -> None:
        """Post the message. Raise OSError when it is not taken."""
        message = replace(message, text=message.text.translate({60: "\u2039", 62: "\u203a"}))
        if self._as_text:
            body, kind = message.text.encode(), "text/plain; charset=utf-8"
        else:
            body, kind = message.payload, "application/json"
        headers = {"Content-Type": kind, "User-Agent": "seedconv"}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=seconds):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"it answered {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise OSError(str(error.reason)) from None
        except (HTTPException, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere arrives without its message, so it is not sent on."""

    def redirect_request(self, *_: Any) -> None:
        return None
