"""The check of the pages' prose finds what it is for, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROSE = Path(__file__).parents[1] / "docs" / "prose.py"


def check(page: str, tmp_path: Path, name: str = "page.md") -> tuple[int, list[str]]:
    """Return the exit code and what is said of a page, without its path."""
    file = tmp_path / name
    file.write_text(page, encoding="utf-8")
    ended = subprocess.run([sys.executable, PROSE, file], capture_output=True, text=True)
    return ended.returncode, [line.partition(f"{name}:")[2] for line in ended.stderr.splitlines()]


def words(n: int) -> str:
    return " ".join(["word"] * n)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("It is\ntold at once.", "1: 'is told'"),
        ("# Title\n\nStart anew.", "3: 'anew'"),
        ("| a | b |\n|---|---|\n| x | it tells |", "3: 'tells'"),
        (f"- {words(31)}", "1: a sentence of 31 words"),
        (f"Short. {words(31)}.", "1: a sentence of 31 words"),
        ("# Title\n\n" + "A line.\n" * 91, "1: more than 90 lines"),
    ],
)
def test_what_is_found(page: str, said: str, tmp_path: Path) -> None:
    code, lines = check(page, tmp_path)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(said)


@pytest.mark.parametrize(
    "page",
    [
        "`it is told` is code, and so is\n\n    tells anew\n\n```\nmend\n```\n",
        f"| {words(20)} | {words(20)} |",  # each cell is read by itself
        f"{words(20)}: {words(20)}.",
        f"- {words(20)}\n- {words(20)}",
        "[a link](anew.md) leads where it does",
        "<!-- what nobody reads tells nothing -->",
        "foretells and kinship are other words",
    ],
)
def test_what_is_left_alone(page: str, tmp_path: Path) -> None:
    assert check(page, tmp_path) == (0, [])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('"""Do.\n\nIt is\ntold at once.\n"""\n', "3: 'is told'"),
        (f'def f():\n    """Do {words(31)}."""\n', "2: a sentence of 32 words"),
        ("x = 1  # all that\n", "1: 'all that'"),
        ('print(f"{x}: start anew")\n', "1: 'anew'"),
    ],
)
def test_docstrings_comments_and_messages_are_read(source: str, said: str, tmp_path: Path) -> None:
    code, lines = check(source, tmp_path, "module.py")
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_names_and_keys_of_python_are_left_alone(tmp_path: Path) -> None:
    source = (
        f'def tell(beside: str = "anew") -> str:\n    return "{words(40)}"  # `tell` is a name\n'
    )
    assert check(source, tmp_path, "module.py") == (0, [])


def test_comments_of_toml_are_read(tmp_path: Path) -> None:
    code, lines = check('mend = "anew"\nx = 1  # what tells\n', tmp_path, "template.toml")
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["2"]


def test_all_files_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    assert check("It tells.", tmp_path, "deep/page.md")[0] == 1
    ended = subprocess.run([sys.executable, PROSE, tmp_path], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "deep/page.md:1: 'tells'" in ended.stderr.replace("\\", "/")
