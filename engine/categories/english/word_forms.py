"""Readings of a word from its form alone: known words, numbers, marks, endings, capitals."""

from __future__ import annotations

import itertools
import re
import unicodedata
from functools import lru_cache

from spacy.lang.tokenizer_exceptions import emoticons

from engine.categories.english.inflection import READINGS

FUNCTION = {
    *("DT", "WDT", "PPS", "PRS", "PR3", "PRO", "PRD", "PRI", "WP", "IN", "SC", "CC", "TO", "NEG"),
    *("POS", "MD", "BE", "BEB", "BEN", "HV", "DO", "WRB", "RB", "UH", "X"),
}
ENDS = {".", "!", "?", "\u2026", "?!", "!!", "!?", "...", "\u3002", "\uff01", "\uff1f"}
CLOSES = set("\"')]}\u201d\u2019\u00bb")

_COMMAS = {",", ";", ":", "--", "\u2013", "\u2014", "---"}
_SYMBOLS = set("%+=<>$#@*^~|&\\_")
_NUMBER = re.compile(r"[+\-\u2212]?[0-9][0-9.,:/eE\u00d7x%-]*|[.,][0-9]+|0x[0-9a-fA-F]+")
_ROMAN = re.compile(r"(?=..)X{0,3}(?:IX|IV|V?I{0,3})")  # to 39, two letters or more
_EMOTICONS = {text.lower() for text in emoticons if not text.isalnum() and len(text) > 1}
_ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th)", re.IGNORECASE)
_DECADE = re.compile(r"'?[0-9]{2,4}s")
_ADDRESS = re.compile(r".*://.*|www\..*|[\w.+-]+@[\w-]+\.[\w.]+", re.DOTALL)
_NAMES_TOO = {"May", "Will", "Can"}  # a capital inside a sentence says so
_IN_CAPITALS = {"us", "it", "am", "may"}  # names, if written so

# The readings of words that the lexicon lacks, by their endings; the longest ending counts.
_ENDINGS = """
    NN VB: tion sion ment ness ity ance ence ship hood ism ist dom age ure eer ology graphy ery
        ier or cy ty ry th gram graph ware man woman person ine ette logue ium
    NNS: tions sions ments nesses ities ances ences ships hoods isms ists ages ures ers ors
        cies ties ries grams graphs men women ologies ings
    JJ: able ible ous ful less ish ive esque worthy
    JJ NN: ic ical al ary ory ant ent like some ular ian ese lar proof fold est
    VB NN: ize ise ify ate en
    VBZ NNS: izes ises ifies ates
    VBG NN JJ: ing
    VBD VBN JJ: ed
    RB: ly wards wise
    RB JJ: ward
    NN: er ss is ics
    NN JJ: us
    NNS VBZ: s
"""
_OPEN = {"NN", "NNS", "JJ", "VB", "VBZ", "VBD", "VBN", "VBG", "RB"}
_PREFIXES = (
    *("un", "re", "dis", "over", "under", "mis", "out", "in", "im", "non", "pre", "co", "sub"),
)


def _endings() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    kinds: tuple[str, ...] = ()
    for word in _ENDINGS.replace(":", " :").split("\n    "):
        head, _, tail = word.partition(" :")
        kinds = tuple(head.split()) if tail else kinds
        found.update(dict.fromkeys((tail or head).split(), kinds))
    return found


_BY_ENDING = _endings()
_LONGEST = max(map(len, _BY_ENDING))


class Names:
    """Spellings of words elsewhere in a document, where no sentence begins."""

    def __init__(self, words: list[str]) -> None:
        self._lower = {word for word in words if word.islower()}
        self._upper = {
            word
            for before, word in itertools.pairwise(words)
            if word[0].isupper() and (before[-1].isalnum() or before == ",")
        }

    def is_common(self, word: str) -> bool:
        """Return whether the word is also written without a capital."""
        return word.lower() in self._lower

    def is_name(self, word: str) -> bool:
        """Return whether the word has a capital wherever it is."""
        return word in self._upper and not self.is_common(word)


def plain(word: str) -> str:
    """Return the word as the lexicon has it."""
    return unicodedata.normalize("NFC", word).lower().replace("\u2019", "'")


def readings(word: str, *, begins: bool, headline: bool, names: Names) -> tuple[str, ...]:
    """Return what a word can be, likeliest first.

    `begins`: it is the first word of its sentence. `headline`: most words of it have capitals.
    """
    low = plain(word)
    known = READINGS.get(low)
    if not word[0].isupper():
        return known or guess(low)
    if word == "I":
        return ("PRS",)
    if known and known[0] == "NNP":
        return known
    if len(word) > 1 and word.isupper():
        common = headline or len(word) > 3 or (known and known[0] in FUNCTION)
        if known and common and low not in _IN_CAPITALS:
            return known
        return _unusual(word) or ("NNP",)
    if begins:
        if names.is_name(word) and not (known and known[0] in FUNCTION):
            return ("NNP",)
        if known:
            return known if len(word) > 1 or known[0] in FUNCTION else ("NNP",)
        found = guess(low)
        if names.is_common(word):
            return found
        return ("NNP", *found) if _may_be_name(low) else found
    if word in _NAMES_TOO:
        return ("NNP", *(known or ()))
    if known and (known[0] in FUNCTION or "NNP" in known):
        return known
    if headline:
        return known or guess(low)
    return _unusual(word) or ("NNP",)


@lru_cache(maxsize=1 << 16)
def guess(word: str) -> tuple[str, ...]:
    """Return readings of a lower-case word that the lexicon lacks."""
    if unusual := _unusual(word):
        return unusual
    if word.endswith("in'") and (known := READINGS.get(word[:-1] + "g")):
        return known
    if not word.isalpha():
        return ("NN",)
    for prefix in _PREFIXES:
        known = READINGS.get(word.removeprefix(prefix)) if word.startswith(prefix) else None
        if known and known[0] in _OPEN:
            return ("JJ", *known) if prefix == "un" and "VBN" in known else known
    return _ending(word) or ("NN", "VB", "JJ")


def _may_be_name(word: str) -> bool:
    """Return whether an unknown word's form allows a name: Peter, but no plurals."""
    length = next((n for n in range(_LONGEST, 0, -1) if word[-n:] in _BY_ENDING), 0)
    return length == 0 or (length == 2 and len(word) > 2)


def _ending(word: str) -> tuple[str, ...] | None:
    for length in range(min(_LONGEST, len(word) - 2), 0, -1):
        if found := _BY_ENDING.get(word[-length:]):
            return found
    return None


def _unusual(word: str) -> tuple[str, ...] | None:
    """Return readings of what is not Latin letters alone: numbers, marks, addresses, emoji."""
    if word.lower() in _EMOTICONS:
        return ("SYM",)
    if _NUMBER.fullmatch(word) or _ROMAN.fullmatch(word):
        return ("CD",)
    if _ORDINAL.fullmatch(word):
        return ("JJ",)
    if _DECADE.fullmatch(word):
        return ("NNS",)
    if _ADDRESS.fullmatch(word):
        return ("X",)
    kinds = {unicodedata.category(character)[0] for character in word}
    if not kinds & {"L", "N"}:
        if word in ENDS:
            return ("PE",)
        if word in _COMMAS:
            return ("PU",)
        return (
            ("SYM",) if (kinds & {"S", "C"} or set(word) <= _SYMBOLS) and word != "`" else ("PQ",)
        )
    letters = [character for character in word if character.isalpha()]
    if letters and not any("LATIN" in unicodedata.name(letter, "") for letter in letters):
        return ("X",)
    return None
