"""Words whose reading depends on more than what is next to them: that, there, since, as, more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Readings = tuple[str, ...]

_FINITE = {"MD", "BE", "HV", "DO", "VBD", "VBZ", "EXB"}
_BREAKS = {"PE", "PU", "SC", "WP", "CC", "WRB", "TO"}
_THAT = """
    assumption belief chance claim conclusion condition doubt evidence fact fear feeling hope idea
    impression news notion possibility proof sign so such suspicion theory thought view
"""
_NOUNS_BEFORE_THAT = frozenset(_THAT.split())


@dataclass
class Sentence:
    """Its words as the lexicon has them, and what each can be."""

    words: list[str]
    readings: list[Readings]

    def likeliest(self, place: int) -> str:
        """Return the first reading of a word; "" before the first word, "PE" after the last."""
        if place < 0:
            return ""
        return self.readings[place][0] if place < len(self.words) else "PE"

    def word(self, place: int) -> str:
        """Return a word; "" beyond either end."""
        return self.words[place] if 0 <= place < len(self.words) else ""

    def after(self, place: int, *skipped: str) -> int:
        """Return the place of the next word whose likeliest reading is not skipped."""
        place += 1
        while place < len(self.words) and self.readings[place][0] in skipped:
            place += 1
        return place

    def clause_follows(self, place: int) -> bool:
        """Return whether a subject or a finite verb comes before the next mark or linking word."""
        for following in range(place + 1, min(place + 12, len(self.words))):
            first = self.likeliest(following)
            if first in {"PRS", "PR3", "EX"} and self.likeliest(following - 1) != "IN":
                return True
            if first in _BREAKS:
                return False
            if first in _FINITE or "VBD" in self.readings[following]:
                return True
        return False


def narrow(sentence: Sentence) -> None:
    """Leave those readings of each word that what is around it allows."""
    for place, word in enumerate(sentence.words):
        if rule := _RULES.get(word):
            sentence.readings[place] = rule(sentence, place)


def _linking(sentence: Sentence, place: int) -> Readings:
    """before, since, than: adposition, or conjunction before a clause."""
    following = sentence.likeliest(sentence.after(place, "RB", "PQ", "NEG"))
    if following in {"PE", "PU"}:
        return ("IN",) if sentence.words[place] in {"as", "than"} else ("RB",)
    if following in {"VBG", "VBN", "TO"} or sentence.clause_follows(place):
        return ("SC",)
    return ("IN",)


def _as(sentence: Sentence, place: int) -> Readings:
    graded = place + 1 < len(sentence.words) and {"JJ", "RB"} & set(sentence.readings[place + 1])
    if graded and "as" in sentence.words[place + 2 : place + 6]:
        return ("RB",)
    return _linking(sentence, place)


def _before_gerund(sentence: Sentence, place: int) -> Readings:
    """Read a preposition before a gerund as introducing a clause, as Universal Dependencies do."""
    return ("SC",) if sentence.likeliest(place + 1) == "VBG" else sentence.readings[place]


def _there(sentence: Sentence, place: int) -> Readings:
    following = sentence.after(place, "RB", "PQ", "NEG")
    if sentence.likeliest(following) in {"BE", "BEB", "MD", "HV"}:
        return ("EX",)
    if sentence.word(following) in {"'s", "'d", "seems", "remains", "exists"}:
        return ("EX",)
    inverted = sentence.likeliest(place - 1) in {"BE", "MD", "EXB"}
    return ("EX",) if inverted and sentence.likeliest(following) in {"DT", "NN"} else ("RB",)


def _be(sentence: Sentence, place: int) -> Readings:
    """Be is a verb after existential there, also over auxiliaries and adverbs."""
    before = place - 1
    while sentence.likeliest(before) in {"MD", "HV", "NEG", "RB"}:
        if sentence.word(before) == "there":
            break
        before -= 1
    for other in (before, place + 1):
        if sentence.word(other) == "there" and "EX" in sentence.readings[other]:
            return ("EXB",)
    return sentence.readings[place]


def _paired(second: str) -> Callable[[Sentence, int], Readings]:
    """both, either, neither: conjunction where the second part follows."""

    def rule(sentence: Sentence, place: int) -> Readings:
        pair = second in sentence.words[place + 1 : place + 7]
        return ("CC",) if pair and sentence.word(place + 1) != "of" else ("DT",)

    return rule


def _though(sentence: Sentence, place: int) -> Readings:
    return ("RB",) if sentence.likeliest(sentence.after(place, "PQ")) in {"PE", "PU"} else ("SC",)


def _degree(sentence: Sentence, place: int) -> Readings:
    """more, most, much: adverb before what can be graded, adjective before a noun."""
    following = sentence.likeliest(sentence.after(place, "PQ"))
    if following in {"JJ", "RB", "VBN", "VBG"}:
        return ("RB",)
    if following in {"NN", "NNS"} or sentence.word(place + 1) in {"of", "than"}:
        return ("JJ",)
    return ("RB", "JJ") if following in {"PE", "PU", "IN", "SC"} else ("JJ", "RB")


def _that(sentence: Sentence, place: int) -> Readings:
    if sentence.word(place - 1) in _NOUNS_BEFORE_THAT:
        return ("SC", "WP")
    return sentence.readings[place]


def _so(sentence: Sentence, place: int) -> Readings:
    return ("SC",) if sentence.word(place + 1) == "that" else ("RB",)


def _s(sentence: Sentence, place: int) -> Readings:
    return ("PRO",) if sentence.word(place - 1) == "let" else _be(sentence, place)


def _no(sentence: Sentence, place: int) -> Readings:
    return ("UH",) if sentence.likeliest(sentence.after(place, "PQ")) in {"PE", "PU"} else ("DT",)


def _about(sentence: Sentence, place: int) -> Readings:
    return ("RB",) if sentence.likeliest(place + 1) == "CD" else sentence.readings[place]


def _one(sentence: Sentence, place: int) -> Readings:
    stands_for_noun = sentence.likeliest(place - 1) in {"JJ", "DT", "WP"}
    if stands_for_noun and sentence.likeliest(place + 1) not in {"NN", "NNS", "JJ"}:
        return ("NN",)
    return sentence.readings[place]


def _well(sentence: Sentence, place: int) -> Readings:
    begins = all(options[0] == "PQ" for options in sentence.readings[:place])
    return ("UH",) if begins and sentence.word(place + 1) == "," else ("RB",)


def _yet(sentence: Sentence, place: int) -> Readings:
    joins = sentence.likeliest(place - 1) in {"", "PQ", "PU"}
    return ("CC",) if joins and place + 1 < len(sentence.words) else ("RB",)


def _first(sentence: Sentence, place: int) -> Readings:
    return ("RB",) if sentence.likeliest(place + 1) in {"PE", "PU", "CC"} else ("JJ",)


def _next(sentence: Sentence, place: int) -> Readings:
    return ("RB",) if sentence.word(place + 1) == "to" else ("JJ",)


_RULES: dict[str, Callable[[Sentence, int], Readings]] = {
    **dict.fromkeys(("before", "after", "since", "until", "till", "than", "once"), _linking),
    **dict.fromkeys(("of", "by", "for", "from", "without", "in", "on", "at"), _before_gerund),
    **dict.fromkeys(("is", "are", "was", "were", "be", "been", "'re"), _be),
    **dict.fromkeys(("more", "most", "less", "least", "much", "enough", "little"), _degree),
    **dict.fromkeys(("about", "around"), _about),
    "as": _as,
    "there": _there,
    "that": _that,
    "so": _so,
    "both": _paired("and"),
    "either": _paired("or"),
    "neither": _paired("nor"),
    "though": _though,
    "'s": _s,
    "no": _no,
    "one": _one,
    "well": _well,
    "yet": _yet,
    "first": _first,
    "next": _next,
}
