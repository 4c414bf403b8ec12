"""Writing a report into its folder: only what changed is drawn again, and nothing old is left."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

from seedconv_tui.report import page, style
from seedconv_tui.report.choices import FORMATS
from seedconv_tui.report.parts import Block, Figure, Omitted, PageTable
from seedconv_tui.report.result_cache import digest
from seedconv_tui.tables.writers import CsvWriter, new_file

_STATE = "report.json"  # which figures are there, and what they were drawn from


class Written(NamedTuple):
    """Numbers of figures: drawn now, and there already."""

    drawn: int
    kept: int


class Folder:
    """The folder of a report. Figures are written one by one, pages at the end."""

    def __init__(self, path: Path, formats: Sequence[str]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path, self._formats = path, tuple(formats)
        self._before = self._read_state()
        # Whatever changes how figures are drawn draws them again.
        code = sorted(Path(__file__).parent.rglob("*.py"))
        self._drawn_by = digest(mpl.__version__, *(file.read_bytes() for file in code))
        self._pictures: dict[str, tuple[bytes, float]] = {}
        self._state: dict[str, dict[str, Any]] = {}
        self._drawn = 0

    def add(self, figure: Figure) -> None:
        """Write data and pictures of one figure, where they are not there as they should be."""
        table = _csv(figure)
        key = digest(self._drawn_by, table, figure.title, figure.caption)
        before = self._before.get(figure.name)
        if before is None or before["digest"] != key or not self._is_there(figure.name):
            self._draw(figure, table)
        else:
            picture = self._file(figure.name, "png").read_bytes()
            self._pictures[figure.name] = picture, before["inches"]
        _, inches = self._pictures[figure.name]
        self._state[figure.name] = {"digest": key, "inches": inches}
        self._write_state(self._before | self._state)

    def finish(
        self,
        name: str,
        settings: str,
        figures: Sequence[Figure],
        tables: Sequence[PageTable | Block],
        left: Sequence[Omitted],
    ) -> Written:
        """Write captions, tables and the page; remove figures of earlier reports."""
        for old in self._before.keys() - self._state.keys():
            for kind in (*FORMATS, "csv"):
                self._file(old, kind).unlink(missing_ok=True)
        self._write("captions.md", page.captions(figures))
        self._write("summary.md", page.summary_md(name, tables, left))
        self._write("summary.tex", page.summary_tex(tables))
        self._write("report.html", page.page(name, settings, figures, self._pictures, tables, left))
        self._write_state(self._state)
        return Written(self._drawn, len(figures) - self._drawn)

    def _draw(self, figure: Figure, table: bytes) -> None:
        with style.styled():
            drawing = style.laid_out(figure.draw())
            inches = float(drawing.get_size_inches()[0])
            made = {kind: style.encoded(drawing, kind) for kind in {*self._formats, "png"}}
        self._pictures[figure.name] = made["png"], inches
        for kind in self._formats:
            with new_file(self._file(figure.name, kind)) as file:
                file.write(made[kind])
        with new_file(self._file(figure.name, "csv")) as file:
            file.write(table)
        self._drawn += 1

    def _is_there(self, name: str) -> bool:
        return "png" in self._formats and all(
            self._file(name, kind).is_file() for kind in (*self._formats, "csv")
        )

    def _file(self, name: str, kind: str) -> Path:
        return self._path / f"{name}.{kind}"

    def _write(self, name: str, text: str) -> None:
        with new_file(self._path / name) as file:
            file.write(text.encode("utf-8", "replace"))

    def _read_state(self) -> dict[str, dict[str, Any]]:
        """As an earlier report left it; what is no such file is none."""
        try:
            found = json.loads((self._path / _STATE).read_bytes())["figures"]
            return {
                name: {"digest": str(of["digest"]), "inches": float(of["inches"])}
                for name, of in found.items()
                if Path(name).name == name
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write_state(self, figures: dict[str, dict[str, Any]]) -> None:
        self._write(_STATE, json.dumps({"figures": figures}, indent=1) + "\n")


def _csv(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    writer = CsvWriter(buffer, figure.columns)
    writer.write(figure.rows)
    writer.close()
    return buffer.getvalue()
