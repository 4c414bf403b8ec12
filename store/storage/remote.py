"""Studies in object stores and behind web servers, for reading; needs the extra `remote`.

Credentials and endpoints come from the environment variables that other clients of the store use
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...), never from the address: addresses are shown.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from store.errors import DamagedError, RemoteError, UnsupportedError
from store.storage.checked_stores import CheckedStore, ChunkSizes
from store.storage.links import MOST_METADATA, refuse_longer

try:
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store
except ModuleNotFoundError as error:
    raise UnsupportedError(
        "reading a remote store needs obstore: pip install 'seedconv-tui[remote]'"
    ) from error

from zarr.core.sync import sync
from zarr.storage import ObjectStore

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

# One more attempt, none after 10 s: a monitor asks again anyway, a user wants to know.
_RETRY: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
_CACHED_BYTES = 2**20

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true: public bucket)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS (GOOGLE_SKIP_SIGNATURE=true: public bucket)",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_METADATA = ("169.254.", "metadata.google.internal", "MissingAccount")  # where keys are sought last


def open_remote(address: str) -> RemoteFiles:
    """Return the files at s3://, gs://, az://, https:// or http://. Raise UnsupportedError."""
    try:
        url = urlsplit(address)
        scheme, bucket, prefix = url.scheme, url.netloc, url.path.strip("/")
        _ = url.port  # raises when it is none
    except ValueError:
        raise UnsupportedError("the store's address is not a URL: s3://BUCKET/STUDY") from None
    if "@" in bucket or url.query or url.fragment:  # may hold secrets: nothing of it is repeated
        hint = f"set {_CREDENTIALS[scheme]}" if scheme in _CREDENTIALS else "they would be shown"
        raise UnsupportedError(
            f"a {scheme}:// store's address has no user, password, query or fragment: {hint}"
        )
    shown = f"{scheme}://{bucket}/{prefix}"
    if not bucket or not _is_inside(prefix or "."):
        raise UnsupportedError(f"{shown}: not a store's address; it is like s3://BUCKET/STUDY")
    with _translated(shown, scheme):
        store: Any
        match scheme:
            case "s3":
                store = S3Store(bucket, prefix=prefix or None, retry_config=_RETRY)
            case "gs":
                store = GCSStore(bucket, prefix=prefix or None, retry_config=_RETRY)
            case "az":
                store = AzureStore(bucket, prefix=prefix or None, retry_config=_RETRY)
            case "https" | "http":
                options: Any = {"allow_http": scheme == "http"}
                store = HTTPStore(shown, client_options=options, retry_config=_RETRY)
            case _:
                raise UnsupportedError(
                    f"{scheme}:// stores cannot be read, only s3, gs, az, https and http"
                )
    return RemoteFiles(store, shown.rstrip("/"), scheme)


