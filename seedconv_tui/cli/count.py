"""`seedconv count`: how often each token occurs in reference text."""

from __future__ import annotations

import argparse
from pathlib import Path

from seedconv_tui.cli.sample import add_source, origin_of, say
from seedconv_tui.exit_codes import OK
from seedconv_tui.text import counted

HELP = "count token frequencies in files or a dataset, for corpus.counts"
EXAMPLE = "seedconv count text/*.txt --tokenizer runs/tokenizer -o counts.npy"
PAGE = "text.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_source(parser)
    parser.add_argument(
        "--tokenizer", required=True, help="tokenizer: a folder, or a name on the Hub"
    )
    parser.add_argument(
        "--revision", default="main", help="revision of the tokenizer (default: %(default)s)"
    )
    parser.add_argument(
        "--special-tokens",
        choices=("tokens", "text"),
        default="tokens",
        help="how to read special tokens spelled out in the text (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("counts.npy"),
        help="file to write (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Count tokens and write how often each occurs."""
    from threading import Event

    from engine.errors import ConfigError
    from engine.sources.hub_client import HubClient
    from engine.text.sampling import count
    from engine.text.tokenizer_facts import vocabulary_digest
    from engine.text.tokenizer_files import load_backend

    if options.output.suffix != ".npy":
        raise ConfigError(f"{options.output}: should end in .npy")
    backend = load_backend(
        "--tokenizer",
        options.tokenizer,
        Path(options.tokenizer),
        options.revision,
        HubClient(Event()),
        options.special_tokens,
    )
    vocabulary = backend.get_vocab()
    size, digest = max(vocabulary.values()) + 1, vocabulary_digest(vocabulary)
    total = count(
        origin_of(options),
        backend,
        size,
        digest,
        options.output,
        among=options.first,
        report=say,
        special_tokens=options.special_tokens,
    )
    say(f"wrote counts of {counted(total, 'token')} to {options.output}")
    return OK
