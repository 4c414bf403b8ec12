"""A small server that speaks as much of the Hub's API as finding and downloading models takes.

Repositories are folders of files by commit; branches name commits. What is to go wrong is set
beforehand: `refuse` answers the next requests with a status, or with silence (0); `cuts` break
downloads off; `trickles` send an answer byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """Branches and tags by name, files by commit."""

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False


@dataclass
class Refusal:
    """An answer given instead, `times` times, to paths that hold `text`."""

    text: str
    status: int
    headers: Mapping[str, str]
    times: int


@dataclass
class HubServer:
    """A Hub on loopback. `asked` holds (method, path, Range header or "") of every request."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    cuts: list[tuple[str, float]] = field(default_factory=list)  # file, what part of it is sent
    trickles: list[tuple[str, int]] = field(default_factory=list)  # path, bytes sent at once
    page: int = 2  # repositories in one answer
    sending: Callable[[str], None] = lambda _: None  # told of a file before it is sent

    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def push(self, repository: str, revision: str, files: Path | Mapping[str, bytes]) -> str:
        """Make a commit of a folder or of files, have a branch point to it; return its name."""
        if isinstance(files, Path):
            files = {
                file.relative_to(files).as_posix(): file.read_bytes()
                for file in sorted(files.rglob("*"))
                if file.is_file()
            }
        digest = hashlib.sha1(f"{repository} {revision}".encode())
        for name, data in files.items():
            digest.update(name.encode() + data)
        commit = digest.hexdigest()
        known = self.repositories.setdefault(repository, Repository())
        known.commits[commit] = dict(files)
        known.refs[revision] = commit
        return commit

    def refuse(self, text: str, status: int, times: int = 1, **headers: str) -> None:
        """Answer `status` the next `times` that a path holds `text`; `_` is - in header names."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.refusals.append(Refusal(text, status, named, times))

    def downloads(self) -> list[str]:
        """Names of the files that were sent, in order."""
        return [path.rpartition("/")[2] for method, path, _ in self.asked if _sends(method, path)]

    def close(self) -> None:
        """Stop answering."""
        self.over.set()
        self._http.shutdown()
        self._http.server_close()


def _sends(method: str, path: str) -> bool:
    return method == "GET" and "/resolve/" in path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    hub: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.asked.append((self.command, unquote(url.path), self.headers.get("Range", "")))
        for text, at_once in self.hub.trickles:
            if text in unquote(url.path) and self.command == "GET":
                self._trickle(at_once)
                return
        for refusal in self.hub.refusals:
            if refusal.text in unquote(url.path) and refusal.times:
                refusal.times -= 1
                if not refusal.status:
                    self.hub.over.wait()
                    self.close_connection = True
                    return
                self._answer(refusal.status, b"", refusal.headers)
                return
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts == ["api", "models"]:
            self._list(query)
            return
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        repository = self.hub.repositories.get(f"{owner}/{name}")
        if repository is None:
            self._fail(404, "RepoNotFound")
            return
        match rest:
            case ["refs"] if api:
                refs = [
                    {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": commit}
                    for ref, commit in repository.refs.items()
                ]
                self._json({"branches": refs, "tags": [], "converts": []})
            case ["revision", revision] if api:
                commit = self._commit(repository, revision)
                if commit:
                    self._json({"id": f"{owner}/{name}", "sha": commit, "siblings": []})
            case ["tree", revision] if api:
                commit = self._commit(repository, revision)
                if commit:
                    self._json(
                        [
                            {"type": "file", "path": file, "size": len(data), "oid": _etag(data)}
                            for file, data in repository.commits[commit].items()
                        ]
                    )
            case ["resolve", revision, *path] if not api:
                commit = self._commit(repository, revision)
                if commit:
                    self._file(repository, commit, "/".join(path))
            case _:
                self._answer(404, b"")

    do_HEAD = do_GET  # noqa: N815

    def _trickle(self, at_once: int) -> None:
        """Send an answer a byte at a time, its first bytes at once, until nobody listens."""
        self.close_connection = True
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        self.wfile.write(head[:at_once])
        for n in range(at_once, 10_000):
            self.wfile.write(head[n : n + 1] or b" ")
            self.wfile.flush()
            if self.hub.over.wait(0.01):
                return

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.refs.get(revision, revision)
        if commit in repository.commits:
            return commit
        self._fail(404, "RevisionNotFound")
        return None

    def _list(self, query: dict[str, str]) -> None:
        """Repositories of an author with a text in the name, a page at a time."""
        start = int(query.get("cursor", "0"))
        names = [
            name
            for name in sorted(self.hub.repositories)
            if name.startswith(query.get("author", "") + "/") and query.get("search", "") in name
        ]
        page = [
            {"id": name, "sha": self.hub.repositories[name].refs.get("main")}
            for name in names[start : start + self.hub.page]
        ]
        headers = {}
        if start + self.hub.page < len(names):
            following = f"{self.path.partition('&cursor=')[0]}&cursor={start + self.hub.page}"
            headers["Link"] = f'<{self.hub.endpoint}{following}>; rel="next"'
        self._json(page, headers)

    def _file(self, repository: Repository, commit: str, name: str) -> None:
        if repository.gated:
            self._fail(403, "GatedRepo")
            return
        data = repository.commits[commit].get(name)
        if data is None:
            self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.command == "GET":
            self.hub.sending(name)
            if self.hub.cuts and self.hub.cuts[0][0] == name:
                _, part = self.hub.cuts.pop(0)
                rest = data[start:]
                self._answer(206 if asked else 200, rest, headers, send=int(part * len(rest)))
                self.close_connection = True
                return
        self._answer(206 if asked else 200, data[start:], headers)

    def _json(self, value: object, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self._answer(200, body, {"Content-Type": "application/json", **(headers or {})})

    def _fail(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._answer(status, b"", {"X-Error-Code": code, **(headers or {})})

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        send: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:send])


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def push_runs(hub: HubServer, folder: Path, text: str = "lab/m-seed{seed}") -> None:
    for checkpoint in sorted((folder / "runs").glob("*/*")):
        seed, step = checkpoint.parent.name.removeprefix("seed"), checkpoint.name
        hub.push(text.format(seed=seed), step, checkpoint)
