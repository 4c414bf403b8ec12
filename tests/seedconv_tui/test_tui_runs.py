"""The Runs screen: what it shows at each size, its cursor, its journal, its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seedconv_tui.monitor.runs.checkpoint_columns import checkpoint_columns
from seedconv_tui.monitor.runs.fold import Fold, fold_states
from seedconv_tui.monitor.runs.matrix import Matrix
from store.schema import EngineStatus, Failure, Gpu, JournalEntry, ModelSnapshot, State, Work
from tests.support.terminal import START, make_engine, make_model, make_study, terminal

PYTHIA_STEPS = [0, *(2**n for n in range(10)), *range(1000, 144_000, 1000)]


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_shows_study_engine_work_and_matrix_at_every_size(size: tuple[int, int]) -> None:
    study = make_study(make_model(n_done=7, failed=(3, 1)))
    async with terminal(study, size=size) as screen:
        assert "demo > Runs" in screen.row("Runs")
        assert "20/36 done" in screen.text
        assert "4,096 tokens" in screen.text
        assert ("vocabulary 50,277" in screen.text) == (size[0] > 80)
        assert "working · 12,345 tokens/s · ETA 3 min · 7 queued" in screen.text
        assert "scoring pythia-14m seed 2 step 64" in screen.text
        assert "25%" in screen.row("scoring pythia-14m")
        assert "3.0 TB free" in screen.text
        assert "× failed 1" in screen.text
        assert "20/36  1 failed" in screen.row("pythia-14m  ━")
        cells = screen.row("▸ 2 ").split("2", 1)[1].split()
        assert cells == ["■"] * 3 + ["×"] + ["■"] * 3 + ["·"] * 5
        assert "scored seed 1 step 0" in screen.text
        assert "q Quit" in screen.text.splitlines()[-1]


def test_steps_fold_to_the_width_and_the_most_urgent_state_is_shown() -> None:
    assert Fold.of(20, 72) == Fold(1, 3, 20)
    assert Fold.of(154, 154) == Fold(1, 1, 154)
    assert Fold.of(154, 70) == Fold(3, 1, 52)
    state = np.array([[State.DONE], [State.QUEUED], [State.DONE], [State.DONE]], np.uint8)
    assert fold_states(state, Fold(2, 1, 2)).tolist() == [State.QUEUED, State.DONE]
    state[3] = State.FAILED
    assert fold_states(state, Fold(3, 1, 2)).tolist() == [State.QUEUED, State.FAILED]


@pytest.mark.parametrize(
    ("size", "per_cell"), [((80, 24), 3), ((200, 50), 1), ((60, 16), 4), ((120, 40), 2)]
)
async def test_ten_seeds_of_five_models_at_154_steps(size: tuple[int, int], per_cell: int) -> None:
    models = [
        make_model(f"pythia-{n}m", steps=PYTHIA_STEPS, n_seeds=10, n_done=90, failed=(80, 4))
        for n in (14, 31, 70, 160, 410)
    ]
    async with terminal(make_study(*models, engine=None), size=size) as screen:
        said = f"worst of {per_cell} steps a cell"
        assert (said in screen.text) == (per_cell > 1)
        cells = screen.row("▸ 1 ").split("1", 1)[1]
        assert cells.count("■") == 90 // per_cell  # a cell that is partly queued is not done
        for _ in range(9):
            await screen.press("down")
        assert "seed 10 ·" in screen.text
        await screen.press("down")
        assert "pythia-31m · seed 1 ·" in screen.text


async def test_the_cursor_moves_exactly_by_steps_and_seeds() -> None:
    async with terminal(make_study(make_model(), make_model("other", n_seeds=2))) as screen:
        await screen.press("home")
        assert "pythia-14m · seed 2 · step 0 · ■ done · cross-entropy 6.0000" in screen.text
        await screen.press("right", "l", "up")
        assert "seed 1 · step 2 ·" in screen.text
        await screen.press("H", "h", "k")
        assert "seed 1 · step 0 ·" in screen.text
        await screen.press("end", "j", "j", "j")
        assert "other · seed 1 · step 1,000 ·" in screen.text
        await screen.press("escape")
        assert "pythia-14m · seed 2 · step 64 ·" in screen.text
        assert "following" in screen.text


async def test_the_cursor_stays_on_its_checkpoint_when_others_arrive_and_when_resized() -> None:
    async with terminal(make_study(make_model(n_done=7))) as screen:
        await screen.press("home", "right", "right", "right")
        assert "seed 2 · step 4 ·" in screen.text
        earlier = make_model("a-new-model")
        longer = make_model(steps=[0, 1, 2, 3, *STEPS_FROM_4], n_seeds=3)
        moved_on = make_engine(works=())
        await screen.poll(make_study(earlier, longer, generation=2, engine=moved_on))
        assert "pythia-14m · seed 2 · step 4 ·" in screen.text
        await screen.resize(200, 50)
        assert "pythia-14m · seed 2 · step 4 ·" in screen.text
        await screen.resize(60, 16)
        assert "pythia-14m · seed 2 · step 4 ·" in screen.text
        assert "▸ 2 " in screen.text


STEPS_FROM_4 = [4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000]


async def test_without_a_touch_the_cursor_follows_the_engine() -> None:
    async with terminal() as screen:
        assert "seed 2 · step 64 ·" in screen.text
        work = make_engine().work
        assert work is not None
        engine = make_engine(works=(replace(work, seed="3", step=128),), heartbeat=START + 1)
        await screen.poll(make_study(engine=engine))
        assert "seed 3 · step 128 ·" in screen.text


async def test_enter_opens_the_whole_error_and_n_finds_it() -> None:
    error = "CUDA out of memory: " + "very long reason " * 20 + "THE-END [red]x[/red]\x1b[2J"
    async with terminal(make_study(make_model(failed=(5, 2), error=error))) as screen:
        await screen.press("enter")
        assert "THE-END" not in screen.text
        await screen.press("n")
        assert "seed 3 · step 16 · × failed · CUDA out of memory" in screen.text
        assert "enter Error" in screen.row("q Quit")
        await screen.press("enter")
        assert "pythia-14m, seed 3, step 16" in screen.text
        assert "THE-END" in screen.text
        assert "[red]x[/red]␛[2J" in screen.text
        await screen.press("escape")
        assert "THE-END" not in screen.text
        assert "journal" in screen.text


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("/data/runs of mine/x: bad", "× failed · /data/runs of mine/x: bad"),
        ("/data/very-long-folder/another/seed3/step16/model.safetensors: 0 bytes, cut off",
         "× failed · …/model.safetensors: 0 bytes, cut o…"),
        ("out of memory: " + "a/b " * 20, "× failed · out of memory: a/b a/b a/b a/b a/b …"),
    ],
)  # fmt: skip
async def test_a_long_error_begins_with_the_name_of_the_file(error: str, shown: str) -> None:
    async with terminal(make_study(make_model(failed=(5, 2), error=error))) as screen:
        await screen.press("n")
        assert shown in screen.text


async def test_keys_that_would_do_nothing_are_not_offered() -> None:
    async with terminal(make_study(make_model())) as screen:
        await screen.press("home")
        bar = screen.row("q Quit")
        assert "Error" not in bar
        assert "Next problem" not in bar


def entries(count: int) -> tuple[JournalEntry, ...]:
    levels = ("info", "warning", "error")
    return tuple(
        JournalEntry(START + n, levels[n % 3], "event", f"entry number {n}.") for n in range(count)
    )


async def test_the_journal_follows_scrolls_filters_and_keeps_its_place() -> None:
    tall = make_model(n_seeds=10)  # leaves the journal its least: three entries
    async with terminal(make_study(tall, journal=entries(40))) as screen:
        assert "entry number 39." in screen.text
        assert "entry number 36." not in screen.text
        await screen.poll(make_study(tall, journal=entries(42)))
        assert "entry number 41." in screen.text
        await screen.press("pageup")
        assert "entry number 38." in screen.text
        assert "3 newer below" in screen.text
        await screen.poll(make_study(tall, journal=entries(45)[10:]))
        assert "entry number 38." in screen.text
        assert "6 newer below" in screen.text
        await screen.press("pagedown", "pagedown", "A")  # errors among them are alerts
        assert "entry number 44." in screen.text
        await screen.press("f")
        assert "journal: warnings and errors" in screen.text
        assert "entry number 42." not in screen.text
        await screen.press("f")
        assert "journal: errors" in screen.text
        shown = [row.split()[-1] for row in screen.text.splitlines() if "entry number" in row]
        assert shown == ["38.", "41.", "44."]
        await screen.press("f", "f", "J")
        assert "entry number 44." in screen.text
        assert "entry number 10." not in screen.text
        await screen.press("home")
        assert "entry number 10." in screen.text


async def test_the_journal_gets_the_rows_that_the_matrix_leaves() -> None:
    async with terminal(make_study(journal=entries(40))) as screen:
        shown = [row for row in screen.text.splitlines() if "entry number" in row]
        assert len(shown) == 24 - 8 - 5 - 1 - 1  # bars, strip, model, detail; matrix; title; blank
        await screen.resize(80, 16)
        assert screen.text.count("entry number") == 2


async def test_without_an_engine_the_cursor_starts_where_the_work_stopped() -> None:
    done, begun, waiting = (
        make_model("done"),
        make_model("begun", n_done=4),
        make_model("c", n_done=0),
    )
    async with terminal(make_study(done, begun, waiting, engine=None)) as screen:
        assert "begun · seed 1 · step 4 ·" in screen.text
        assert "following" not in screen.text


async def test_an_empty_study_says_what_to_type() -> None:
    study = make_study(engine=None, journal=())
    async with terminal(replace(study, models=())) as screen:
        assert "no engine has run yet" in screen.text
        assert "seedconv run STUDY.toml" in screen.text
        await screen.poll(study)
        assert "no engine has run yet; start one with seedconv run STUDY.toml" in screen.text
        assert screen.app.screen.query_one(Matrix).display


async def test_an_engine_that_ended_says_how() -> None:
    engine = make_engine(state="failed", message="disk full [b]now[/b]", works=())
    async with terminal(make_study(engine=engine)) as screen:
        screen.clock.now += 7200
        await screen.poll()
        assert "failed · 2 h ago · disk full [b]now[/b]" in screen.text
        assert "tokens/s" not in screen.text


async def test_steps_that_wait_to_be_summarised_are_counted() -> None:
    engine = make_engine(summarised=36, to_summarise=140)
    async with terminal(make_study(engine=engine), size=(120, 40)) as screen:
        assert "7 queued · summarising 37 of 140 · cuda:0 H200" in screen.text
        screen.clock.now += 7200
        await screen.poll()
        assert "summarising" not in screen.text  # it is silent


# -- duplicates ----------------------------------------------------------------------------------


def with_duplicates(model: ModelSnapshot) -> ModelSnapshot:
    """Step 16 of seed 3 is step 8 of it again; step 2 of seed 1 is another model's, pruned."""
    state = model.state.copy()
    state[2, 0] = State.PRUNED
    found = {("3", 16): (model.name, "3", 8), ("1", 2): ("[b]other[/b]", "2", 143_000)}
    return replace(model, state=state, duplicates=found)


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_a_duplicate_has_a_sign_counts_as_done_and_says_of_which(
    size: tuple[int, int],
) -> None:
    async with terminal(make_study(with_duplicates(make_model(n_done=7))), size=size) as screen:
        assert "21/36 done" in screen.text
        assert "= duplicate 2" in screen.text
        cells = screen.row("▸ 2 ").split("2", 1)[1].split()
        assert "=" not in cells
        await screen.press("n")
        assert "seed 3 · step 16 · = duplicate · same w" in screen.text
        cells = screen.row("▸ 3 ").split("3", 1)[1].split()
        assert cells == ["■"] * 5 + ["="] + ["■"] + ["·"] * 5
        await screen.press("enter")
        assert "pythia-14m, seed 3, step 16" in screen.text
        assert "same weights as pythia-14m, seed 3, step 8" in screen.text
        await screen.press("escape", "n", "enter")
        assert "same weights as [b]other[/b], seed 2, step 143,000" in screen.text


