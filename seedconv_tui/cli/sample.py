"""The commands that gather text, `sample` and `count`, as the command line takes them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from seedconv_tui.cli.options import Command
from seedconv_tui.exit_codes import OK


def add_sample_and_count(command: Command, at_least: Callable[[int], Callable[[str], int]]) -> None:
    """Add `seedconv sample` and `seedconv count`; `at_least` makes a parser of integers."""
    sample = command(
        "sample",
        _sample,
        "sample documents of a dataset or of files for a corpus",
        "seedconv sample monology/pile-uncopyrighted -n 200 --first 100000 -o corpus.jsonl",
    )
    count = command(
        "count",
        _count,
        "count tokens in files or a dataset, for `counts` of a study file",
        "seedconv count text/*.txt --tokenizer runs/tokenizer -o counts.npy",
    )
    for made in (sample, count):
        made.add_argument(
            "source",
            nargs="+",
            metavar="SOURCE",
            help="text, JSON lines, Parquet or Arrow files, or a dataset's name on the hub",
        )
        made.add_argument("--config", help="configuration of a dataset on the hub")
        made.add_argument("--split", default="train", help="of a dataset (%(default)s)")
        made.add_argument("--field", default="text", help="of a record (%(default)s)")
        made.add_argument(
            "--first", type=at_least(1), metavar="N", help="read the first N documents alone"
        )
    sample.add_argument("-n", type=at_least(1), default=100, help="documents (%(default)s)")
    sample.add_argument("--seed", type=at_least(0), default=0, help="of the draw (%(default)s)")
    sample.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help='a .jsonl file; a .txt file, for separator = "\\n\\f\\n"; or a new folder',
    )
    count.add_argument("--tokenizer", required=True, help="a folder, or a name on the hub")
    count.add_argument("--revision", default="main", help="of the tokenizer (%(default)s)")
    count.add_argument(
        "-o", "--output", type=Path, default=Path("counts.npy"), help="(%(default)s)"
    )


def _report(text: str) -> None:
    print(text, file=sys.stderr)


def _sample(options: argparse.Namespace) -> int:
    from engine.text.sampling import Origin, sample

    origin = Origin(tuple(options.source), options.config, options.split, options.field)
    n = sample(
        origin, options.output, n=options.n, seed=options.seed, among=options.first, report=_report
    )
    _report(f"wrote {n:,} documents to {options.output}")
    return OK


def _count(options: argparse.Namespace) -> int:
    from threading import Event

    from engine.errors import ConfigError
    from engine.sources.hub_client import HubClient
    from engine.text.sampling import Origin, count
    from engine.text.tokenizer import load_backend, vocabulary_digest

    if options.output.suffix != ".npy":
        raise ConfigError(f"{options.output}: should end in .npy")
    origin = Origin(tuple(options.source), options.config, options.split, options.field)
    backend = load_backend(
        "--tokenizer",
        options.tokenizer,
        Path(options.tokenizer),
        options.revision,
        HubClient(Event()),
    )
    vocabulary = backend.get_vocab()
    size, digest = max(vocabulary.values()) + 1, vocabulary_digest(vocabulary)
    total = count(
        origin, backend, size, digest, options.output, among=options.first, report=_report
    )
    _report(f"wrote counts of {total:,} tokens to {options.output}")
    return OK
