"""Studies in object stores and behind web servers, for reading; needs the extra `remote`.

Credentials and endpoints come from the environment variables that other clients of the store use
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...), never from the address: addresses are shown.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from operator import sub
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from store.errors import RemoteError, UnsupportedError, from_extra
from store.storage.kept_objects import MOST_WHOLE, KeptFile, KeptFiles, Listing, version_of
from store.storage.links import MOST_METADATA, refuse_longer

with from_extra("a remote store", "remote"):
    import obstore
    from obstore.exceptions import (
        BaseError,
        NotModifiedError,
        NotSupportedError,
        PermissionDeniedError,
        UnauthenticatedError,
    )
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from store.storage.committed_objects import CommittedObjects, wait

# One more attempt, none after 10 s: a monitor asks again anyway, a user wants to know.
_RETRY: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}

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
    """Objects below one prefix. Every file is replaced whole there, as a copying tool does it.

    What was read is kept with its version, so that what did not change is not sent again; all
    folders `below` share that.
    """

    near = False

    def __init__(
        self, store: Any, shown: str, scheme: str, folder: str = "", kept: KeptFiles | None = None
    ) -> None:
        self._store, self._shown, self._scheme, self._folder = store, shown, scheme, folder
        self._kept = KeptFiles() if kept is None else kept
        self._seen: Listing | None = None  # what lies here, as of the last `look`

    def __str__(self) -> str:
        return self._shown + (f"/{self._folder}" if self._folder else "")

    @property
    def resting(self) -> bool:
        """Return whether nothing is asked for again that is known; see `rest`."""
        return self._kept.resting

    def rest(self, seconds: float) -> None:
        """Ask for so long for nothing again that is known, also not whether it has changed."""
        self._kept.rest(seconds)

    def look(self) -> None:
        """See `store.storage.places.Files`. Web servers are asked file by file."""
        if not isinstance(self._store, HTTPStore):
            self._seen = self._kept.listings.get(self._folder) if self.resting else None
            if self._seen is None:
                found = self._listed()["objects"]
                self._seen = {PurePosixPath(each["path"]).name: each for each in found}
                self._kept.listings[self._folder] = self._seen

    def version(self, name: str) -> object:
        """See `store.storage.places.Files`."""
        return version_of((self._seen or {}).get(name))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `store.storage.places.Files`. Asks for nothing again that did not change."""
        key = str(PurePosixPath(self._folder, name))
        with self.translated(key):
            listed = None
            if self._seen is not None and "/" not in name:
                if name not in self._seen:
                    raise FileNotFoundError(errno.ENOENT, "no such object", key)
                listed = self._seen[name]
            known = self._kept.get(key)
            if self.resting and self._kept.is_absent(key):
                raise FileNotFoundError(errno.ENOENT, "no such object", key)
            if known is not None and (self.resting or known.is_version(listed)):
                part = known.part(start, stop)
                if part is not None:
                    return part
            if listed is not None and start >= listed["size"]:
                return b""
            found = self._ask(key, start, stop, known, listed)
        part = found.part(start, stop)
        if part is None:
            raise RemoteError(f"{self}/{name}: cannot be read; the server sent less than it has")
        return part

    def _ask(
        self, key: str, start: int, stop: int | None, known: KeptFile | None, listed: Any
    ) -> KeptFile:
        """Return the object, or as much of it as is best asked for at once."""
        size = listed["size"] if listed is not None else known.size if known is not None else 0
        options: dict[str, Any] = {}
        if start > 0:
            options["range"] = {"offset": start} if stop is None else (start, stop)
        elif start < 0 and size > -2 * start:
            options["range"] = {"suffix": -start}
        elif start == 0 and stop is not None and size > MOST_WHOLE:
            options["range"] = (start, stop)
        whole = known is not None and known.part(start, stop) is not None
        if known is not None and known.e_tag and whole and listed is None:
            options["if_none_match"] = known.e_tag
        try:
            found, data = wait(self._get, key, options, None if start < 0 else stop)
        except NotModifiedError:
            assert known is not None
            return known
        except NotSupportedError:  # a server that knows no ranges
            found, data = wait(self._get, key, {}, None)
        except FileNotFoundError:
            self._kept.say_absent(key)
            raise
        except BaseError as error:
            if "416 Range Not Satisfiable" not in str(error):
                raise
            return KeptFile(None, None, start, start, b"")  # it ends before
        first, _ = found.range
        meta = found.meta
        return self._kept.keep(
            key, KeptFile(version_of(listed), meta["e_tag"], meta["size"], first, data)
        )

    async def _get(self, key: str, options: Any, stop: int | None) -> tuple[Any, bytes]:
        found = await obstore.get_async(self._store, key, options=options)
        if "range" not in options:
            if stop is None:
                refuse_longer(f"{self._shown}/{key}", found.meta["size"], MOST_METADATA)
            elif found.meta["size"] > MOST_WHOLE:  # which was not known
                found = await obstore.get_async(self._store, key, options={"range": (0, stop)})
        elif stop is None:
            refuse_longer(f"{self._shown}/{key}", -sub(*found.range), MOST_METADATA)
        return found, bytes(await found.bytes_async())

    def stamp(self, name: str) -> None:
        """See `store.storage.places.Files`: asking would cost as much as reading."""

    def names(self) -> list[str]:
        """See `store.storage.places.Files`. Web servers do not list."""
        if self._seen is not None:
            return list(self._seen)
        return [PurePosixPath(found["path"]).name for found in self._listed()["objects"]]

    def exists(self) -> bool:
        """See `store.storage.places.Files`."""
        listed = self._listed()
        return isinstance(self._store, HTTPStore) or any(map(bool, listed.values()))

    def _listed(self) -> Any:
        if not isinstance(self._store, HTTPStore):
            with suppress(FileNotFoundError), self.translated(self._folder):
                list_all = obstore.list_with_delimiter_async
                return wait(list_all, self._store, prefix=self._folder or None)
        return {"objects": [], "common_prefixes": []}

    def below(self, folder: str) -> RemoteFiles:
        """See `store.storage.places.Files`."""
        inside = str(PurePosixPath(self._folder, folder))
        return RemoteFiles(self._store, self._shown, self._scheme, inside, self._kept)

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
