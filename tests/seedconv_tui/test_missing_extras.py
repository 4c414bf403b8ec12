"""Where a package of an extra is not installed, one line names it and the extra."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from seedconv_tui.cli.main import _EXTRAS, run
from store import UnsupportedError, open_study

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def hide(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every import of a package fail as if it were not installed."""
    loaded = [name for name in sys.modules if name.partition(".")[0] == package]
    for name in {package, *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("seedconv_tui.web.")]:
        monkeypatch.delitem(sys.modules, name)  # else it has what it needs already, and serves


@pytest.mark.parametrize("extra", sorted(_EXTRAS))
def test_an_extra_brings_what_the_table_says(extra: str) -> None:
    """Every package of the table is one of pyproject.toml's in that extra."""
    declared = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    brought = {re.split("[<>=\\[]", one)[0] for one in declared["optional-dependencies"][extra]}
    assert set(_EXTRAS[extra].split()) <= brought


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("scipy", "compare {store} --model m --steps 0 10", "analysis"),
        ("scipy", "compare {store} --models m b --step 10", "analysis"),
        ("scipy", "plan {store} --model m --width 1", "analysis"),
        ("scipy", "plot {store} --band simultaneous", "analysis"),
        ("scipy", "report {store} -o {out}", "report"),
        ("matplotlib", "report {store} -o {out}", "report"),
        ("statsmodels", "regress {store}", "analysis"),
        ("textual_serve", "serve {store}", "web"),
        ("aiohttp", "serve {store}", "web"),
        ("pyarrow", "export {store} --format parquet -o {out}", "analysis"),
    ],
)
def test_a_missing_package_is_named(
    package: str,
    command: str,
    extra: str,
    compared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line: what needs which package, and how to install it; never an internal error."""
    hide(package, monkeypatch)
    words = command.format(store=compared / "dense.zarr", out=tmp_path / "out").split()
    assert run(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert package in lines[-1]
    assert f"seedconv-tui[{extra}]" in lines[-1]
    assert "internal error" not in lines[-1]


def test_without_the_engine(tmp_path: Path) -> None:
    """The viewer alone, in a process that has imported nothing yet."""
    package = "pydantic"
    (tmp_path / "study.toml").write_text("[study]\n", encoding="utf-8")
    script = f"""
import sys
sys.modules[{package!r}] = None
from seedconv_tui.cli.main import run
sys.exit(run(["run", "study.toml"]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"seedconv: this command needs {package}, which is not installed: "
        "pip install 'seedconv-tui[engine]'"
    ]


def test_datasets_in_python(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for those who read a study in Python."""
    hide("xarray", monkeypatch)
    monkeypatch.delitem(sys.modules, "store.reading.dataset", raising=False)
    study = open_study(compared / "dense.zarr")
    with pytest.raises(UnsupportedError, match=r"xarray.*seedconv-tui\[xarray\]"):
        study.dataset("m")
    with pytest.raises(UnsupportedError, match=r"xarray.*seedconv-tui\[xarray\]"):
        study.summary("m", "pos").dataset()
