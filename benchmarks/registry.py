"""Every benchmark there is, and which of its figures the documentation shows.

A benchmark is a module `benchmarks/NAME.py` that prints one JSON object on stdout, with its figures
under `NAME`, and progress, if any, on stderr. To add one, write that module and its entry in
`BENCHMARKS`. `python -m benchmarks --all` then runs it and keeps what it printed, and
`benchmarks.pages` writes its figures into docs/benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the table of results."""

    title: str
    path: str  # where it is in the benchmark's own object: "dense.peak_mb_4x"
    unit: str = ""
    goal: str = ""  # as shown
    form: str = ".1f"  # as in format()


@dataclass(frozen=True)
class Benchmark:
    """One module of this package."""

    name: str
    measures: str
    minutes: float  # about what it takes on two quiet cores
    figures: tuple[Figure, ...] = ()
    engine: bool = False  # takes --dir and --device: works on the checkpoints that all share
    small: tuple[str, ...] | None = ()  # arguments for `--small`; None leaves it out there


_KEPT = ("dense", "factored", "none")

BENCHMARKS = (
    Benchmark(
        "speed",
        "`seedconv run` against a script like the paper's, end to end",
        14,
        (
            Figure("times less processor time, dense", "dense.times_less_processor", "x", "8"),
            Figure("the same, factored", "factored.times_less_processor", "x", "10"),
            Figure("the same, none", "none.times_less_processor", "x", "12"),
            Figure("the same, none, KL alone", "kl_alone.times_less_processor", "x", "12"),
        ),
        engine=True,
        small=("--tokens", "512"),
    ),
    Benchmark(
        "efficiency",
        "wall of scoring over the larger of pure forward and pure write time",
        4,
        tuple(
            Figure(f"over the larger, {kept}", f"{kept}.scoring_over_larger", "x", "1.2 on a GPU")
            for kept in _KEPT
        ),
        engine=True,
        small=("--tokens", "1024", "--rounds", "1"),
    ),
    Benchmark(
        "block",
        "time of each part of a block of log-probs, one thread; traffic on a GPU, counted",
        1,
        (
            Figure("a log-prob of a seed, without JS", "without_js", "ns", "4"),
            Figure("a log-prob of a seed", "plain", "ns", "6"),
            Figure("a log-prob of a seed, compiled", "compiled", "ns", "6"),
            Figure("traffic on a GPU, plain", "on_a_gpu.plain.bytes_per_log_prob", "bytes", "60"),
            Figure("the same, compiled", "on_a_gpu.compiled.bytes_per_log_prob", "bytes", "60"),
        ),
    ),
    Benchmark(
        "scaling",
        "growth of time as steps, seeds, tokens and vocabulary double",
        4,
        tuple(
            Figure(f"time when {what} double, {kept}", f"{kept}.times.{what}", "x", goal)
            for kept in _KEPT
            for what, goal in (("seeds", "6"), ("tokens", "2"))
        ),
        engine=True,
        small=("--tokens", "512"),
    ),
    Benchmark(
        "memory",
        "peak memory for a corpus and one four times as long",
        3,
        tuple(
            Figure(f"peak, longer corpus, {kept}", f"{kept}.peak_mb_4x", "MB", goal, ",.0f")
            for kept, goal in zip(_KEPT, ("900 (8,192 tokens)", "", ""), strict=True)
        ),
        engine=True,
        small=("--tokens", "512"),
    ),
    Benchmark(
        "probing",
        "tokens a second of minimal pairs and of the corpus ([why](probes.md#time-per-checkpoint))",
        2,
        (Figure("tokens of pairs", "probe_tokens_per_second", "a second", form=",.0f"),),
        engine=True,
        small=None,
    ),
    Benchmark(
        "capture",
        "a [capture](capture.md) over a training step and over its forward passes, delay to the KL",
        3,
        (
            Figure(
                "capture over step, by position",
                "factored.capture_over_step_by_position",
                "x",
                form=".2f",
            ),
            Figure("delay to the committed KL", "factored.delay_seconds", "s", "3"),
        ),
        small=None,
    ),
    Benchmark(
        "codecs",
        "size, speed and error of ways to keep log-probs ([table](representations.md#measured))",
        6,
        small=None,
    ),
    Benchmark(
        "growth",
        "cost of the 1,000th checkpoint over the 10th",
        5,
        (
            Figure("1,000th checkpoint over the 10th, CPU", "add_cpu_ratio", "x", "1", ".2f"),
            Figure("comparing the seeds of its step, CPU", "reduce_cpu_ratio", "x", "1", ".2f"),
            Figure(
                "files of the big store, without log-probs",
                "files.number_without_log_probs",
                "",
                "100,000 with folders",
                ",.0f",
            ),
            Figure("folders", "files.folders_without_log_probs", "", "", ",.0f"),
        ),
        small=("--late", "100", "--rounds", "2"),
    ),
    Benchmark(
        "flushing",
        "wall of commits, with files flushed side by side over one after the other",
        3,
        (
            Figure("a step's commits, network disk", "network.step_ms_over_before", "x", "", ".2f"),
            Figure(
                "its summary's, network disk",
                "network.summary_ms_over_before",
                "x",
                "0.5",
                ".2f",
            ),
            Figure(
                "its summary's, local disk",
                "this_disk.summary_ms_over_before",
                "x",
                "0.5",
                ".2f",
            ),
        ),
        small=("--steps", "2", "--rounds", "1"),
    ),
    Benchmark(
        "summaries",
        "time to summarise a step of 100,000 tokens x 90 pairs by all categories",
        2,
        (Figure("summary of a step", "summarise_seconds", "s", "2", ".2f"),),
    ),
    Benchmark(
        "large_summaries",
        "CPU time to summarise a step of 1,000,000 tokens x 90 pairs, against the plain way",
        1,
        (
            Figure("summary of a large step", "cpu_seconds", "s", "2", ".2f"),
            Figure("times faster than plain", "times_faster", "x", "", ".1f"),
        ),
        small=("--tokens", "100000"),
    ),
    Benchmark(
        "startup",
        "CPU time of `seedconv run` with nothing to do, and of what it does without",
        3,
        (
            Figure("a run with nothing to do", "kept_cpu_seconds", "s of CPU", "1", ".2f"),
            Figure("over importing Zarr", "over_zarr", "x", "", ".1f"),
            Figure(
                "over importing torch, transformers and spaCy", "over_libraries", "x", "", ".2f"
            ),
            Figure("over one for which nothing was kept", "over_not_kept", "x", "", ".2f"),
        ),
        engine=True,
    ),
    Benchmark(
        "tagging",
        "time to tag text by part of speech",
        1,
        (Figure("450,000 characters", "seconds", "s", "1", ".2f"),),
    ),
    Benchmark(
        "tui",
        "the monitor in a terminal: start, answer to keys, bytes of a refresh, memory",
        8,
        (
            Figure("start to useful paint, big store", "starts.useful_paint_s", "s", "0.4", ".2f"),
            *(
                Figure(
                    f"key to paint in {screen}, {size}, 95th percentile",
                    f"{size}.screens.{screen}.key_ms_p95",
                    "ms",
                    "30",
                )
                for size in ("80x24", "200x50")
                for screen in ("Curves", "Tokens")
            ),
            Figure(
                "commit to screen, Curves, 80x24",
                "80x24.screens.Curves.commit_to_screen_s",
                "s",
                "1.0",
                ".2f",
            ),
            Figure("memory, 200x50", "200x50.resident_mb", "MB", "150", ".0f"),
        ),
        small=None,
    ),
    Benchmark(
        "remote",
        "requests of the monitor to an object store, big store",
        2,
        (
            Figure("until Runs is shown", "runs.requests", "requests", "40", ".0f"),
            Figure("for Tokens after that", "tokens.requests", "requests", "250", ".0f"),
            Figure("20 polls of a finished study", "polls.requests", "requests", "0", ".0f"),
        ),
        small=None,
    ),
    Benchmark(
        "reading",
        "CPU time to read a chunk, to verify a part, to export tokens",
        0.5,
        (Figure("one chunk of results", "chunk_cpu_ms", "ms", "0.1", ".3f"),),
        small=None,
    ),
    Benchmark("tui_tokens", "Tokens and Seeds on 100,000 tokens", 4, small=None),
    Benchmark(
        "chart",
        "time to draw the KL chart",
        0.5,
        (Figure("drawn at 200x50, braille", "200x50.braille.median_ms", "ms", "50", ".2f"),),
    ),
)
