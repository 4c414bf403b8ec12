"""Runs benchmarks, each in a process of its own: `make bench`.

    python -m benchmarks --all                    # all of them, kept, and the pages written
    python -m benchmarks speed memory --save      # some, kept in benchmarks/results/
    python -m benchmarks --small                  # all that have a short form, in that form

With `--all` the table in docs/benchmarks.md and the figures on the other pages are taken from the
results. Those of the engine share their checkpoints and take `--device` and `--dir`.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

from benchmarks import pages
from benchmarks.registry import BENCHMARKS, Benchmark
from benchmarks.run import add_save, checkpoints, run_module, save

known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
listed = "\n".join(f"  {one.name:12}{one.minutes:4} min" for one in BENCHMARKS)
parser = argparse.ArgumentParser(
    description=__doc__,
    epilog=f"benchmarks, with minutes on two quiet cores:\n{listed}",
    formatter_class=argparse.RawTextHelpFormatter,
)
parser.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: every one)")
parser.add_argument("--all", action="store_true", help="every one, `--save`, and write the pages")
parser.add_argument("--small", action="store_true", help="short forms, to see that they work")
parser.add_argument("--dir", type=Path, help="folder for checkpoints, kept and used again")
parser.add_argument("--device", default="cpu", help='"cpu" or "cuda"')
add_save(parser)
options = parser.parse_args()
if unknown := set(options.names) - known.keys():
    parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
if options.small and (options.save or options.all):
    parser.error("--small: figures of the short forms are not kept. Leave out --save and --all.")
if options.all and options.names:
    parser.error("--all: runs every benchmark. Leave out the names, or use --save.")
chosen: list[Benchmark] = [known[name] for name in options.names or known]
if options.small:
    chosen = [one for one in chosen if one.small is not None]
failed = []
with contextlib.ExitStack() as stack:
    flags: list[str] = []
    if any(one.engine for one in chosen):
        folder = stack.enter_context(checkpoints(options))
        flags = ["--dir", str(folder), "--device", options.device]
    for one in chosen:
        arguments = [*(flags if one.engine else []), *((one.small or ()) if options.small else ())]
        began = time.monotonic()
        found = run_module(one.name, arguments, options.device)
        print(f"{one.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if found is None:
            failed.append(one.name)  # the others are still worth knowing
        elif options.save or options.all:
            save(one.name, found)
if options.all:
    pages.write()
if failed:
    sys.exit(f"failed: {', '.join(failed)}")