@pytest.mark.parametrize("size", [(80, 24), (160, 40)])
async def test_a_probe_that_failed_is_told_though_its_checkpoint_is_done(
    size: tuple[int, int],
) -> None:
    failure = Failure("runs/seed2/step4: log-probs are NaN\x1b[2J")
    model = replace(make_model(), probe_failures={("blimp", "2", 4): failure})
    work = Work("pythia-14m", "2", 4, State.SCORING, 1, 4, probe="blimp")
    engine = make_engine(works=(work,))
    async with terminal(make_study(model, engine=engine), size=size) as screen:
        assert "36/36 done" in screen.text
        assert "36/36  1 probe failed" in screen.row("pythia-14m  ━")
        assert "scoring pythia-14m seed 2 step 4 for probe blimp" in screen.text
        await screen.press("home", "n")
        detail = screen.row("seed 2 · step 4 · ■ done · probe blimp failed: ")
        assert ("log-probs are NaN␛[2J" in detail) == (size[0] > 80)
        await screen.press("enter")
        assert "probe blimp failed: runs/seed2/step4: log-probs" in screen.text
        window = [row.split("│")[1] for row in screen.text.splitlines() if row.count("│") == 2]
        assert "(tried once, parked" in " ".join(" ".join(window).split())
    (row,) = (
        row
        for row in zip(*checkpoint_columns([model]).values(), strict=True)
        if row[1:3] == ("2", 4)
    )
    assert row[3] == "done"
    assert row[5].startswith("probe blimp failed: runs/seed2")


