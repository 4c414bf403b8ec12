"""The tagger that ships with us: a spaCy component that needs no training data.

Each word has readings: of the lexicon, or guessed from its form. A table, written by hand, says how
well a reading follows what comes before it; the best path through a sentence wins (Viterbi 1967).
It sets universal parts of speech (Universal Dependencies 2, English) and no fine-grained tags.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from engine.categories.english.lexicon import UNIVERSAL_OF
from engine.categories.english.word_context import Sentence, narrow
from engine.categories.english.word_forms import CLOSES, ENDS, Names, plain, readings

FACTORY = "seedconv_rules"

# What came before: how well each reading follows; 0 if it is not named. The rest of a line after +
# changes the line of another one. COMMA stands for PU and STOP for PE, which also makes a START.
_TABLE = """
START: DT 1, PRS 2, PR3 2, EX 1, SC 1, NNP 1, WRB 1, VBD -3, VBN -2, VBZ -4, PRO -3, POS -9,
    NN -2, UH 1
COMMA: DT 1, PRS 1, PR3 1, CC 2, SC 1, VBG 1, VB -1, VBZ -1, POS -9, PRO -2, RB 1
DT: NN 4, NNS 3, JJ 4, NNP 2, CD 1, VBN -1, VBG -1, VB -6, VBZ -7, VBD -5, IN -5, MD -7, PRS -8,
    PR3 -8, BE -7, HV -7, DO -7, DT -3, PPS -2, CC -5, COMMA -4, STOP -5, SC -6, TO -6, WP -6,
    NEG -5, PRO -7, PRD -5, EX -6, POS -3
PPS: + DT, NNP 0
WDT: + DT, NN 3, NNS 3
PRS: VBD 4, VB 4, BE 4, HV 4, DO 3, MD 5, RB 1, NN -6, NNS -6, JJ -4, VBN -3, VBG -4, VBZ -4,
    IN -3, DT -5, SC -3, POS -9, CC -1, NNP -4, TO -4, PPS -4
PR3: + PRS, VBZ 4, VB -4, VBD 4
PRO: IN 2, TO 1, COMMA 1, STOP 1, RB 1, DT 1, PPS 1, NN -4, NNS -4, VBD -2, VBZ -2, BE -2,
    MD -2, HV -2, CC 1, POS -9, NNP -2, WRB 1, SC 1
PRD: BE 4, MD 3, VBZ 2, VBD 2, HV 3, IN 1, STOP 1, COMMA 1, NN -6, NNS -6, JJ -5, CD -4, NNP -4,
    POS -9, VBN -3
PRI: VBZ 2, VBD 1, BE 3, IN 1, TO 1, MD 2, HV 2, WP 1, COMMA 1, STOP 1, NN -3, NNS -3, NNP -2,
    PRS 1
WP: VBZ 3, VBD 3, VB 1, BE 3, HV 3, MD 3, DO 2, PRS 3, PR3 3, DT 1, PPS 1, NN -1, JJ -2, NNP 1,
    POS -8, STOP -2, COMMA -2, IN -1, SC -3, PRO -3
WRB: TO 2, PRS 2, PR3 2, DT 1, PPS 1, JJ 1, RB 1, DO 3, BE 2, MD 2, NN -1, POS -6
EX: EXB 12, MD 3, HV 2, BE -3, NN -6, NNS -6, JJ -5, COMMA -3, STOP -3, POS -9
MD: VB 6, BEB 6, HV 2, RB 1, NEG 3, PRS 1, PR3 1, NN -5, NNS -6, VBD -6, VBZ -7, VBN -6, JJ -4,
    IN -3, DT -2, NNP -2, TO -6, VBG -6, POS -9, PRO -5
TO: VB 7, BEB 7, HV 1, NN -5, NNS -6, VBN -6, VBG -6, JJ -4, DT -8, PPS -8, NNP -6, PRO -8,
    CD -6, PRI -7, PRD -6, WP -6, WRB -6, IN -6, VBZ -7, VBD -7, STOP -4, COMMA -4, PRS -7,
    PR3 -7, SC -6
BE: VBN 3, VBG 4, JJ 3, DT 1, PPS 1, RB 1, NEG 3, IN 1, NN -1, NNS -1, VB -6, VBD -4, VBZ -7,
    BEN 2, PRS 1, PR3 1, POS -9, MD -6, SC 2, HV -6
