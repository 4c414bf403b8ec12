"""`seedconv serve`: the monitor in a browser."""

from __future__ import annotations

import argparse
import errno
import signal
import socket

from seedconv_tui.cli.fatal_signals import FATAL, code
from seedconv_tui.cli.options import add_glyphs, add_store, at_least, say
from seedconv_tui.cli.tui import add_fresh, check_stores
from seedconv_tui.exit_codes import USAGE
from seedconv_tui.text import visible

HELP = "show the monitor in a browser on this machine"
EXAMPLE = "seedconv serve study.zarr --port 8000"
PAGE = "tui.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser, several=True)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on, without a password (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=at_least(0),
        default=8000,
        help="port to listen on; 0: any that is free (default: %(default)s)",
    )
    add_glyphs(parser)
    add_fresh(parser)


def run(options: argparse.Namespace) -> int:
    """Serve the monitor until a signal ends it. Raise NotAStudyError."""
    import asyncio  # as slow as the rest of the help

    check_stores(options.store)
    return asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> int:
    from seedconv_tui.web.browser_guard import is_loopback, known_names
    from seedconv_tui.web.page_server import PageServer, any_of, listen

    title = ", ".join(visible(str(store)) for store in options.store)
    try:
        server = PageServer(_monitor(options), title, known_names(options.host))
        runner, port = await listen(server, options.host, options.port)
    except (OSError, OverflowError, UnicodeError) as error:
        say(_why_not(options, error))
        return USAGE
    try:
        if not is_loopback(options.host):
            say(
                f"--host {options.host}: there is no password. Who reaches this machine sees the "
                "study. Without --host, only this machine does."
            )
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{host}:{port} shows {title}. Ctrl-C ends it.", flush=True)
        heard = await any_of([n for n in FATAL if signal.getsignal(n) != signal.SIG_IGN])
    finally:
        await runner.cleanup()
    return code(heard)


def _monitor(options: argparse.Namespace) -> list[str]:
    """Return the command line of a page's monitor."""
    chosen = ["--ascii"] * options.ascii + ["--fresh"] * options.fresh
    return ["tui", *chosen, "--glyphs", options.glyphs, "--", *map(str, options.store)]


def _why_not(options: argparse.Namespace, error: Exception) -> str:
    host, port = options.host, options.port
    match error:
        case socket.gaierror() | UnicodeError():
            return f"--host {host}: there is no such host. Name one of this machine's addresses."
        case OSError(errno=errno.EADDRNOTAVAIL):
            return f"--host {host}: no address of this machine. Name one of its own."
        case OSError(errno=errno.EADDRINUSE):
            return f"--port {port}: in use by another program. Name another, or 0 for any."
        case OSError(errno=errno.EACCES):
            return f"--port {port}: may not be used without more rights. Name one from 1024 on."
        case OverflowError():
            return f"--port {port}: must be at most 65535."
    return f"--host {host} --port {port}: {getattr(error, 'strerror', None) or error}."