async def test_a_duplicate_that_waits_for_its_reduction_is_not_done() -> None:
    model = make_model(n_done=7)
    model.state[5, 2] = State.SCORED
    async with terminal(make_study(with_duplicates(model)), size=(100, 24)) as screen:
        assert "20/36 done" in screen.text
        assert "= duplicate 1" in screen.text
        await screen.press("home", "j", *["right"] * 5)
        assert "step 16 · ▪ scored · same weights as pythia-14m, seed 3, step 8" in screen.text


def test_a_duplicate_is_seen_where_steps_share_a_cell() -> None:
    state = with_duplicates(make_model()).marked[:, [2]]
    assert fold_states(state, Fold(4, 1, 3)).tolist() == [
        State.DONE, State.DUPLICATE, State.DONE
    ]  # fmt: skip


# -- devices and disk ----------------------------------------------------------------------------


def make_devices(n: int, busy: int) -> EngineStatus:
    """An engine with `n` GPUs, the last `busy` of them at work."""
    gpus = tuple(Gpu(f"cuda:{i}", 0.8 + i / 100, i * 10**9, 85 * 10**9) for i in range(n))
    works = tuple(
        Work("pythia-14m", "2", 2**i, State.SCORING, 2048, 4096, gpus[i].device)
        for i in range(n - busy, n)
    )
    return make_engine(gpus=gpus, works=works, bytes_projected=40_000_000_000)


