"""What only a GPU can show, in one command of six minutes at most: `make gpu`.

    OUT=results python -m benchmarks.gpu                      # on the GPU
    OUT=results python -m benchmarks.gpu --device cpu --small # that it works, where there is none

First the tests marked `cuda`, then measurements for models of 14M to 1B parameters with random
weights, made on the spot:

- forward passes and the store's writer by themselves;
- scoring end to end with every way to keep log-probs, and memory of the GPU;
- from a trace, the kernels and how far copies overlap with them.

Results go to the folder OUT as gpu.json, the tests' output as tests.log; a table comes last.
What the time does not suffice for is skipped, and the table says so. Needs no network, and neither
spaCy nor Textual: docs/benchmarks.md#gpu lists the packages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.run import machine, package_versions

ROOT = Path(__file__).parents[1]
BUDGET = 330.0  # seconds in all
TESTS_AT_MOST = 120.0
SIZES, SMALL_SIZES = ("14m", "70m", "160m", "410m", "1b"), ("tiny",)
_ENDING = 5.0  # seconds to write results and table


def run(command: list[str], log: Path, seconds: float) -> str:
    """Run a command with its output in a file; return what went wrong, if anything did."""
    with log.open("a", encoding="utf-8") as stream:
        try:
            done = subprocess.run(
                command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
    return f"ended with status {done.returncode}; see {log.name}" if done.returncode else ""


def tests(out: Path, seconds: float) -> dict[str, Any]:
    """The tests marked `cuda`, where there are any; others are not even imported."""
    files = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.cuda" in file.read_text(encoding="utf-8")
    ]
    log = out / "tests.log"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those that are there may lack something
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-rfE", "-p", "no:cacheprovider"]
    wrong = run([*command, *files], log, seconds)
    ended = re.findall(r"(\d+) (passed|failed|error|skipped|xfailed)", log.read_text())
    found: dict[str, Any] = {what: int(number) for number, what in ended}
    return found | ({"wrong": wrong} if wrong else {})


def measure(size: str, out: Path, device: str, seconds: float) -> dict[str, Any]:
    """One size of model, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="seedconv-gpu-") as folder:
        file = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.gpu_size", size, folder, str(file)]
        command += ["--device", device, "--until", str(time.time() + seconds)]
        wrong = run(command, out / "sizes.log", seconds + _ENDING)
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return dict(found) | ({"wrong": wrong} if wrong else {})


def table(result: dict[str, Any]) -> str:
    """The results as text for a terminal."""
    lines = [f"tests: {json.dumps(result['tests'])}"]
    columns = ("tokens", "tokens/s", "over the larger", "peak MB", "under kernels")
    lines.append(f"{'':24}" + "".join(f"{name:>17}" for name in columns))
    for size, found in result["sizes"].items():
        bare = found.get("bare", {})
        for name, value in bare.items():
            what = name.removesuffix("_tokens_a_second").replace("_", " ")
            lines.append(f"{size + ' ' + what:24}{'':17}{value:17,}")
        for kept, run in found.items():
            if not isinstance(run, dict) or "tokens_a_second" not in run:
                continue
            traced = found.get(f"trace, {kept}", {})
            peak = run.get("peak_gpu_mb", run.get("peak_mb"))
            cells = (
                f"{run['tokens']:,}",
                f"{run['tokens_a_second']:,}",
                f"{run['over_the_larger']:.2f}",
                f"{peak:,}",
                str(traced.get("copies_beside_kernels_share", "")),
            )
            lines.append(f"{size + ' ' + kept:24}" + "".join(f"{cell:>17}" for cell in cells))
        for part, why in found.get("skipped", {}).items():
            lines.append(f"{size}: {part} skipped: {why}")
        if "wrong" in found:
            lines.append(f"{size}: {found['wrong']}")
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["seconds"].items())
    return "\n".join([*lines, f"took: {took}"])


def main() -> None:
    """Run all within the budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help='"cuda" (default), "cuda:1" or "cpu"')
    parser.add_argument("--small", action="store_true", help="one tiny model in place of all")
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds ({BUDGET:.0f})")
    parser.add_argument("--no-tests", action="store_true", help="leave the tests out")
    options = parser.parse_args()
    if not os.environ.get("OUT"):
        parser.error("OUT: is not set. Set it to the folder where results are put.")
    os.environ |= {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    end = time.monotonic() + options.budget
    out = Path(os.environ["OUT"])
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tests.log", "sizes.log", "gpu.json"):
        (out / name).unlink(missing_ok=True)
    result: dict[str, Any] = {"tests": {}, "sizes": {}, "seconds": {}}

    def left() -> float:
        return end - time.monotonic() - _ENDING

    def keep(name: str, began: float) -> None:
        result["seconds"][name] = round(time.monotonic() - began, 1)
        found = {"gpu": result, "machine": machine(options.device), "versions": package_versions()}
        (out / "gpu.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {result['seconds'][name]:.0f} s", file=sys.stderr, flush=True)

    if not options.no_tests:
        began = time.monotonic()
        result["tests"] = tests(out, min(TESTS_AT_MOST, left()))
        keep("tests", began)
    for size in SMALL_SIZES if options.small else SIZES:
        began = time.monotonic()
        if left() < _ENDING:
            result["sizes"][size] = {"wrong": "no time left"}
        else:
            result["sizes"][size] = measure(size, out, options.device, left() - _ENDING)
        keep(size, began)
    print(table(result))
    wrong = [
        name
        for name, found in result["sizes"].items()
        if "wrong" in found or set(found["skipped"].values()) - {"no time left"}
    ]
    if wrong or "wrong" in result["tests"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
