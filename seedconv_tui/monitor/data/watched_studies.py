"""Studies that are watched: each is read by threads of its own, and keeps what was read."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

from textual.message import Message

from seedconv_tui.monitor.data.details import Details
from seedconv_tui.monitor.data.feed import Crashed, Feed
from store import NotAStudyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedconv_tui.monitor.data.feed import SnapshotSource
    from store.schema import StudySnapshot


class Arrived(Message):
    """A reading of a study; the first one is without results, because that is quicker."""

    def __init__(self, watch: Watch, snapshot: StudySnapshot, *, results: bool = True) -> None:
        self.watch, self.snapshot, self.results = watch, snapshot, results
        super().__init__()


class Troubled(Message):
    """A reading that failed."""

    def __init__(self, watch: Watch, reason: str, *, absent: bool) -> None:
        self.watch, self.reason, self.absent = watch, reason, absent
        super().__init__()


class Watch:
    """One study: its source, what was read from it, and the thread that reads it."""

    def __init__(
        self, source: SnapshotSource, post: Callable[[Message], object], now: float
    ) -> None:
        self.feed = Feed(now)
        self.details = Details(source, post)
        self.reading: Thread | None = None
        self._source = source
        self._post = post

    def poll(self) -> bool:
        """Ask for a snapshot; return false if the last question is still open."""
        if self.reading is not None:
            return False
        # A daemon of our own: a store that hangs (NFS) must not keep the app from quitting.
        self.reading = Thread(target=self._read, name="snapshot", daemon=True)
        self.reading.start()
        return True

    def arrived(self, message: Arrived, now: float) -> bool:
        """Take a reading; return whether another study lies in the place of the last one."""
        self.feed.now = now
        last = self.feed.snapshot
        self.feed.accept(message.snapshot, results=message.results)
        replaced = last is not None and last.replaced != message.snapshot.replaced
        if replaced:
            self.details.forget()
        if message.results:
            self.reading = None
            self.details.retry()
        return replaced

    def troubled(self, message: Troubled, now: float) -> None:
        """Keep what was read before, and why it could not be read again."""
        self.reading = None
        self.feed.now = now
        self.feed.trouble, self.feed.absent = message.reason, message.absent

    def _read(self) -> None:
        """Run in the thread; only post what came of it."""
        try:
            if self.feed.progress is None:
                self._post(Arrived(self, self._source.progress(), results=False))
            message: Message = Arrived(self, self._source.snapshot())
        except (StoreError, OSError) as error:
            absent = isinstance(error, NotAStudyError)
            message = Troubled(self, str(error) or type(error).__name__, absent=absent)
        except Exception as error:  # a bug of ours: the app ends with its traceback
            message = Crashed(error)
        try:
            self._post(message)
        except RuntimeError:  # the event loop ended while the store was being read
            return


@dataclass
class Studies:
    """Everything that are watched, and which of them the screens of one study show."""

    watches: tuple[Watch, ...]
    current: int = 0

    @property
    def shown(self) -> Watch:
        """The one that the screens of one study show."""
        return self.watches[self.current]

    def details_of(self, feed: Feed) -> Details:
        """Return what is read beyond a feed's snapshot."""
        return next(watch.details for watch in self.watches if watch.feed is feed)
