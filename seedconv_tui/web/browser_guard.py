"""Which requests are answered: those of a page of ours, under a name that nobody else can take.

A page of another site may send a browser to this server, too: it can open a websocket across
sites, and give its own name our address (DNS rebinding). Both show in what the browser sends.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer says: it is for its own page, and not to be shown inside another."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host. Raise OSError if there is none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(
        ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found
    )


def known_names(host: str) -> set[str]:
    """Return the names of the machine that a browser may use, if `host` is listened on.

    Addresses may be used as well: a page from an address is from the machine that has it.
    """
    names = {"localhost", host}
    if not is_loopback(host):
        names |= {socket.gethostname(), socket.getfqdn()}
    return {name.lower() for name in names}


def guard(names: set[str]) -> Middleware:
    """Return a middleware that refuses other names than these, and websockets of other pages."""

    @web.middleware
    async def guarded(request: web.Request, handler: _Handler) -> web.StreamResponse:
        name = _name(request.host)
        if name not in names and not _is_address(name):
            raise web.HTTPForbidden(text="Use the address that `seedconv serve` has printed.\n")
        if "Upgrade" in request.headers and not _is_ours(request):
            raise web.HTTPForbidden(text="Only the page of this server may open the monitor.\n")
        return await handler(request)

    return guarded


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer says."""
    response.headers.update(HEADERS)


def _is_ours(request: web.Request) -> bool:
    try:
        return urlsplit(request.headers.get("Origin", "")).netloc.lower() == request.host.lower()
    except ValueError:
        return False


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
