"""Runs every benchmark, each in a process of its own: `make bench`."""

import subprocess
import sys
from pathlib import Path

for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    subprocess.run([sys.executable, "-m", f"benchmarks.{file.stem}"], check=True)