async def test_one_gpu_shows_how_it_fares_beside_its_work() -> None:
    study = make_study(engine=make_devices(1, 1), bytes_stored=1_200_000_000)
    async with terminal(study) as screen:
        row = screen.row("scoring pythia-14m seed 2 step 1")
        assert "50%" in row
        assert row.rstrip().endswith("80% · 0 B of 85 GB")
        assert "log-probs 1.2 GB of 40 GB · 3.0 TB free" in screen.row("36/36 done")
        await screen.resize(60, 16)
        assert screen.row("scoring pythia-14m").rstrip().endswith("80% · 0 B of 85 GB")
        assert "1.2 GB of 40 GB · 3.0 TB free" in screen.text
        await screen.resize(200, 50)
        assert "GPU ━━━━━━━━┄┄  80% ·    0 B of 85 GB" in screen.row("scoring pythia-14m")


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"utilisation": None}, "2.0 GB of 85 GB"),
        ({"memory_used": None}, "87%"),
        ({"memory_total": None}, "87% · 2.0 GB"),
        ({"utilisation": None, "memory_used": None}, "50%"),
    ],
)
async def test_what_a_gpu_does_not_tell_is_not_shown(known: dict[str, object], shown: str) -> None:
    gpu = replace(Gpu("cuda:0", 0.87, 2 * 10**9, 85 * 10**9), **known)  # type: ignore[arg-type]
    engine = replace(make_devices(1, 1), gpus=(gpu,))
    async with terminal(make_study(engine=engine)) as screen:
        assert screen.row("scoring pythia-14m").rstrip().endswith(shown)


async def test_each_device_has_a_row_idle_ones_too_and_the_busy_ones_come_first() -> None:
    async with terminal(make_study(engine=make_devices(8, 3)), size=(200, 50)) as screen:
        rows = [row for row in screen.text.splitlines() if row.startswith(" cuda:")]
        assert [row.split()[0] for row in rows] == [f"cuda:{i}" for i in range(8)]
        assert ["nothing in hand" in row for row in rows] == [True] * 5 + [False] * 3
        assert "scoring pythia-14m seed 2 step 64" in rows[6]
        assert "86% · 6.0 GB of 85 GB" in rows[6]
        await screen.resize(80, 24)
        rows = [row for row in screen.text.splitlines() if row.startswith(" cuda:")]
        assert [row.split()[0] for row in rows] == ["cuda:5", "cuda:6"]
        assert "(and 6 more)" in rows[1]
        assert "86% · 6.0 GB of 85 GB" in rows[1]
        assert "▸ 2 " in screen.text
        await screen.resize(60, 16)
        rows = [row for row in screen.text.splitlines() if row.startswith(" cuda:")]
        assert [row.split()[0] for row in rows] == ["cuda:5"]
        assert "▸ 2 " in screen.text


