"""Six seeds of two models train while engine, trainers and checkpoints come to harm.

    python -m tests.soak [--seconds N] [--random-seed N] [--dir FOLDER]

What happens when is drawn at the beginning and so the same for a random seed; what it hits depends
on how far the processes are. At the end the rest of the damage is repaired, the engine
catches up, and its store has to hold what one undisturbed run over the same checkpoints makes.

Which checkpoints these are: all of which the store under fire has results. Those have to include
every checkpoint that lies whole in `runs` at the end. One that was deleted or damaged for good
before it was scored is in neither store.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.soak.compare import differences
from tests.soak.fire import Fire, SoakError
from tests.soak.peace import run_in_peace, verified


def main() -> int:
    """Soak, and say what came of it: exit code 0, or 1 and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180, help="of harm (180)")
    parser.add_argument("--random-seed", type=int, default=1, help="of what happens when (1)")
    parser.add_argument("--dir", type=Path, help="an empty folder to work in and leave behind")
    options = parser.parse_args()
    folder = (options.dir or Path(tempfile.mkdtemp(prefix="seedconv-soak-"))).absolute()
    print(
        f"soak: random seed {options.random_seed}, {options.seconds:g} s, in {folder}", flush=True
    )
    try:
        fire = Fire(folder, options.seconds, options.random_seed)
        ours = fire.burn()
        theirs = run_in_peace(folder, ours)
        wrong = [*verified(ours), *verified(theirs)]
        apart, n, largest = differences(ours, theirs)
    except SoakError as error:
        print(f"soak: FAILED: {error}\nlogs are in {folder}", file=sys.stderr)
        return 1
    print(f"compared {n} arrays; the largest difference is {largest:.3g}")
    wrong += apart
    for line in wrong[:20]:
        print(f"soak: WRONG: {line}", file=sys.stderr)
    print(f"soak: {'FAILED' if wrong else 'ok'}, random seed {options.random_seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
