"""Runs every benchmark, each in a process of its own: `make bench`.

Those of the engine share their checkpoints and take `--device` and `--dir`; with `--save` their
results go to benchmarks/results/.
"""

import argparse
import contextlib
import subprocess
import sys
from pathlib import Path

from benchmarks.run import add_save, checkpoints

ENGINE = ("speed", "efficiency", "scaling", "memory", "probing")
OTHERS = ("capture", "chart", "codecs", "growth", "summaries", "tagging", "tui", "tui_tokens")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ENGINE + OTHERS)}; all")
parser.add_argument("--dir", type=Path, help="folder for checkpoints, kept and used again")
parser.add_argument("--device", default="cpu", help='"cpu" or "cuda"')
add_save(parser)
options = parser.parse_args()
if unknown := set(options.names) - {*ENGINE, *OTHERS}:
    parser.error(
        f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ENGINE + OTHERS)}"
    )
names = options.names or [*ENGINE, *OTHERS]
with contextlib.ExitStack() as stack:
    flags: list[str] = []
    if not set(names).isdisjoint(ENGINE):
        folder = stack.enter_context(checkpoints(options))
        flags = ["--dir", str(folder), "--device", options.device]
        flags += ["--save"] if options.save else []
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}", *(flags if name in ENGINE else [])]
        subprocess.run(command, check=True)
