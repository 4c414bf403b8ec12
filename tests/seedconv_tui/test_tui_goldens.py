"""Every screen as text, at three sizes, on a study that never changes.

`UPDATE_GOLDENS=1 make test ARGS=tests/seedconv_tui` renews them; then look at every
difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seedconv_tui.monitor.common.study_screen import StudyScreen
from store.schema import EngineStatus, Failure, Phase, State, Work
from tests.support.made_store import N_TOKENS, Clock, fill, open_writer
from tests.support.terminal import SCREENS, START, terminal

GOLDENS = Path(__file__).parents[1] / "goldens"
SEEDS, STEPS, LATER = ("1", "2", "3"), (0, 1, 4, 16, 64, 256), (512, 1024)
PHASES = (Phase("uniform", 0), Phase("sharp convergence", 4), Phase("sharp divergence", 64))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one of them half done, with an engine at work and a checkpoint that failed."""
    path = tmp_path_factory.mktemp("goldens") / "study.zarr"
    clock = Clock()
    clock.now = START
    writer = open_writer(path, clock)
    for model, steps in {"small": STEPS, "large": STEPS[:3]}.items():
        fill(writer, model, SEEDS, steps)
        writer.set_phases(model, PHASES)
        writer.plan(model, [(seed, step) for step in LATER for seed in SEEDS], {})
    writer.fail("large", "2", LATER[0], Failure("model.safetensors: cut off at 12 MB"))
    work = Work("large", "1", LATER[0], State.SCORING, N_TOKENS // 3, N_TOKENS)
    engine = EngineStatus(
        writer.writer,
        "gpu-07",
        4242,
        START,
        START - 100,
        "working",
        device="cuda:0",
        works=(work,),
        tokens_per_second=12_345.0,
        queued=13,
        eta_seconds=180.0,
        disk_free=3_000_000_000_000,
    )
    writer.beat(engine)
    for status in (path / "status").iterdir():
        os.utime(status, (START, START))  # long ago, however slowly the screens are drawn
    return path


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.NAME)
async def test_screens_look_as_they_did(
    store: Path, screen: type[StudyScreen], size: tuple[int, int]
) -> None:
    async with terminal(store=store, size=size) as shown:
        await shown.go_to(screen)
        drawn = "\n".join(row.rstrip() for row in shown.text.splitlines()) + "\n"
    path = GOLDENS / f"screen_{screen.NAME.lower()}_{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")
