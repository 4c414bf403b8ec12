"""The Hugging Face Hub, asked patiently. The one module that imports huggingface_hub.

The library answers a refusal by sleeping for as long as that asks, deaf to a request to stop.
So refusals are caught before it sees them, waited out here and the question put again; it goes on
by itself only where a download broke off. `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE` and `HF_TOKEN`
work as everywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2  # what huggingface_hub speaks HTTP with
from huggingface_hub import HfApi, constants, get_session, hf_hub_download, scan_cache_dir
from huggingface_hub import logging as hub_logging
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, parse_ratelimit_headers
from huggingface_hub.utils import tqdm as hub_tqdm

from engine.errors import Interrupted
from engine.sources.hub_errors import HubError
from engine.sources.hub_pace import Pace, Question, TooSlowError, on_request, on_response
from store import lacks_room

Answer = TypeVar("Answer")

TIMEOUT = 30.0  # seconds of silence after which a question counts as unanswered
MOST_TRIES = 8
LONGEST_WAIT = 600.0  # seconds in all; the Hub counts requests over 300 seconds

LONG = 5.0  # seconds that a wait takes to be worth telling

_BUSY = {408, 429, 500, 502, 503, 504}
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


class _Refused(Exception):  # noqa: N818  (asked again, mostly)
    def __init__(self, status: int, pause: float | None) -> None:
        super().__init__(f"answers {status}" + (" (too many requests)" if status == 429 else ""))
        self.pause = pause


class PatientHub:
    """Questions to the Hub, each asked again until there is an answer; see `HubClient`."""

    def __init__(
        self,
        stop: threading.Event,
        wait: Callable[[float], bool],
        on_wait: Callable[[str], None],
    ) -> None:
        self._stop, self._wait = stop, wait
        self._answered = False
        self._on_wait = on_wait
        disable_progress_bars()
        hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        self._api = HfApi()

    # -- questions -----------------------------------------------------------------------------

    def revisions(self, repository: str) -> dict[str, str]:
        """Return the branches and tags of a repository, with their commits."""

        def ask() -> dict[str, str]:
            try:
                refs = self._api.list_repo_refs(repository)
            except OfflineModeIsEnabled:
                return {
                    name: revision.commit_hash
                    for repo in _cached_repositories()
                    if repo.repo_id == repository
                    for name, revision in repo.refs.items()
                }
            return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}

        return self._patiently(repository, ask)

    def commit(self, repository: str, revision: str) -> str:
        """Return the commit of any revision: a pull request and a commit's own name too."""

        def ask() -> str:
            info = self._api.model_info(repository, revision=revision, timeout=TIMEOUT)
            return str(info.sha)

        return self._patiently(f"{repository}@{revision}", ask)

    def repositories(self, owner: str, text: str) -> dict[str, str | None]:
        """Return an owner's repositories with `text` in their names, and commits of `main`."""

        def ask() -> dict[str, str | None]:
            try:
                found = list(self._api.list_models(author=owner, search=text, expand=["sha"]))
            except OfflineModeIsEnabled:
                return {
                    repo.repo_id: repo.refs["main"].commit_hash if "main" in repo.refs else None
                    for repo in _cached_repositories()
                    if repo.repo_id.startswith(f"{owner}/")
                }
            return {model.id: model.sha for model in found}

        return self._patiently(f"{owner}/*{text}*", ask)

    def files(self, repository: str, commit: str) -> set[str]:
        """Return the names of all files of a commit."""

        def ask() -> set[str]:
            try:
                return set(self._api.list_repo_files(repository, revision=commit))
            except OfflineModeIsEnabled:
                return {
                    file.file_name
                    for repo in _cached_repositories()
                    for revision in repo.revisions
                    if revision.commit_hash == commit
                    for file in revision.files
                }

        return self._patiently(repository, ask)

    def download(self, repository: str, revision: str, name: str) -> Path:
        """Put one file into the Hub's cache, unless it is there. `revision` may be a commit."""

        def ask() -> Path:
            return Path(
                hf_hub_download(
                    repository,
                    name,
                    revision=revision,
                    etag_timeout=TIMEOUT,
                    tqdm_class=self._listening(),
                )
            )

        return self._patiently(f"{repository}@{revision[:12]}/{name}", ask, file=True)

    def drop(self, commit: str) -> None:
        """Delete a commit's files from the cache, but for those that other commits share."""
        try:
            cache = scan_cache_dir(constants.HF_HUB_CACHE)
        except CacheNotFound:
            return
        if any(commit == rev.commit_hash for repo in cache.repos for rev in repo.revisions):
            cache.delete_revisions(commit).execute()

    # -- patience ------------------------------------------------------------------------------

    def _patiently(self, what: str, ask: Callable[[], Answer], *, file: bool = False) -> Answer:
        """Ask until there is an answer, or none can be hoped for.

        Raise HubError, Interrupted.
        """
        waited, tries = 0.0, 0
        while True:
            tries += 1
            _refuse_before_the_library_sleeps()
            question = Question(self._check_stop, whole=not file)
            try:
                with question.asked():
                    answer = ask()
            except Interrupted:
                raise
            except Exception as error:  # of no common kind where files lie in the Hub's own storage
                cause = _cause(error)
                if slow := question.too_slow or (isinstance(cause, TooSlowError) and str(cause)):
                    text = f"{what}: {constants.ENDPOINT} {slow}; given up"
                    raise HubError(text, passing=True) from None
                if final := self._final(what, cause):
                    raise final from None
                reason, pause = f"fails ({_line(cause)})", 2.0 ** (tries - 1)
                if isinstance(cause, _Refused):
                    reason, pause = str(cause), pause if cause.pause is None else cause.pause
            else:
                self._answered = True
                return answer
            if tries == MOST_TRIES or waited + pause > LONGEST_WAIT:
                raise HubError(
                    f"{what}: {constants.ENDPOINT} {reason}; gave up after {tries} tries"
                    + (f", told to wait {pause:.0f} s" if pause > LONGEST_WAIT else ""),
                    passing=True,
                )
            waited += pause
            if pause >= LONG:
                self._on_wait(f"{what}: {constants.ENDPOINT} {reason}; waiting {pause:.0f} s")
            if self._wait(pause):
                raise Interrupted("stopped while waiting for the Hub; run it again to continue")

    def _final(self, what: str, error: BaseException) -> HubError | None:
        """Return the error to give up with, or None when another try may help."""
        hub = constants.ENDPOINT
        match error:
            case OfflineModeIsEnabled():
                return HubError(f"{what}: not in the cache, and HF_HUB_OFFLINE is set", absent=True)
            case GatedRepoError():
                return HubError(f"{what}: needs its terms accepted on {hub}; then {_LOGIN}")
            case RevisionNotFoundError():
                return HubError(f"{what}: there is no such revision", absent=True)
            case RepositoryNotFoundError():
                text = f"{what}: there is no such repository"
                return HubError(f"{text}, or it is private: {_LOGIN}", absent=True)
            case EntryNotFoundError():
                return HubError(f"{what}: there is no such file", absent=True)
            case HfHubHTTPError() if error.response.status_code in (401, 403):
                return HubError(f"{what}: {hub} refuses access: {_LOGIN}")
            case FileMetadataError():
                return HubError(
                    f"{what}: {hub} is not a Hugging Face Hub; see HF_ENDPOINT ({_line(error)})"
                )
            case HfHubHTTPError():
                return HubError(f"{what}: {hub} answers {error.response.status_code}")
            case HFValidationError():
                return HubError(f"{what}: {_line(error)}")
            case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
                return HubError(f"{what}: {hub} is no address ({_line(error)}); see HF_ENDPOINT")
            case httpx2.ConnectError() if not self._answered:
                text = f"{what}: cannot reach {hub} ({_line(error)})"
                return HubError(f"{text}; is there a network? see HF_ENDPOINT, HF_HUB_OFFLINE",
                                passing=True)  # fmt: skip
            case OSError() if lacks_room(error):
                text = f"{what}: no space left in the Hub's cache, {constants.HF_HUB_CACHE}"
                return HubError(f'{text}; set HF_HOME, or models.cache = "drop"', passing=True)
            case ValueError() | KeyError() | TypeError() | AttributeError() | AssertionError():
                text = f"{what}: {hub} does not answer as a Hub does ({_line(error)})"
                return HubError(f"{text}; see HF_ENDPOINT")
            case OSError() if error.errno is not None:
                return HubError(f"{what}: {_line(error)}", passing=True)
        return None

    def _listening(self) -> Any:
        """Return a progress bar that shows nothing and ends a download when asked to stop."""
        check_stop, pace = self._check_stop, Pace()  # of storage that does not speak HTTP here

        class Listening(hub_tqdm):
            def update(self, n: float | None = 1) -> bool | None:
                check_stop()
                pace.add(int(n or 0))
                return bool(super().update(n))

        return Listening

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped while downloading; run it again to continue")


def _cause(error: BaseException) -> BaseException:
    """Return what is behind "not in the cache, and cannot be downloaded"."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _refuse_before_the_library_sleeps() -> None:
    """Have refusals raised by the library's own session, which it may have replaced."""
    hooks = get_session().event_hooks
    if _refuse not in hooks["response"]:
        hooks["response"] += [_refuse, on_response]
        hooks["request"] += [_limit, on_request]


def _limit(request: httpx2.Request) -> None:
    """Give a time limit to questions to which the library gives none."""
    limits = request.extensions.get("timeout", {})
    if not any(limits.values()):
        request.extensions["timeout"] = httpx2.Timeout(TIMEOUT).as_dict()


def _refuse(response: httpx2.Response) -> None:
    if response.status_code not in _BUSY:
        return
    limit = parse_ratelimit_headers(response.headers)
    after = response.headers.get("Retry-After", "").strip()
    pause = float(after) if after.isdecimal() else None
    if pause is None and limit is not None and limit.remaining == 0:
        pause = float(limit.reset_in_seconds)
    raise _Refused(response.status_code, pause)


def _cached_repositories() -> Any:
    try:
        return scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return ()
