"""TensorBoard event files, in a folder `STUDY/MODEL` each. Needs the extra `tensorboard`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from seedconv_tui.listeners.scalars import StepScalars
from seedconv_tui.text import visible
from store import from_extra

with from_extra("TensorBoard", "tensorboard"):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

_OURS = ".seedconv"  # event files that end so are ours, to be replaced


class EventFiles:
    """Keeps the event file of each model equal to its rows.

    TensorBoard drops what it read of later steps when an earlier one follows. So a step that comes
    after all others is appended; for any other change the file is made again, in ascending order,
    before the old one goes.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self.name = f"TensorBoard's files in {folder}"
        self._folder = folder / _folder_name(study)  # several studies may share the folder
        self._written: dict[str, list[StepScalars]] = {}
        self._writers: dict[str, EventsWriter] = {}

    def take(self, model: str, rows: Sequence[StepScalars]) -> None:
        """Make the model's file hold these rows, steps ascending. Raise OSError."""
        before = self._written.get(model)
        if before is None or list(rows[: len(before)]) != before:
            self._begin(model)
            before = []
        writer = self._writers[model]
        for row in rows[len(before) :]:
            writer.write_event(_event(row))
        writer.flush()
        self._written[model] = list(rows)
        if not before:
            self._remove_others(model)

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _begin(self, model: str) -> None:
        if (old := self._writers.pop(model, None)) is not None:
            old.close()
        self._written.pop(model, None)
        folder = self._folder / _folder_name(model)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f".{uuid.uuid4().hex[:8]}{_OURS}"
        self._writers[model] = EventsWriter(str(folder / "events"), suffix)
        start = SessionLog(status=SessionLog.START)  # what was read before is void
        self._writers[model].write_event(Event(wall_time=time.time(), step=0, session_log=start))

    def _remove_others(self, model: str) -> None:
        ours = Path(self._writers[model]._file_name)
        for file in ours.parent.glob(f"events.out.tfevents.*{_OURS}"):
            if file != ours:
                file.unlink(missing_ok=True)


def _event(row: StepScalars) -> Event:
    values = [
        Summary.Value(tag=visible(tag), simple_value=value) for tag, value in row.values.items()
    ]
    return Event(wall_time=time.time(), step=row.step, summary=Summary(value=values))


def _folder_name(name: str) -> str:
    """Return the name of a study or model as a folder's, which cannot lead elsewhere."""
    name = visible(name).replace("/", "_").replace("\\", "_")
    return name if name.strip(".") else f"_{name}"
