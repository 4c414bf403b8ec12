"""The tagger that ships with us: a spaCy component that needs no training data.

Each word has readings, from the lexicon or guessed from its form. A table says how well a reading
goes with the one before it; the best path through a sentence wins (Viterbi). The scores are written
by hand. Sets universal parts of speech and no fine-grained tags.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from spacy.lang.tokenizer_exceptions import emoticons
from spacy.language import Language
from spacy.tokens import Doc

from engine.lexicon import READINGS, UNIVERSAL_OF

FACTORY = "seedconv_rules"

# What came before -> how well each reading follows. What is not named scores 0.
# `+` after a context takes over the scores of another one.
_TABLE = """
START: DT 1, PRS 2, PR3 2, EX 1, SC 1, NNP 1, WRB 1, VBD -3, VBN -2, VBZ -4, PRO -3, POS -9, NN -2, UH 1
COMMA: DT 1, PRS 1, PR3 1, CC 2, SC 1, WP 0, NNP 0, VBG 1, VB -1, VBZ -1, POS -9, PRO -2, UH 0, RB 1
DT: NN 4, NNS 3, JJ 4, NNP 2, CD 1, VBN -1, VBG -1, RB 0, VB -6, VBZ -7, VBD -5, IN -5, MD -7, PRS -8, PR3 -8, BE -7, HV -7, DO -7, DT -3, PPS -2, CC -5, COMMA -4, STOP -5, SC -6, TO -6, WP -6, NEG -5, PRO -7, PRD -5, EX -6, POS -3
PPS: + DT, NNP 0
WDT: + DT, NN 3, NNS 3
PRS: VBD 4, VB 4, BE 4, HV 4, DO 3, MD 5, RB 1, NN -6, NNS -6, JJ -4, VBN -3, VBG -4, VBZ -4, IN -3, DT -5, SC -3, POS -9, CC -1, NNP -4, TO -4, PPS -4
PR3: + PRS, VBZ 4, VB -4, VBD 4
PRO: IN 2, TO 1, COMMA 1, STOP 1, RB 1, DT 1, PPS 1, NN -4, NNS -4, VBD -2, VBZ -2, BE -2, MD -2, HV -2, VB 0, CC 1, POS -9, NNP -2, WRB 1, SC 1
PRD: BE 4, MD 3, VBZ 2, VBD 2, HV 3, IN 1, STOP 1, COMMA 1, NN -6, NNS -6, JJ -5, CD -4, RB 0, NNP -4, POS -9, WP 0, VBN -3
PRI: JJ 0, VBZ 2, VBD 1, BE 3, IN 1, TO 1, MD 2, HV 2, WP 1, COMMA 1, STOP 1, NN -3, NNS -3, POS 0, NNP -2, PRS 1, RB 0
WP: VBZ 3, VBD 3, VB 1, BE 3, HV 3, MD 3, DO 2, PRS 3, PR3 3, DT 1, PPS 1, NN -1, NNS 0, JJ -2, NNP 1, POS -8, STOP -2, COMMA -2, IN -1, SC -3, RB 0, PRO -3
WRB: TO 2, PRS 2, PR3 2, DT 1, PPS 1, JJ 1, RB 1, DO 3, BE 2, MD 2, VBG 0, NN -1, NNS 0, STOP 0, POS -6
EX: EXB 12, MD 3, HV 2, BE -3, NN -6, NNS -6, JJ -5, COMMA -3, STOP -3, VBZ 0, POS -9
MD: VB 6, BEB 6, HV 2, RB 1, NEG 3, PRS 1, PR3 1, NN -5, NNS -6, VBD -6, VBZ -7, VBN -6, JJ -4, IN -3, DT -2, NNP -2, TO -6, VBG -6, POS -9, PRO -5
TO: VB 7, BEB 7, HV 1, RB 0, NN -5, NNS -6, VBN -6, VBG -6, JJ -4, DT -8, PPS -8, NNP -6, PRO -8, CD -6, PRI -7, PRD -6, WP -6, WRB -6, IN -6, VBZ -7, VBD -7, STOP -4, COMMA -4, PRS -7, PR3 -7, SC -6
BE: VBN 3, VBG 4, JJ 3, DT 1, PPS 1, RB 1, NEG 3, IN 1, NN -1, NNS -1, VB -6, VBD -4, VBZ -7, BEN 2, PRS 1, PR3 1, CD 0, POS -9, MD -6, SC 2, TO 0, HV -6, PRD 0
BEB: + BE
BEN: + BE, BEN 0
HV: VBN 6, BEN 7, RB 1, NEG 3, VBD -3, PRS 2, PR3 2, DT -7, PPS -7, NN -7, NNS -7, JJ -6, IN -6, TO -7, PRO -7, CD -7, COMMA -3, STOP -3, VB -6, VBG -6, PRI -7, SC -5, CC -4, NNP -5, PRD -6, RP 0, WP -5
DO: NEG 4, VB 4, PRS 3, PR3 3, NN -1, NNS 0, DT -1, PPS -1, COMMA -3, STOP -3, RB 0, IN -4, PRO -6, TO -5, VBN -5, VBG -5, CC -4, PRI -1, HV 1, NNP 0, VBD -6, PRD -2, WP -4, JJ -3
IN: DT 2, PPS 2, NN 2, NNS 2, JJ 1, NNP 2, CD 2, VBG 2, PRO 3, PRI 1, PRD 0, VB -6, VBZ -6, VBD -4, VBN -1, MD -6, BE -6, BEB -6, HV -5, DO -5, PRS -4, PR3 -4, IN -1, COMMA -3, STOP -2, TO -5, SC -3, CC -3, RB -1, POS -9, WP 1, WRB 0, EX -5, NEG -2, EXB -6
SC: PRS 4, PR3 4, EX 2, DT 2, PPS 1, NNP 1, NN 1, NNS 1, JJ 0, VB -3, VBZ -3, VBD -3, VBN -1, MD -4, BE -3, COMMA -2, STOP -4, IN -1, PRO -3, PRI 1, PRD 1, RB 0, TO -2, POS -9, HV -3, CC -3
CC: PRS 1, PR3 1, DT 1, PPS 1, COMMA -3, STOP -4, POS -9, PRO 0, SC 0, RB 0, VBZ 0
CD: NN 2, NNS 3, JJ 1, IN 1, COMMA 1, STOP 1, VB -4, VBZ -3, VBG -2, VBD -1, BE 0, POS -1, SYM 1, NNP 0
JJ: NN 4, NNS 4, JJ 1, CC 1, VB -4, VBZ -4, VBD -3, VBN -2, VBG -1, NNP 0, COMMA -1, STOP -1, IN 1, TO 1, DT -3, PPS -2, PRS -2, PR3 -2, MD -2, BE -1, HV -2, RB -1, PRI 3, POS -3, CD 0, SC 1, DO -2, WP -1
NN: VBZ 2, VBD 2, MD 2, BE 3, HV 2, DO 1, IN 2, CC 1, COMMA 1, STOP 1, NN 2, NNS 1, POS 3, JJ -2, DT -1, PPS -1, VB -3, WP 3, SC 0, RB 0, NNP -1, PRO -3, PRS -1, PR3 -1, TO 0, CD -1, PRD -2
NNS: + NN, VB 2, VBZ -3, NN -2, NNS -2
NNP: + NN, NNP 3, NN 0, NNS 0, VBZ 3, CD 0, WP 1
POS: + DT, NNP 0, COMMA -2, STOP -2, VBN -1
VB: DT 3, PPS 3, PRO 3, PR3 -2, PRS -2, IN 2, RB 1, JJ 0, NN 0, NNS 1, NNP 1, TO 2, COMMA 1, STOP 1, SC 2, PRI 2, PRD 1, CD 1, WRB 1, WP 0, VB -4, VBZ -6, VBD -6, VBN -3, VBG 0, BE -5, MD -5, HV -5, DO -4, POS -7, CC 0, EX 0
VBZ: + VB
VBD: + VB
VBN: + VB, IN 3, TO 2, DT 1, PRO 0, VBG -1, NN 1, NNS 1
VBG: + VB, NN 0, NNS 0
EXB: DT 3, NN 0, NNS 1, JJ 1, RB 1, CD 2, PRI 2, NEG 2, VB -6, VBN -3, VBG -3, IN 0, POS -9
UH: COMMA 2, STOP 2, PRS 0
SYM: CD 2, SYM 1
X: X 2
"""

_ENDS = {".", "!", "?", "…", "?!", "!!", "!?", "...", "。", "！", "？"}
_COMMAS = {",", ";", ":", "--", "–", "—", "---"}
_SYMBOLS = set("%+=<>$€£¥#@*^~°§©®™×÷±→←&|\\_")
_SEEN_THROUGH = {"RB", "NEG", "PQ", "UH"}  # a reading after these looks at what came before them
_ABBREVIATION = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]?\.?")
_NUMBER = re.compile(r"[+\-−]?[0-9][0-9.,:/eE×x%-]*|[IVXLC]{2,}|[.,][0-9]+|0x[0-9a-fA-F]+")
_ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th)", re.IGNORECASE)
_DECADE = re.compile(r"['’]?[0-9]{2,4}s")
_CLAUSE = {"MD", "BE", "HV", "DO", "VBD", "VBZ", "EXB"}
_HEADS_OF_THAT = set(
    "fact idea evidence claim belief hope fear doubt chance news sign proof theory thought feeling "
    "impression possibility conclusion view condition notion suspicion assumption so such".split()
)

# Suffix -> readings of a word that the lexicon lacks; the longest that fits.
_SUFFIXES = {
    **dict.fromkeys(
        """tion sion ment ness ity ance ence ship hood ism ist dom age ure eer ology graphy ery ier or
        cy ty ry th gram graph ware man woman person ine ette logue ium""".split(),
        ("NN", "VB"),
    ),
    **dict.fromkeys(
        """tions sions ments nesses ities ances ences ships hoods isms ists ages ures ers ors cies ties
        ries grams graphs men women ologies""".split(),
        ("NNS",),
    ),
    **dict.fromkeys("able ible ous ful less ish ive esque worthy".split(), ("JJ",)),
    **dict.fromkeys(
        "ic ical al ary ory ant ent like some ular ian ese lar proof fold".split(), ("JJ", "NN")
    ),
    **dict.fromkeys("ize ise ify ate en".split(), ("VB", "NN")),
    **dict.fromkeys("izes ises ifies ates".split(), ("VBZ", "NNS")),
    "ly": ("RB", "JJ"),
    "ward": ("RB", "JJ"),
    "wards": ("RB",),
    "wise": ("RB",),
    "ing": ("VBG", "NN", "JJ"),
    "ings": ("NNS",),
    "ed": ("VBD", "VBN", "JJ"),
    "est": ("JJ", "NN"),
    "ss": ("NN",),
    "us": ("NN", "JJ"),
    "is": ("NN",),
    "ics": ("NN",),
    "s": ("NNS", "VBZ"),
}
_LONGEST = max(map(len, _SUFFIXES))
_PREFIXES = (
    "un",
    "re",
    "dis",
    "over",
    "under",
    "mis",
    "out",
    "in",
    "im",
    "non",
    "pre",
    "co",
    "sub",
)


def _parse_table() -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for line in _TABLE.strip().splitlines():
        context, _, entries = line.partition(": ")
        row = table[context] = {}
        for entry in entries.split(", "):
            reading, value = entry.split()
            if reading == "+":
                row.update(table[value])
            else:
                row[reading] = int(value)
    return table


_SCORES = _parse_table()


@Language.factory(FACTORY, assigns=["token.pos"])
def create(nlp: Language, name: str) -> RuleTagger:
    """Make the component; it has no settings."""
    return RuleTagger()


class RuleTagger:
    """Sets the universal part of speech of every token of a document."""

    def __call__(self, doc: Doc) -> Doc:  # noqa: D102
        words = [word.text for word in doc]
        names = _Names(words)
        for start, end in _sentences(words):
            for word, tag in zip(doc[start:end], _tag(words[start:end], names), strict=True):
                word.pos_ = tag
        return doc


class _Names:
    """How words are written elsewhere in the document, where no sentence begins."""

    def __init__(self, words: list[str]) -> None:
        self._lower = {word for word in words if word.islower()}
        inside = (
            word
            for before, word in zip(words, words[1:], strict=False)
            if word[0].isupper() and (before[-1].isalnum() or before == ",")
        )
        self._upper = Counter(inside)

    def is_common(self, word: str) -> bool:
        return word.lower() in self._lower

    def is_name(self, word: str) -> bool:
        return word in self._upper and not self.is_common(word)


def _sentences(words: list[str]) -> list[tuple[int, int]]:
    """(start, end) of each: after its last mark with what closes it, and at empty lines."""
    spans, start, ended = [], 0, False
    for place, word in enumerate(words):
        closes = word in "\"'”’)]»" or word.isspace() or word in _ENDS
        if (ended and not closes) or (word.isspace() and word.count("\n") > 1):
            if place > start:
                spans.append((start, place))
            start, ended = place, False
        ended = ended or word in _ENDS
    if start < len(words):
        spans.append((start, len(words)))
    return spans


def _tag(words: list[str], names: _Names) -> list[str]:
    """Universal tags of a sentence."""
    lower = [unicodedata.normalize("NFC", word).lower().replace("’", "'") for word in words]
    letters = [word for word in words if len(word) > 3 and word.isalpha()]
    headline = len(letters) > 2 and sum(not word.islower() for word in letters) > 0.7 * len(letters)
    readings: list[tuple[str, ...]] = []
    starts = True
    for word, low in zip(words, lower, strict=True):
        readings.append(_readings(word, low, starts, headline, names))
        if readings[-1][0] not in {"PQ", "SP", "PU"} or word == ":":
            starts = word == ":"
    for place, low in enumerate(lower):
        if narrow := _SPECIAL.get(low):
            readings[place] = narrow(place, lower, readings)
    return [UNIVERSAL_OF[reading] for reading in _best_path(readings, words)]


def _best_path(readings: list[tuple[str, ...]], words: list[str]) -> list[str]:
    # context -> (score, path as linked pairs); a context is what the next reading looks back at
    paths: dict[str, tuple[float, tuple[object, str] | None]] = {"START": (0.0, None)}
    for options, word in zip(readings, words, strict=True):
        following: dict[str, tuple[float, tuple[object, str] | None]] = {}
        for rank, reading in enumerate(options):
            for context, (score, path) in paths.items():
                score += _fit(context, reading) - 1.2 * rank
                after = _context(context, reading, word)
                if after not in following or score > following[after][0]:
                    following[after] = (score, (path, reading))
        paths = following
    _, best = max(paths.values(), key=lambda item: item[0])
    found: list[str] = []
    node: object = best
    while isinstance(node, tuple):
        node, reading = node
        found.append(reading)
    return found[::-1]


@lru_cache(maxsize=None)
def _fit(context: str, reading: str) -> float:
    context, _, before = context.partition(":")
    if context == "CC":
        return _SCORES["CC"].get(reading, 0) + 2 * (before[:2] == reading[:2])
    reading = {"PU": "COMMA", "PE": "STOP"}.get(reading, reading)
    return _SCORES.get(context, {}).get(reading, 0) + _AFTER_ADVERB.get((before, reading), 0)


# An adverb is seen through, but draws what it can grade.
_AFTER_ADVERB = {("RB", "JJ"): 1, ("RB", "RB"): 1, ("RB", "NN"): -2, ("RB", "NNS"): -2}


@lru_cache(maxsize=None)
def _context(context: str, reading: str, word: str) -> str:
    """What the next word looks back at."""
    base = context.partition(":")[0]
    if reading == "SP":
        return context
    if reading == "RB":
        return base + ":RB"
    if reading in {"PRS", "PR3"} and base in {"HV", "BE", "DO", "MD"}:
        return base  # have you seen
    if reading in _SEEN_THROUGH:
        return base
    if reading == "CC":
        return "CC:" + base
    if reading == "PU":
        return "COMMA"
    return "START" if reading == "PE" else reading


def _readings(word: str, low: str, starts: bool, headline: bool, names: _Names) -> tuple[str, ...]:
    """What a word can be, by itself."""
    if word.isspace():
        return ("SP",)
    known = READINGS.get(low)
    if not word[0].isupper():
        return known or _guess(low)
    if word == "I":
        return ("PRS",)
    if known and known[0] == "NNP":
        return known
    if len(word) > 1 and word.isupper():
        plain = known and not ({low} & {"us", "it", "am", "may"}) and (headline or len(word) > 3)
        return (
            known
            if known and (plain or known[0] in _CLOSED_IN_CAPITALS)
            else _unusual(low) or ("NNP",)
        )
    if starts:
        if names.is_name(word) and not (known and known[0] in _FUNCTION):
            return ("NNP",)
        if known:
            return known if len(word) > 1 or known[0] in _FUNCTION else ("NNP",)
        guess = _guess(low)
        return guess if names.is_common(word) or _suffix(low) else ("NNP", *guess)
    if word in _NAMES_TOO:
        return ("NNP", *(known or ()))
    if known and known[0] in _FUNCTION or known and "NNP" in known:
        return known
    if known and headline:
        return (*known, "NNP")
    return _unusual(low) or ("NNP",)


_NAMES_TOO = {"May", "Will", "Can"}  # a capital inside a sentence says so
_FUNCTION = {
    *("DT", "WDT", "PPS", "PRS", "PR3", "PRO", "PRD", "PRI", "WP", "IN", "SC", "CC", "TO", "NEG"),
    *("POS", "MD", "BE", "BEB", "BEN", "HV", "DO", "WRB", "RB", "UH", "X"),
}
_CLOSED_IN_CAPITALS = _FUNCTION - {"PRO", "X", "RB"} | {"VB"}


def _unusual(word: str) -> tuple[str, ...] | None:
    """Readings of what is not written in letters alone: numbers, marks, addresses, emoji."""
    if word in emoticons and len(word) > 1 and not word[0].isalpha():
        return ("SYM",)
    if _NUMBER.fullmatch(word):
        return ("CD",)
    if _ORDINAL.fullmatch(word):
        return ("JJ",)
    if _DECADE.fullmatch(word):
        return ("NNS",)
    if "://" in word or word.startswith("www.") or re.fullmatch(r"[\w.+-]+@[\w-]+\.[\w.]+", word):
        return ("X",)
    kinds = {unicodedata.category(character)[0] for character in word}
    if not kinds & {"L", "N"}:
        if word in _ENDS:
            return ("PE",)
        if word in _COMMAS:
            return ("PU",)
        symbols = kinds & {"S", "C"} or set(word) <= _SYMBOLS
        return ("SYM",) if symbols and set(word) - set("`") else ("PQ",)
    if "L" in kinds and not any("LATIN" in unicodedata.name(c, "") for c in word if c.isalpha()):
        return ("X",)
    return None


@lru_cache(maxsize=1 << 16)
def _guess(word: str) -> tuple[str, ...]:
    """Readings of a lower-case word that the lexicon lacks."""
    if unusual := _unusual(word):
        return unusual
    if not word.isalpha():
        return ("NN",)
    for prefix in _PREFIXES:
        if word.startswith(prefix) and (known := READINGS.get(word[len(prefix) :])):
            if prefix == "un" and "VBN" in known:
                return ("JJ", *known)
            if known[0] in {"NN", "NNS", "JJ", "VB", "VBZ", "VBD", "VBN", "VBG", "RB"}:
                return known
    return _suffix(word) or ("NN", "VB", "JJ")


def _suffix(word: str) -> tuple[str, ...] | None:
    for length in range(min(_LONGEST, len(word) - 2), 0, -1):
        if found := _SUFFIXES.get(word[-length:]):
            return found
    return None


# Words whose reading depends on more than what is next to them.

_Sentence = list[str]
_Options = list[tuple[str, ...]]


def _next(place: int, readings: _Options, skip: tuple[str, ...] = ("RB", "PQ", "SP", "NEG")) -> int:
    """The place of the next word that is none of `skip`, or one past the last."""
    place += 1
    while place < len(readings) and readings[place][0] in skip:
        place += 1
    return place


def _begins_clause(place: int, readings: _Options) -> bool:
    """Whether a subject or a verb in finite form follows before the next mark or linking word."""
    before = ""
    for options in readings[place + 1 : place + 12]:
        if options[0] in {"PRS", "PR3", "EX"} and before != "IN":
            return True
        if options[0] in {"PE", "PU", "SC", "WP", "CC", "WRB", "TO"}:
            return False
        if options[0] in _CLAUSE or "VBD" in options:
            return True
        before = options[0]
    return False


def _preposition(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    following = _next(place, readings)
    if following == len(words) or readings[following][0] in {"PE", "PU"}:
        return ("RB",) if words[place] not in {"as", "than", "like"} else ("IN",)
    if readings[following][0] in {"VBG", "VBN", "TO"}:
        return ("SC",)
    return ("SC",) if _begins_clause(place, readings) else ("IN",)


def _as(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    if place + 1 < len(words) and {"JJ", "RB"} & set(readings[place + 1]):
        if "as" in words[place + 2 : place + 6]:
            return ("RB",)
    return _preposition(place, words, readings)


def _there(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    following = _next(place, readings)
    if following == len(words):
        return ("RB",)
    if readings[following][0] in {"BE", "MD", "HV", "BEB"} or words[following] in {
        "'s",
        "'d",
        "'ll",
        "seems",
    }:
        return ("EX",)
    before = readings[place - 1][0] if place else ""
    return ("EX",) if before in {"BE", "MD"} and readings[following][0] in {"DT", "NN"} else ("RB",)


def _be(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    """Existential be is a verb; auxiliaries and adverbs may stand between."""
    before = place - 1
    while (
        before >= 0
        and readings[before][0] in {"MD", "HV", "NEG", "RB"}
        and words[before] != "there"
    ):
        before -= 1
    if (before >= 0 and words[before] == "there" and "EX" in readings[before]) or (
        place + 1 < len(words) and words[place + 1] == "there" and "EX" in readings[place + 1]
    ):
        return ("EXB",)
    return readings[place]


def _so(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    if place + 1 < len(words) and words[place + 1] == "that":
        return ("SC",)
    return ("RB",)


def _paired(second: str) -> object:
    def rule(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
        if (
            place + 1 < len(words)
            and words[place + 1] != "of"
            and second in words[place + 1 : place + 7]
        ):
            return ("CC",)
        return ("DT",)

    return rule


def _though(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    following = _next(place, readings, ("PQ",))
    return ("RB",) if following == len(words) or readings[following][0] in {"PE", "PU"} else ("SC",)


def _degree(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    following = _next(place, readings, ("PQ",))
    options = readings[following] if following < len(words) else ("PE",)
    if options[0] in {"JJ", "RB", "VBN", "VBG"} and options[0] != "NN":
        return ("RB",)
    if options[0] in {"NN", "NNS"} or words[place + 1 : place + 2] in (["of"], ["than"]):
        return ("JJ",)
    return ("RB", "JJ") if options[0] in {"PE", "PU", "IN", "SC"} else ("JJ", "RB")


def _that(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    if place and words[place - 1] in _HEADS_OF_THAT:
        return ("SC", "WP")
    return readings[place]


def _s(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    if place and words[place - 1] == "let":
        return ("PRO",)
    return tuple(reading for reading in readings[place] if reading != "PRO")


def _no(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    following = _next(place, readings, ("PQ",))
    ends = following == len(words) or readings[following][0] in {"PE", "PU"}
    return ("UH",) if ends else ("DT",)


def _about(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    return ("RB",) if readings[place + 1 : place + 2] == [("CD",)] else readings[place]


def _one(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    before = readings[place - 1][0] if place else ""
    after = readings[place + 1][0] if place + 1 < len(words) else ""
    return (
        ("NN",)
        if before in {"JJ", "DT", "WP"} and after not in {"NN", "NNS", "JJ"}
        else readings[place]
    )


def _well(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    begins = all(options[0] == "PQ" for options in readings[:place])
    return ("UH",) if begins and words[place + 1 : place + 2] == [","] else ("RB",)


def _yet(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    begins = not place or readings[place - 1][0] in {"PQ", "PU"}
    return ("CC",) if begins and place + 1 < len(words) else ("RB",)


def _first(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    following = readings[place + 1][0] if place + 1 < len(words) else "PE"
    return ("RB",) if following in {"PE", "PU", "CC"} else ("JJ",)


def _next_to(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    return ("RB",) if words[place + 1 : place + 2] == ["to"] else ("JJ",)


def _with_gerund(place: int, words: _Sentence, readings: _Options) -> tuple[str, ...]:
    """A preposition before a gerund introduces a clause, as Universal Dependencies have it."""
    return (
        ("SC",)
        if readings[place + 1 : place + 2] and readings[place + 1][0] == "VBG"
        else readings[place]
    )


_SPECIAL = {
    **dict.fromkeys(("before", "after", "since", "until", "till", "than", "once"), _preposition),
    **dict.fromkeys(("is", "are", "was", "were", "be", "been", "'s"), _be),
    **dict.fromkeys(("more", "most", "less", "least", "much", "enough", "little"), _degree),
    **dict.fromkeys(("about", "around"), _about),
    **dict.fromkeys(("of", "by", "for", "from", "without", "in", "on", "at"), _with_gerund),
    "one": _one,
    "well": _well,
    "yet": _yet,
    "first": _first,
    "next": _next_to,
    "as": _as,
    "there": _there,
    "so": _so,
    "both": _paired("and"),
    "either": _paired("or"),
    "neither": _paired("nor"),
    "though": _though,
    "that": _that,
    "no": _no,
}