BEB: + BE
BEN: + BE, BEN 0
HV: VBN 6, BEN 7, RB 1, NEG 3, VBD -3, PRS 2, PR3 2, DT -7, PPS -7, NN -7, NNS -7, JJ -6, IN -6,
    TO -7, PRO -7, CD -7, COMMA -3, STOP -3, VB -6, VBG -6, PRI -7, SC -5, CC -4, NNP -5,
    PRD -6, WP -5
DO: NEG 4, VB 4, PRS 3, PR3 3, NN -1, DT -1, PPS -1, COMMA -3, STOP -3, IN -4, PRO -6, TO -5,
    VBN -5, VBG -5, CC -4, PRI -1, HV 1, VBD -6, PRD -2, WP -4, JJ -3
IN: DT 2, PPS 2, NN 2, NNS 2, JJ 1, NNP 2, CD 2, VBG 2, PRO 3, PRI 1, VB -6, VBZ -6, VBD -4,
    VBN -1, MD -6, BE -6, BEB -6, HV -5, DO -5, PRS -4, PR3 -4, IN -1, COMMA -3, STOP -2, TO -5,
    SC -3, CC -3, RB -1, POS -9, WP 1, EX -5, NEG -2, EXB -6
SC: PRS 4, PR3 4, EX 2, DT 2, PPS 1, NNP 1, NN 1, NNS 1, VB -3, VBZ -3, VBD -3, VBN -1, MD -4,
    BE -3, COMMA -2, STOP -4, IN -1, PRO -3, PRI 1, PRD 1, TO -2, POS -9, HV -3, CC -3
CC: PRS 1, PR3 1, DT 1, PPS 1, COMMA -3, STOP -4, POS -9
CD: NN 2, NNS 3, JJ 1, IN 1, COMMA 1, STOP 1, VB -4, VBZ -3, VBG -2, VBD -1, POS -1, SYM 1
JJ: NN 4, NNS 4, JJ 1, CC 1, VB -4, VBZ -4, VBD -3, VBN -2, VBG -1, COMMA -1, STOP -1, IN 1,
    TO 1, DT -3, PPS -2, PRS -2, PR3 -2, MD -2, BE -1, HV -2, RB -1, PRI 3, POS -3, SC 1, DO -2,
    WP -1
NN: VBZ 2, VBD 2, MD 2, BE 3, HV 2, DO 1, IN 2, CC 1, COMMA 1, STOP 1, NN 2, NNS 2, POS 3,
    JJ -2, DT -1, PPS -1, VB -3, WP 3, NNP -1, PRO -3, PRS -1, PR3 -1, CD -1, PRD -2
NNS: + NN, VB 2, VBZ -3, NN -2, NNS -2
NNP: + NN, NNP 3, NN 0, NNS 0, VBZ 3, CD 0, WP 1
POS: + DT, NNP 0, COMMA -2, STOP -2, VBN -1
VB: DT 3, PPS 3, PRO 3, PR3 -2, PRS -2, IN 2, RB 1, NNS 1, NNP 1, TO 2, COMMA 1, STOP 1, SC 2,
    PRI 2, PRD 1, CD 1, WRB 1, VB -4, VBZ -6, VBD -6, VBN -3, BE -5, MD -5, HV -5, DO -4, POS -7
