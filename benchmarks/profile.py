"""Where `seedconv run` spends its time, by line of our own code: `python -m benchmarks.profile`.

py-spy looks at every thread of the command 100 times a second. Each look is charged to the
innermost line that is ours and to what that line called; threads that wait are left out. Threads
work side by side, so their seconds add up to more than the wall.
"""

from __future__ import annotations

import argparse
import linecache
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.run import SEEDCONV, add_options, checkpoints
from benchmarks.study import REPRESENTATIONS, SEEDS, STEPS, Study

RATE = 100  # looks a second
_FRAME = re.compile(r"(?P<name>.*) \((?P<file>[^:()]*):(?P<line>\d+)\)$")
_OURS = ("engine/", "store/", "seedconv_tui/")


def record(study: Study, output: Path) -> None:
    """Run the study from scratch under py-spy; collapsed stacks go to `output`."""
    shutil.rmtree(study.store, ignore_errors=True)
    sampler = Path(sysconfig.get_path("scripts")) / "py-spy"
    if not sampler.exists():
        sys.exit("py-spy is not installed: pip install py-spy")
    options = ["--rate", str(RATE), "--format", "raw", "--threads", "--subprocesses"]
    command = [*SEEDCONV, "run", "--json", str(study.write())]
    subprocess.run(
        [
            str(sampler),
            "record",
            *options,
            "--nonblocking",
            "--output",
            str(output),
            "--",
            *command,
        ],
        check=True,
        stdout=sys.stderr,
    )


def charge(stack: list[str]) -> str:
    """What one look at a thread is charged to; `stack` from the outermost frame inwards."""
    if any("_call_with_frames_removed" in frame for frame in stack):
        return "imports"
    frames = [match for frame in stack if (match := _FRAME.match(frame))]
    for depth in reversed(range(len(frames))):
        file = frames[depth]["file"]
        if file.startswith(_OURS):
            number = int(frames[depth]["line"])
            called = [] if depth + 1 == len(frames) else [f" > {frames[-1]['name']}"]
            source = linecache.getline(file, number).strip()[:60]
            return f"{file}:{number} {source}{''.join(called)}"
    return f"not called by us: {frames[-1]['name']}" if frames else "outside Python"


def summarise(stacks: Path) -> dict[str, Counter[str]]:
    """Looks per group of threads (threads of a pool are one) and place."""
    looks: dict[str, Counter[str]] = defaultdict(Counter)
    for row in stacks.read_text(encoding="utf-8").splitlines():
        path, _, count = row.rpartition(" ")
        stack = [part for part in path.split(";") if not part.startswith("process ")]
        thread = re.sub(r"^thread \(\d+\)(: )?", "", stack[0]) if stack else ""
        group = re.sub(r"[-_]\d+(_\d+)?( \(.*\))?$", "", thread) or "native threads"
        looks[group][charge(stack[1:])] += int(count)
    return looks


def main() -> None:
    """Profile each representation and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=2048)
    parser.add_argument("--kept", nargs="+", choices=REPRESENTATIONS, default=["dense", "none"])
    parser.add_argument("--lines", type=int, default=25, help="places shown per group of threads")
    options = parser.parse_args()
    with checkpoints(options) as folder, tempfile.TemporaryDirectory() as scratch:
        for kept in options.kept:
            study = Study(folder, options.tokens, kept, options.device, SEEDS, STEPS[:1])
            stacks = Path(scratch) / f"{kept}.txt"
            record(study, stacks)
            print(f"\n{kept}: {len(SEEDS)} seeds, 1 step, {options.tokens:,} tokens")
            groups = summarise(stacks)
            for group in sorted(groups, key=lambda group: -groups[group].total()):
                print(f"\n  {groups[group].total() / RATE:7.2f} s  {group}")
                for place, count in groups[group].most_common(options.lines):
                    print(f"    {count / RATE:7.2f} s  {place}")


if __name__ == "__main__":
    main()
