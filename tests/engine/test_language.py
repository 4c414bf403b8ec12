"""Whether text looks English, and the warning for English tags of other text."""
# ruff: noqa: E501

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.text.language import count_letters
from seedconv_tui.cli.main import run
from store import open_study
from tests.support import tagged_text
from tests.support.tiny_models import make_runs, write_study

# The first article of the Universal Declaration of Human Rights.
OTHERS = {
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués "
    "de raison et de conscience et doivent agir les uns envers les autres dans un esprit de "
    "fraternité.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft "
    "und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "Dutch": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begaafd "
    "met verstand en geweten, en behoren zich jegens elkander in een geest van broederschap te "
    "gedragen.",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como "
    "están de razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
    "Danish": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med "
    "fornuft og samvittighed, og de bør handle mod hverandre i en broderskabets ånd.",
    "Indonesian": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. "
    "Mereka dikaruniai akal dan hati nurani dan hendaknya bergaul satu sama lain dalam semangat "
    "persaudaraan.",
    "Italian": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati "
    "di ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "Chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены "
    "разумом и совестью и должны поступать в отношении друг друга в духе братства.",
}  # fmt: skip
ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood."
)


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_do_not_look_english(language: str) -> None:
    found = count_letters(OTHERS[language])
    assert not found.english
    letters = [c for c in OTHERS[language] if c.isalpha()]
    assert found.letters == len(letters)
    assert found.foreign == sum(not c.isascii() for c in letters)


@pytest.mark.parametrize("half", ["tuned", "held_out"])
def test_english_of_every_kind_looks_english(half: str) -> None:
    text = tagged_text.read(half)[0].text
    for part in [ENGLISH, *re.split(r"\n\n+", text), "short", "", "1 2 3 " * 99]:
        assert count_letters(part).english, part[:60]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    make_runs(folder, seeds=("1", "2"), steps=(0,))
    return folder


@pytest.mark.parametrize(
    ("options", "documents", "said"),
    [
        ({}, [ENGLISH, OTHERS["French"]], "1 of 2 documents does not look English"),
        ({}, [OTHERS["Chinese"]], "1 of 1 document does not look English (0 % of the words"),
        ({}, [ENGLISH], ""),
        ({}, [ENGLISH] * 19 + [OTHERS["Dutch"]], ""),
        ({"categories__include": ["frequency"]}, [OTHERS["French"]], ""),
    ],
)
def test_a_study_is_told_and_goes_on(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: dict[str, Any], documents: list[str], said: str,
) -> None:  # fmt: skip
    for made in runs.iterdir():
        if made.name in {"runs", "tokenizer"}:
            (tmp_path / made.name).symlink_to(made)
    (tmp_path / "text.txt").write_text("\n\f\n".join(documents), encoding="utf-8")
    options = {"categories__include": ["pos"]} | options
    file = write_study(tmp_path, corpus__separator="\n\f\n", corpus__max_tokens=3000, **options)
    assert run(["run", str(file)]) == 0, "a warning, never a refusal"
    lines = [line for line in capsys.readouterr().err.splitlines() if "not look English" in line]
    assert len(lines) == bool(said)
    assert all(said.replace(" %", "%") in line for line in lines)
    assert open_study(tmp_path / "study.zarr").ledger("m").summaries


def test_labels_of_another_tagger_are_a_category(runs: Path, tmp_path: Path) -> None:
    """The recipe of docs/text.md, its tagger replaced by one that knows three words."""
    for made in runs.iterdir():
        if made.name in {"runs", "tokenizer"}:
            (tmp_path / made.name).symlink_to(made)
    (tmp_path / "text.txt").write_text(OTHERS["Italian"] * 3, encoding="utf-8")
    options = {"corpus__max_tokens": 300, "categories__include": ["document"]}
    assert run(["run", str(write_study(tmp_path, **options))]) == 0
    docs = (Path(__file__).parents[2] / "docs/text.md").read_text()
    code = docs.partition("```python\n")[2].partition("```")[0].replace("import stanza\n", "")
    tags = {"umani": "ADJ", "nascono": "VERB", "ragione": "NOUN"}

    class Word:
        def __init__(self, found: re.Match[str]) -> None:
            self.start_char, self.end_char = found.span()
            self.upos = tags.get(found.group(), "X")
            self.words, self.tokens, self.sentences = [self], [self], [self]

    class Stanza:
        def Pipeline(self, *_: Any, **__: Any) -> Any:  # noqa: N802  its name
            def nlp(text: str) -> Any:
                whole = Word(next(re.finditer("(?s).+", text)))
                whole.tokens = [Word(found) for found in re.finditer(r"\w+", text)]
                whole.sentences = [whole]
                return whole

            return nlp

    code = code.replace('"study.zarr"', repr(str(tmp_path / "study.zarr")))
    code = code.replace('"upos.txt"', repr(str(tmp_path / "upos.txt")))
    exec(code, {"stanza": Stanza()})
    file = write_study(tmp_path, **options)
    file.write_text(
        file.read_text() + '[[categories.custom]]\nname = "upos"\nlabels = "upos.txt"\n'
        '[[categories.groups]]\nname = "noun_verb"\nof = "upos"\n'
        'levels = { noun = ["NOUN"], verb = ["VERB"] }\n'
    )
    assert run(["run", str(file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    found = study.category("m", "noun_verb")
    text, verb = study.corpus.text, found.labels.index("verb")
    inside = np.zeros(len(text), bool)
    for match in re.finditer("nascono", text):
        inside[match.start() : match.end()] = True
    for token in np.flatnonzero(found.level == verb):
        assert inside[study.corpus.char_start[token] : study.corpus.char_end[token]].any()
    assert (found.level == verb).sum() >= 3
