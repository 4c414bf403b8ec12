"""What screens read beyond the snapshot: one thing at a time, newest first, kept for a while."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from seedconv_tui.monitor.data.details import Answered, Details
from seedconv_tui.monitor.data.feed import Crashed
from store import StoreError
from tests.support.deadline import DEADLINE
from tests.support.terminal import FakeSource, make_study

if TYPE_CHECKING:
    from textual.message import Message


class Library(FakeSource):
    """A source whose study is a log of what was asked; a question may have to wait at the gate."""

    def __init__(self) -> None:
        super().__init__(make_study())
        self.asked: list[str] = []
        self.opened = 0
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.trouble: Exception | None = None

    def study(self) -> Any:
        self.opened += 1
        if self.trouble is not None:
            raise self.trouble
        return self


@dataclass(frozen=True)
class Title:
    name: str

    KEEP: ClassVar[int] = 3

    def read(self, study: Any) -> str:
        study.asked.append(self.name)
        study.reached.set()
        study.gate.wait(DEADLINE)
        return self.name.upper()


class Reader:
    """Details without an event loop: what is posted is taken in by `wait`."""

    def __init__(self) -> None:
        self.library, self.posted = Library(), list[Any]()
        self.details = Details(self.library, self.post)

    def post(self, message: Message) -> None:
        self.posted.append(message)

    def wait(self) -> None:
        """Waits for the thread, and takes in what it read."""
        if (thread := self.details.reading) is not None:
            thread.join(DEADLINE)
        for message in self.posted:
            if isinstance(message, Answered):
                self.details.take(message)
        self.posted.clear()


def test_answers_come_in_order_and_once() -> None:
    reader = Reader()
    assert reader.details.get(Title("a")) is None
    reader.details.want(Title("a"), Title("b"))
    assert reader.details.busy
    reader.wait()
    assert not reader.details.busy
    assert reader.details.get(Title("a")) == "A"
    assert reader.details.get(Title("b")) == "B"
    reader.details.want(Title("a"), Title("b"))
    reader.wait()
    assert reader.library.asked == ["a", "b"]


def test_what_is_not_wanted_any_more_is_not_read() -> None:
    reader = Reader()
    reader.library.gate.clear()
    reader.details.want(Title("a"), Title("b"), Title("c"))
    assert reader.library.reached.wait(DEADLINE)
    thread = reader.details.reading
    reader.details.want(Title("d"), Title("a"))
    assert reader.details.reading is thread  # never two at once
    reader.library.gate.set()
    reader.wait()
    assert reader.library.asked == ["a", "d"]
    assert reader.details.get(Title("d")) == "D"


def test_answers_about_another_study_are_forgotten() -> None:
    """Also those that are on their way, and the study is opened once more."""
    reader = Reader()
    reader.details.want(Title("a"))
    reader.wait()
    reader.library.gate.clear()
    reader.library.reached.clear()
    reader.details.want(Title("b"))
    assert reader.library.reached.wait(DEADLINE)
    reader.details.forget()
    assert reader.details.get(Title("a")) is None
    reader.library.gate.set()
    reader.wait()
    assert reader.details.get(Title("b")) is None
    assert not reader.details.busy
    reader.details.want(Title("b"))
    reader.wait()
    assert reader.details.get(Title("b")) == "B"


def test_the_oldest_answers_go_first() -> None:
    reader = Reader()
    reader.details.want(*map(Title, "abc"))
    reader.wait()
    assert reader.details.get(Title("a")) == "A"
    reader.details.want(Title("d"))
    reader.wait()
    assert [reader.details.get(Title(name)) for name in "abcd"] == ["A", None, "C", "D"]


@pytest.mark.parametrize("trouble", [StoreError("gone"), OSError("gone")])
def test_what_failed_says_why_and_is_asked_again_when_that_is_allowed(trouble: Exception) -> None:
    reader = Reader()
    reader.library.trouble = trouble
    reader.details.want(Title("a"))
    reader.wait()
    assert reader.details.failure(Title("a")) == "gone"
    assert reader.details.get(Title("a")) is None
    reader.library.trouble = None
    reader.details.want(Title("a"))
    reader.wait()
    assert reader.library.asked == []
    reader.details.retry()
    assert reader.details.failure(Title("a")) == "gone"
    reader.details.want(Title("a"))
    reader.wait()
    assert reader.details.failure(Title("a")) == ""
    assert reader.details.get(Title("a")) == "A"


def test_a_bug_is_told_and_leaves_nothing_waiting() -> None:
    reader = Reader()
    reader.library.trouble = KeyError("a bug")
    reader.details.want(Title("a"), Title("b"))
    if (thread := reader.details.reading) is not None:
        thread.join(DEADLINE)
    assert [type(message) for message in reader.posted] == [Crashed]
    assert not reader.details.busy


def test_an_app_that_has_ended_is_no_error() -> None:
    reader = Reader()

    def gone(message: Message) -> None:
        raise RuntimeError

    details = Details(reader.library, gone)
    details.want(Title("a"))
    if (thread := details.reading) is not None:
        thread.join(DEADLINE)
    assert reader.library.asked == ["a"]