async def test_devices_without_gpus_keep_their_order() -> None:
    works = [
        Work("pythia-14m", "2", n, State.SCORING, 1024, 4096, f"cpu ({n})") for n in (10, 2, 1)
    ]
    async with terminal(
        make_study(engine=make_engine(works=tuple(works))), size=(80, 40)
    ) as screen:
        rows = [row for row in screen.text.splitlines() if row.startswith(" cpu (")]
        assert [row.split(" scoring ")[0].strip() for row in rows] == [
            "cpu (1)",
            "cpu (2)",
            "cpu (10)",
        ]


async def test_a_silent_engine_shows_no_reading_of_its_gpu() -> None:
    async with terminal(make_study(engine=make_devices(1, 1))) as screen:
        screen.clock.now += 200
        await screen.poll()
        assert "silent for 3 min · 7 queued" in screen.text  # and when it will be done nobody knows
        assert "scoring pythia-14m seed 2 step 1" in screen.text
        assert "of 85 GB" not in screen.text


async def test_an_engine_that_ended_projects_nothing() -> None:
    ended = make_engine(state="finished", works=(), bytes_projected=40_000_000_000)
    async with terminal(make_study(engine=ended, bytes_stored=1_200_000_000)) as screen:
        assert "log-probs 1.2 GB · 3.0 TB free" in screen.text
        await screen.poll(make_study(engine=ended, bytes_stored=0))
        assert "no log-probs stored · 3.0 TB free" in screen.text


# -- the journal by its text ---------------------------------------------------------------------


async def test_the_journal_shows_entries_with_a_text_until_escape() -> None:
    async with terminal(make_study(journal=entries(40))) as screen:
        await screen.press("slash", *"BER 7.")
        assert "enter Search  esc Leave " in screen.row("q Quit")
        assert "/ Find" not in screen.text
        await screen.press("enter")
        assert 'journal: all with "BER 7."' in screen.text
        assert [row.split()[-1] for row in screen.text.splitlines() if "entry number" in row] == [
            "7."
        ]
        await screen.press("slash", *"number 1", "enter", "f", "f")
        assert 'journal: errors with "number 1"' in screen.text
        shown = [row.split()[-1] for row in screen.text.splitlines() if "entry number" in row]
        assert shown == ["11.", "14.", "17."]
        await screen.press("home")  # the cursor no longer follows: Escape is for the text first
        assert "esc All" in screen.row("q Quit")
        await screen.press("escape")
        assert "journal: errors ─" in screen.text
        assert "entry number 38." in screen.text
        assert "step 0 ·" in screen.text
        assert "esc Follow" in screen.row("q Quit")
        await screen.press("escape")
        assert "step 64 ·" in screen.text


async def test_a_text_that_no_entry_has_is_said_and_the_line_can_be_left() -> None:
    async with terminal(make_study(journal=entries(4))) as screen:
        await screen.press("slash", *"[red]", "enter")
        assert 'with "[red]"' in screen.text
        assert "no such entry" in screen.text
        await screen.press("J")
        assert "entry number" not in screen.text
        await screen.press("escape", "slash", *"2f", "escape")
        assert 'with "[red]"' in screen.text  # left as it was
        await screen.press("slash", "backspace", "enter")
        assert "entry number 3." in screen.text


async def test_what_was_captured_in_training_is_marked() -> None:
    model = make_model()
    label, step = model.seeds[1], int(model.steps[0])
    model = replace(model, captured=frozenset({(label, step)}))
    async with terminal(make_study(model), size=(100, 24)) as screen:
        await screen.press("home", "up", "up", "up")
        assert "captured in training" not in screen.text
        await screen.press("down")
        assert "captured in training" in screen.row(f"seed {label} · step {step} · ")
    columns = checkpoint_columns([model])
    marked = [row[1:3] for row in zip(*columns.values(), strict=True) if row[-1]]
    assert marked == [(label, step)]


@pytest.mark.parametrize("size", [(80, 24), (60, 16)])
async def test_what_the_engine_found_wrong_has_a_row(size: tuple[int, int]) -> None:
    source = "m: the Hub cannot be asked: no answer for 30 s; it is asked again in 5 min"
    engine = make_engine(amiss=(source, "pairs\x1b[2J cannot come"))
    async with terminal(make_study(make_model(), engine=engine), size=size) as screen:
        row = screen.row("the Hub cannot be asked")
        assert row.rstrip().endswith("(and 1 more)")
        await screen.poll(make_study(make_model(), engine=make_engine(heartbeat=START + 1)))
        assert "the Hub cannot be asked" not in screen.text
