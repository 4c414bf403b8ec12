"""A small server that speaks as much of S3 as reading takes, and remembers what was asked.

Path-style addresses; GET (also with Range and If-None-Match), HEAD and ListObjectsV2; requests must
be signed, signatures are not checked. Every object is replaced whole, as in S3.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "studies"


@dataclass
class S3Server:
    """One bucket on loopback. `asked` holds (method, key, bytes sent) of every request."""

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"bucket": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        """What AWS_ENDPOINT_URL is to be."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def put(self, key: str, data: bytes) -> None:
        """Make or replace an object."""
        self.objects[key] = data

    def delete(self, key: str) -> None:
        """Remove an object."""
        del self.objects[key]

    def upload(self, folder: Path, prefix: str, *, only: str = "") -> None:
        """Copy the files of a folder whose relative names start with `only`, as `sync` does."""
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.is_file() and name.startswith(only):
                self.put(f"{prefix}/{name}", file.read_bytes())

    def close(self) -> None:
        """Stop answering, also on connections that are open."""
        self.closed = True
        self._http.shutdown()
        self._http.server_close()


def _e_tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True
    bucket: S3Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.bucket.closed:
            self.close_connection = True
            return
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256"):
            self._fail(403, "AccessDenied", key)
        elif bucket != BUCKET:
            self._fail(404, "NoSuchBucket", key)
        elif not key:
            self._list({name: values[0] for name, values in parse_qs(url.query).items()})
        elif (data := self.bucket.objects.get(key)) is None:
            self._fail(404, "NoSuchKey", key)
        else:
            self._object(key, data)

    do_HEAD = do_GET  # noqa: N815

    def _object(self, key: str, data: bytes) -> None:
        headers = {
            "ETag": _e_tag(data),
            "Last-Modified": "Tue, 24 Nov 2026 06:00:00 GMT",
        }
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self._answer(304, key, b"", headers)
            return
        asked = self.headers.get("Range")
        if asked is None:
            self._answer(200, key, data, headers)
            return
        first, last = asked.removeprefix("bytes=").split("-")
        start = int(first) if first else max(0, len(data) - int(last))  # else that many at the end
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= len(data):
            self._fail(416, "InvalidRange", key)
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self._answer(206, key, data[start:stop], headers)

    def _list(self, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        keys = sorted(key for key in self.bucket.objects if key.startswith(prefix))
        if query.get("delimiter") == "/":
            folders = sorted({key[: key.find("/", len(prefix)) + 1] for key in keys} - {""})
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
        else:
            folders = []
        found = [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size>"
            f"<ETag>{escape(_e_tag(data))}</ETag>"
            "<LastModified>2026-11-24T06:00:00.000Z</LastModified></Contents>"
            for key, data in ((key, self.bucket.objects[key]) for key in keys)
        ]
        found += [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders]
        text = "".join(found)
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{text}</ListBucketResult>"
        self._answer(200, prefix, body.encode(), {"Content-Type": "application/xml"})

    def _fail(self, status: int, code: str, key: str) -> None:
        body = f"<Error>\n<Code>{code}</Code><Key>{escape(key)}</Key></Error>"
        self._answer(status, key, body.encode(), {"Content-Type": "application/xml"})

    def _answer(self, status: int, key: str, body: bytes, headers: dict[str, str]) -> None:
        sent = b"" if self.command == "HEAD" else body
        self.bucket.asked.append((self.command, key, len(sent)))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(sent)
