"""Read in a thread what screens need beyond the snapshot, one thing at a time; keep it a while.

A screen says in every drawing what it wants (`want`), most urgent first, and draws with what is
there (`get`). What is no longer wanted by the time its turn comes is not read.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

from textual.message import Message

from seedconv_tui.monitor.data.feed import Crashed
from store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from seedconv_tui.monitor.data.feed import SnapshotSource
    from store import Study
    from store.schema import ResultPart

Answer_co = TypeVar("Answer_co", covariant=True)

_BATCH_SECONDS = 0.05  # answers that come faster than this are posted together
_REFRESH_SECONDS = 1.0
_AHEAD = 31  # questions that are asked together with the first, of a remote store


class Query(Protocol[Answer_co]):
    """A question to the store. Equal ones have equal answers, so they are hashable and frozen."""

    KEEP: ClassVar[int]  # how many answers to questions of this kind are kept

    def read(self, study: Study) -> Answer_co:
        """Answer it; called in a thread. Raise StoreError."""
        ...


@runtime_checkable
class ReadsParts(Protocol):
    """A question that knows beforehand what it reads: a remote store is asked for more at once."""

    def parts(self, study: Study) -> Iterable[ResultPart]:
        """Return what it reads of the study, as far as there is any."""
        ...


class Failed:
    """Why a question has no answer."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Answered(Message):
    """Answers have come, or reasons why there are none."""

    def __init__(
        self, details: Details, answers: list[tuple[Any, object]], of_study: int = 0
    ) -> None:
        self.details, self.answers, self.of_study = details, answers, of_study
        super().__init__()


class Details:
    """The answers; all methods but those of the thread belong to the event loop."""

    def __init__(self, source: SnapshotSource, post: Callable[[Message], object]) -> None:
        self._source = source
        self._post = post
        self._kept: dict[type, OrderedDict[Any, object]] = {}
        self._retry: set[Any] = set()
        self._lock = Lock()  # of what follows, which the thread shares
        self._of_study = 0  # grows when another study lies in the place of the one that was read
        self._wanted: list[Any] = []
        self._underway: set[Any] = set()  # read or being read, and not taken in yet
        self.reading: Thread | None = None

    @property
    def busy(self) -> bool:
        """Return whether answers are still to come."""
        with self._lock:
            return bool(self._wanted or self._underway)

    def get(self, query: Query[Answer_co]) -> Answer_co | None:
        """Return the answer, if it is there."""
        kept = self._kept.get(type(query), OrderedDict())
        answer = kept.get(query)
        if answer is None or isinstance(answer, Failed):
            return None
        kept.move_to_end(query)
        return cast("Answer_co", answer)

    def failure(self, query: Query[object]) -> str:
        """Return why there is no answer; empty while there is none yet, or there is one."""
        answer = self._kept.get(type(query), OrderedDict()).get(query)
        return answer.reason if isinstance(answer, Failed) else ""

    def want(self, *queries: Query[object]) -> None:
        """Have these answered, in this order, instead of what was wanted before."""
        missing = [query for query in queries if self._is_missing(query)]
        with self._lock:
            self._wanted = [query for query in missing if query not in self._underway]
            if self._wanted and self.reading is None:
                # A daemon of our own: a store that hangs (NFS) must not keep the app from quitting.
                self.reading = Thread(target=self._read_all, name="details", daemon=True)
                self.reading.start()

    def forget(self) -> None:
        """Forget all answers, also those that are on their way: they are of another study."""
        self._kept.clear()
        self._retry.clear()
        with self._lock:
            self._of_study += 1
            self._wanted = []

    def retry(self) -> None:
        """Let what failed be asked again; until it is answered, the reason stays."""
        for kept in self._kept.values():
            self._retry.update(q for q, answer in kept.items() if isinstance(answer, Failed))

    def take(self, message: Answered) -> None:
        """Keep answers, and of each kind no more than its `KEEP`."""
        for query, answer in message.answers if message.of_study == self._of_study else ():
            kept = self._kept.setdefault(type(query), OrderedDict())
            kept[query] = answer
            kept.move_to_end(query)
            self._retry.discard(query)
            while len(kept) > cast("Query[object]", query).KEEP:
                kept.popitem(last=False)
        with self._lock:
            self._underway.difference_update(query for query, _ in message.answers)

    def _is_missing(self, query: Query[object]) -> bool:
        kept = self._kept.get(type(query), OrderedDict())
        return query not in kept or query in self._retry

    # In the thread

    def _read_all(self) -> None:
        answers: list[tuple[Any, object]] = []
        study, refreshed, posted, of_study = None, 0.0, time.monotonic(), self._of_study
        ahead: Collection[Any] = ()
        try:
            while (query := self._next()) is not None:
                now = time.monotonic()
                if of_study != self._of_study:
                    self._send(Answered(self, answers, of_study))
                    study, answers, of_study = None, [], self._of_study
                try:
                    if study is None or now - refreshed > _REFRESH_SECONDS:
                        study, refreshed = self._source.study(), now
                    if isinstance(query, ReadsParts) and query not in ahead:
                        ahead = self._fetch(study, query)
                    answer: object = query.read(study)
                except (StoreError, OSError) as error:
                    answer = Failed(str(error) or type(error).__name__)
                answers.append((query, answer))
                if time.monotonic() - posted > _BATCH_SECONDS:
                    self._send(Answered(self, answers, of_study))
                    answers, posted = [], time.monotonic()
        except Exception as error:  # a bug of ours: the app ends with its traceback
            with self._lock:
                self._wanted, self.reading = [], None
                self._underway.clear()
            self._send(Crashed(error))
        if answers:
            self._send(Answered(self, answers, of_study))

    def _fetch(self, study: Study, query: Any) -> Collection[Any]:
        """Have at hand what this question and the next ones read; return which they are."""
        with self._lock:
            queries = [query, *self._wanted[:_AHEAD]]
        knowing = (each for each in queries if isinstance(each, ReadsParts))
        study.fetch(part for each in knowing for part in each.parts(study))
        return set(queries)

    def _send(self, message: Message) -> None:
        try:
            self._post(message)
        except RuntimeError:  # the event loop ended while the store was being read
            return

    def _next(self) -> Any:
        with self._lock:
            if not self._wanted:
                self.reading = None
                return None
            query = self._wanted.pop(0)
            self._underway.add(query)
            return query
