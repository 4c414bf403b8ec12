"""`make reproduce`: trains two sizes of a tiny model, scores them, and checks what the paper found.

More runs of the smaller size share an initialisation, or a data order.

`python -m seedconv_tui.demo.reproduce --dir DIR` works like the demo: trainer and engine are
processes of their own, and it continues an earlier run. It ends with `DIR/report.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from seedconv_tui.demo.run_demo import follow, start
from seedconv_tui.exit_codes import FAILED, INTERRUPTED, OK, USAGE
from seedconv_tui.text import visible
from store import StoreError, Study, open_study
from store.analysis import FEWEST_TOKENS, Finding, find

_LIBRARIES = ("torch", "transformers", "tokenizers", "spacy", "numpy", "zarr", "scipy")


def reproduce(
    folder: Path, *, seeds: int = 4, n_steps: int = 768, held_out_tokens: int = 4800
) -> int:
    """Train, score, check and write the report; return the exit code.

    What does not hold is a result; the code says whether it could be computed.
    """
    from engine.demo_training import DECOUPLED, SMALL, TINY, TrainingPlan, prepare

    began = time.monotonic()
    plan = TrainingPlan(
        name="reproduce",
        sizes=(TINY, SMALL, DECOUPLED),
        seeds=tuple(range(1, seeds + 1)),
        n_steps=n_steps,
        held_out_tokens=held_out_tokens,
        most_of_document=60,  # of the end of each: many documents, so that intervals mean much
        counts=("train.txt",),
        divergences=("kl", "js", "kl_to_mean"),
        pairs=True,
    )
    study_file, store = prepare(folder, plan), folder / "study.zarr"
    processes = start(folder, study_file)
    try:
        follow(store, *processes)
        failed = [bool(process.poll()) for process in processes]
    except BaseException:
        failed = [True] * len(processes)
        raise
    finally:
        for process in processes:
            if any(failed) and process.poll() is None:
                process.terminate()  # of no use without the other
            process.wait()
    for gone, log in zip(failed, ("trainer.log", "engine.log"), strict=True):
        if gone:
            last = (folder / log).read_text(encoding="utf-8", errors="replace").strip()
            line = last.splitlines()[-1] if last else "it left no message"
            print(f"seedconv: {folder / log}: {visible(line)}", file=sys.stderr)
            return FAILED
    study = open_study(store)
    text = report(study, find(study), time.monotonic() - began)
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(text)
    print(
        f"written to {folder / 'report.md'}; look at the study: seedconv tui {store}",
        file=sys.stderr,
    )
    return OK


def report(study: Study, findings: Sequence[Finding], seconds: float) -> str:
    """Return the report as Markdown."""
    lines = ["# What holds at small scale", "", *_settings(study, seconds), ""]
    lines += ["| claim | of | figure | 95 % interval | |", "|---|---|---|---|---|"]
    lines += [
        f"| {visible(of.claim)} | {visible(of.where)} | {of.figure} | "
        f"{of.interval} | {of.verdict} |"
        for of in findings
    ]
    n = {name: sum(of.verdict == name for of in findings) for name in _VERDICTS}
    lines += ["", "; ".join(f"{name}: {n[name]}" for name in _VERDICTS) + ".", "", _HOW]
    return "\n".join(lines) + "\n"


_VERDICTS = ("holds", "not sure", "does not hold")

_HOW = f"""\
A difference *holds* when its whole interval is on the side that is claimed, *does not hold* when it
is on the other, and is *not sure* when it has zero. Intervals are over seeds and documents, of
phases over draws of seeds and 90 %. Several claims are tested at once and nothing is corrected for
that. The turn is where sharp convergence becomes sharp divergence; predictions are nearest to the
unigram distribution *at the turn* when that step lies in the turn's interval for every seed.
Frequencies are counts in the training text; the rarest and the most frequent level with at least
{FEWEST_TOKENS} tokens are compared. Intervals on minimal pairs are over seeds alone, and about
these pairs. Groups of runs are compared by permuting the runs: a claim *holds* or *does not hold*
when p is below 0.05, and is *not sure* otherwise. What does not hold is a result too: these models
are far smaller than the paper's and see far less text, many times over."""


def _settings(study: Study, seconds: float) -> list[str]:
    snapshot = study.snapshot()
    models = ", ".join(
        f"{model.name} ({len(model.seeds)} seeds x {len(model.steps)} steps to {model.steps[-1]})"
        for model in snapshot.models
    )
    tagger = study.category(snapshot.models[0].name, "word_class").description
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    kinds = ", ".join(study.categories(snapshot.models[0].name))
    return [
        f"- models: {visible(models)}",
        f"- scored on {snapshot.n_tokens:,} tokens of {len(study.corpus.document_name)} documents, "
        f"held out; vocabulary {snapshot.vocab_size:,}",
        f"- kinds of tokens: {visible(kinds)}; {visible(tagger)}",
        f"- {platform.machine()}, {os.cpu_count()} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {libraries}",
        f"- took {timedelta(seconds=round(seconds))} this time",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m seedconv_tui.demo.reproduce", description=__doc__
    )
    parser.add_argument("--dir", type=Path, default=Path("reproduce"), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=4, help="of each size (%(default)s)")
    parser.add_argument("--steps", type=int, default=768, help="of training (%(default)s)")
    parser.add_argument("--tokens", type=int, default=4800, help="to score on (%(default)s)")
    options = parser.parse_args(argv)
    if options.seeds < 3 or options.steps < 8 or options.tokens < 500:
        print("seedconv: intervals need at least 3 seeds, 8 steps and 500 tokens", file=sys.stderr)
        return USAGE
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the processes end with this one
    try:
        return reproduce(
            options.dir,
            seeds=options.seeds,
            n_steps=options.steps,
            held_out_tokens=options.tokens,
        )
    except KeyboardInterrupt:
        print("seedconv: stopped; run the same command again to continue", file=sys.stderr)
        return INTERRUPTED
    except (StoreError, OSError) as error:
        print(f"seedconv: {visible(str(error))}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