VBZ: + VB
VBD: + VB
VBN: + VB, IN 3, TO 2, DT 1, PRO 0, VBG -1, NN 1, NNS 1
VBG: + VB, NN 0, NNS 0
EXB: DT 3, NNS 1, JJ 1, RB 1, CD 2, PRI 2, NEG 2, VB -6, VBN -3, VBG -3, POS -9
UH: COMMA 2, STOP 2
SYM: CD 2, SYM 1
X: X 2
"""
_RANK = 1.2  # what it costs a reading that another one is likelier
_PARALLEL = 2  # what it is worth that "and" joins what is alike
# Adverbs are seen through, but draw what they can grade.
_AFTER_ADVERB = {"JJ": 1, "RB": 1, "NN": -2, "NNS": -2}
_SEEN_THROUGH = {"NEG", "PQ", "UH"}
_INVERTED = {"HV", "BE", "DO", "MD"}  # a subject after these is seen through: "have you seen"


def _parse(table: str) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for line in table.replace(",\n", ",").strip().splitlines():
        context, _, entries = line.partition(": ")
        row = rows[context] = {}
        for entry in entries.split(","):
            reading, value = entry.split()
            if reading == "+":
                row.update(rows[value])
            else:
                row[reading] = int(value)
    return rows


_SCORES = _parse(_TABLE)


@Language.factory(FACTORY, assigns=["token.pos"])
def create(nlp: Language, name: str) -> RuleTagger:
    """Make the component; it has no settings."""
    return RuleTagger()


class RuleTagger:
    """Sets the universal part of speech of every token of a document."""

    def __call__(self, doc: Doc) -> Doc:
        """Tag the document, which spaCy's English tokenizer made, and return it."""
        words = [word.text for word in doc]
        tags = ["SPACE"] * len(words)
        names = Names(words)
        for sentence in _sentences(words):
            for place, tag in zip(sentence, _tag([words[p] for p in sentence], names), strict=True):
                tags[place] = tag
        number = {tag: doc.vocab.strings[tag] for tag in set(tags)}
        column: Any = np.array([[number[tag]] for tag in tags], np.uint64).reshape(-1, 1)
        return doc.from_array(["POS"], column)


def _sentences(words: list[str]) -> Iterator[list[int]]:
    """Places of words up to a mark that ends a sentence and what closes it, or to an empty line.

    White space is in none.
    """
    sentence: list[int] = []
    ended = False
    for place, word in enumerate(words):
        blank = word.isspace()
        empty_line = blank and word.count("\n") > 1
        goes_on = blank or word in CLOSES or word in ENDS
        if sentence and (empty_line or (ended and not goes_on)):
            yield sentence
            sentence, ended = [], False
        if not blank:
            sentence.append(place)
            ended = ended or word in ENDS
    if sentence:
        yield sentence


def _tag(words: list[str], names: Names) -> list[str]:
    """Return the universal tags of a sentence."""
    long = [word for word in words if len(word) > 3 and word.isalpha()]
    headline = len(long) > 2 and sum(not word.islower() for word in long) > 0.7 * len(long)
    options: list[tuple[str, ...]] = []
    begins = True
    for word in words:
        options.append(readings(word, begins=begins, headline=headline, names=names))
        begins = word == ":" or (begins and options[-1][0] in {"PQ", "PU"})
    sentence = Sentence([plain(word) for word in words], options)
    narrow(sentence)
    return [UNIVERSAL_OF[reading] for reading in _best_path(sentence.readings)]


def _best_path(options: list[tuple[str, ...]]) -> list[str]:
    """Return the readings that follow each other best, one for each word."""
    # What the next word looks back at -> the best score so far, and its path as linked pairs.
    paths: dict[str, tuple[float, tuple[object, str] | None]] = {"START": (0.0, None)}
    for choice in options:
        following: dict[str, tuple[float, tuple[object, str] | None]] = {}
        for (rank, reading), (context, (score, path)) in itertools.product(
            enumerate(choice), paths.items()
        ):
            after, fit = _step(context, reading)
            total = score + fit - _RANK * rank
            if after not in following or total > following[after][0]:
                following[after] = (total, (path, reading))
        paths = following
    found: list[str] = []
    node: object = max(paths.values(), key=lambda item: item[0])[1]
    while isinstance(node, tuple):
        node, reading = node
        found.append(reading)
    return found[::-1]


@cache
def _step(context: str, reading: str) -> tuple[str, float]:
    """Return what the next word looks back at, and how well the reading follows what came before.

    "CC:NN" is a context of "and" after a noun, "DT:RB" that of an adverb after a determiner.
    """
    base, _, more = context.partition(":")
    fit: float = _SCORES[base].get({"PU": "COMMA", "PE": "STOP"}.get(reading, reading), 0)
    if base == "CC":
        fit += _PARALLEL * (more[:2] == reading[:2])
    elif more == "RB":
        fit += _AFTER_ADVERB.get(reading, 0)
    if reading == "RB":
        return f"{base}:RB", fit
    if reading in _SEEN_THROUGH or (reading in {"PRS", "PR3"} and base in _INVERTED):
        return base, fit
    if reading == "CC":
        return f"CC:{base}", fit
    return {"PU": "COMMA", "PE": "START"}.get(reading, reading), fit