class RemoteFiles:
    """Objects below one prefix. Every file is replaced whole there, as a copying tool does it."""

    near = False

    def __init__(self, store: Any, shown: str, scheme: str, folder: str = "") -> None:
        self._store, self._shown, self._scheme, self._folder = store, shown, scheme, folder
        self._last: dict[str, tuple[tuple[str, int, int], bytes]] = {}

    def __str__(self) -> str:
        return self._shown + (f"/{self._folder}" if self._folder else "")

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `store.storage.places.Files`. Asks for nothing again that did not change."""
        key = str(PurePosixPath(self._folder, name))
        with self.translated(key):
            found = _wait(obstore.head_async, self._store, key)
            size = found["size"]
            start = max(0, size + start) if start < 0 else start
            end = size if stop is None else min(stop, size)
            if stop is None:
                refuse_longer(f"{self}/{name}", size - start, MOST_METADATA)
            if start >= end:
                return b""
            version = (found["e_tag"] or "", start, end)
            if version[0] and key in self._last and self._last[key][0] == version:
                return self._last[key][1]
            if end - start == size:  # whole, and all of it when it was replaced just now
                data = bytes(_wait(self._whole, key))[:stop]
            else:
                get = obstore.get_range_async
                data = bytes(_wait(get, self._store, key, start=start, end=end))
        if len(data) <= _CACHED_BYTES:
            self._last[key] = version, data
        return data

    async def _whole(self, key: str) -> Any:
        return await (await obstore.get_async(self._store, key)).bytes_async()

    def stamp(self, name: str) -> None:
        """See `store.storage.places.Files`: asking would cost as much as reading."""

    def names(self) -> list[str]:
        """See `store.storage.places.Files`. Web servers do not list."""
        return [PurePosixPath(found["path"]).name for found in self._listed()["objects"]]

    def exists(self) -> bool:
        """See `store.storage.places.Files`."""
        listed = self._listed()
        return isinstance(self._store, HTTPStore) or any(map(bool, listed.values()))

    def _listed(self) -> Any:
        if not isinstance(self._store, HTTPStore):
            with suppress(FileNotFoundError), self.translated(self._folder):
                list_all = obstore.list_with_delimiter_async
                return _wait(list_all, self._store, prefix=self._folder or None)
        return {"objects": [], "common_prefixes": []}

    def below(self, folder: str) -> RemoteFiles:
        """See `store.storage.places.Files`."""
        inside = str(PurePosixPath(self._folder, folder))
        return RemoteFiles(self._store, self._shown, self._scheme, inside)

    def arrays(self) -> CommittedObjects:
        """See `store.storage.places.Files`."""
        return CommittedObjects(self._store, self)

    @contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Turn the client's errors into ours; nothing outside the prefix is asked for."""
        if key and not _is_inside(key):
            raise FileNotFoundError(errno.ENOENT, "not a name in a store", key)
        with _translated(f"{self._shown}/{key}" if key else self._shown, self._scheme):
            yield


class CommittedObjects(CheckedStore, ObjectStore[Any]):
    """Read-only objects of which every chunk that is asked for must exist, like CommittedStore."""

    def __init__(self, store: Any, files: RemoteFiles) -> None:
        super().__init__(store, read_only=True)
        self._files = files
        self.sizes = ChunkSizes()

    def __str__(self) -> str:
        return str(self._files)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read one object. Raise DamagedError for a missing chunk, RemoteError."""
        with self._files.translated(key):
            value = await super().get(key, prototype, byte_range)
        if value is None and not key.endswith("zarr.json"):
            raise DamagedError(
                f"{self}/{key}: missing, though it was committed; a copy that is still growing "
                "takes in `commits` last"
            )
        if value is not None:
            self.expect(key, value.as_numpy_array())
        return value


def _wait(request: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
    """Return the request's result. Waiting as the client does would not end at Ctrl-C."""

    async def result() -> Any:
        return await request(*arguments, **options)

    return sync(result())


def _is_inside(key: str) -> bool:
    return not any(part in {"", "..", "."} for part in key.split("/")) or key == "."


@contextmanager
def _translated(shown: str, scheme: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "no such object", shown) from None
    except (BaseError, OSError, ValueError) as error:
        # What follows the first line, or a `?`, is the client's own state: long, and may be secret.
        text = str(error)
        first = re.sub(r"\?\S*|: <.*", "", text.partition("\n")[0])[:300]
        keys = _CREDENTIALS.get(scheme, "none, or make it public")
        if any(place in text for place in _METADATA):
            raise RemoteError(f"{shown}: no credentials found; set {keys}") from None
        if "404 Not Found" in first:  # listing what is not there
            raise FileNotFoundError(errno.ENOENT, "no such object", shown) from None
        if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            raise RemoteError(
                f"{shown}: access denied; it takes the right to read and to list, and {keys}"
            ) from None
        hint = "check the address, the network and the endpoint"
        if "builder error" in first:
            hint = "set AWS_ALLOW_HTTP=true if the endpoint is meant to be without TLS"
        raise RemoteError(f"{shown}: cannot be read; {hint} ({first})") from None
