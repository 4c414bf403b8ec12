"""Rows for the engine's devices: the work in hand, and the load of its GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from seedconv_tui.monitor.common.canvas import Line, line_width, spread
from seedconv_tui.text import size, step_label

if TYPE_CHECKING:
    from seedconv_tui.monitor.common.theme import Appearance
    from store.schema import EngineStatus, Gpu, Work

_ROOMY = 100  # columns from which on the GPU's numbers get words and a bar
_BAR, _GPU_BAR = 30, 10


@dataclass(frozen=True)
class Device:
    """One of the engine's devices."""

    name: str
    work: Work | None
    gpu: Gpu | None


def devices_of(engine: EngineStatus) -> list[Device]:
    """Return what is known of GPUs, idle ones included, and of what else has work in hand."""
    # Always in the same order, whichever began first: "cuda:2" before "cuda:10".
    works = sorted(engine.works, key=lambda work: (len(work.device), work.device))
    devices = []
    for gpu in engine.gpus:
        work = next((work for work in works if work.device == gpu.device), None)
        if work is not None:
            works.remove(work)
        devices.append(Device(gpu.device, work, gpu))
    return devices + [Device(work.device, work, None) for work in works]


def device_rows(
    engine: EngineStatus, look: Appearance, width: int, limit: int, *, stale: bool
) -> list[Line]:
    """Return up to `limit` rows, busy devices first if not all fit; `stale`: what was before."""
    devices = devices_of(engine)
    several, hidden = len(devices) > 1, len(devices) - limit
    if hidden > 0:
        devices.sort(key=lambda device: device.work is None)
        devices = devices[:limit]
    label_width = max((cell_len(look.visible(device.name)) for device in devices), default=0)
    rows = []
    for device in devices:
        label = f" {look.shorten(look.visible(device.name), width // 4):<{label_width}}"
        more = f" (and {hidden} more)" if hidden > 0 and device is devices[-1] else ""
        right = [] if stale or device.gpu is None else _gpu(device.gpu, look, width)
        room = width - line_width(right)
        head: Line = [(label if several else "", look.palette.strong)]
        head += _work(device.work, more, look, room - line_width(head), stale=stale)
        rows.append(spread(head, right, width, look.more))
    return rows


def _work(work: Work | None, more: str, look: Appearance, width: int, *, stale: bool) -> Line:
    palette = look.palette
    if work is None:
        return [(f" nothing in hand{more}", palette.dim)]
    seed = "all seeds" if work.seed is None else f"seed {look.visible(work.seed)}"
    what = f" {work.state.name.lower()} {look.visible(work.model)} {seed}"
    what += f" step {step_label(work.step)}"
    what += f" for probe {look.visible(work.probe)}" if work.probe else ""
    fraction = work.tokens_done / work.tokens_total if work.tokens_total else 0.0
    percent = f" {fraction:.0%}  "
    room = width - len(percent)
    what = look.shorten(what, room - len(more) - 1) + f"{more} "
    full, empty = look.bar(fraction, min(max(room - cell_len(what), 0), _BAR))
    return [
        (what, palette.dim if stale else palette.text),
        (full, palette.dim if stale else palette.accent),
        (empty, palette.faint),
        (percent, palette.dim if stale else palette.text),
    ]


def _gpu(gpu: Gpu, look: Appearance, width: int) -> Line:
    """Return utilisation and memory, as far as known."""
    palette, line = look.palette, Line()
    if gpu.utilisation is not None:
        percent = f"{gpu.utilisation:.0%}"
        if width >= _ROOMY:
            full, empty = look.bar(gpu.utilisation, _GPU_BAR)
            line += [("GPU ", palette.dim), (full, palette.good), (empty, palette.faint)]
            percent = f" {percent:>4}"
        line.append((percent, palette.text))
    if gpu.memory_used is not None:
        memory = f"{size(gpu.memory_used):>{6 if width >= _ROOMY else 0}}"
        if gpu.memory_total is not None:
            memory += f" of {size(gpu.memory_total)}"
        line.append(((look.dot if line else "") + memory, palette.text))
    return [*line, (" ", palette.text)] if line else line
