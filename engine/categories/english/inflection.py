"""The lexicon with its words inflected: which readings a known English word has."""

from __future__ import annotations

from collections.abc import Iterator

from engine.categories.english import lexicon

_DOUBLING = "beget begin bet cut forget get hit let put quit run set shut sit spin split swim win"
_DOUBLING_ADJECTIVES = {"big", "fat", "hot", "mad", "sad", "slim", "thin", "wet"}


def plural(word: str) -> str:
    """Return a noun's plural, and a verb's third person."""
    if word.endswith(("s", "x", "z", "ch", "sh", "go")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def past(verb: str) -> str:
    """Return the past of a regular verb; * doubles its last letter."""
    stem = verb.rstrip("*")
    if stem.endswith("e"):
        return stem + "d"
    if stem.endswith("y") and stem[-2] not in "aeiou":
        return stem[:-1] + "ied"
    return (stem + stem[-1] if verb.endswith("*") else stem) + "ed"


def _present(verb: str) -> Iterator[tuple[str, str]]:
    stem = verb.rstrip("*")
    yield stem, "VB"
    yield plural(stem), "VBZ"
    if stem.endswith("ie"):
        yield stem[:-2] + "ying", "VBG"
    elif stem.endswith("e") and not stem.endswith(("ee", "oe", "ye")):
        yield stem[:-1] + "ing", "VBG"
    else:
        yield (stem + stem[-1] if verb.endswith("*") else stem) + "ing", "VBG"


def _grades(adjective: str) -> Iterator[tuple[str, str]]:
    yield adjective, "JJ"
    if len(adjective) <= 6:
        stem = adjective
        if stem.endswith("y"):
            stem = stem[:-1] + "i"
        elif stem.endswith("e"):
            stem = stem[:-1]
        elif stem in _DOUBLING_ADJECTIVES:
            stem += stem[-1]
        yield stem + "er", "JJ"
        yield stem + "est", "JJ"


def _entries(block: str) -> Iterator[list[str]]:
    return (entry.split() for entry in block.replace("\n", ";").split(";") if entry.strip())


def _open_classes() -> Iterator[tuple[str, str]]:
    """(word, reading), for each word likeliest first."""
    for base, preterite, participle in _entries(lexicon.IRREGULAR):
        yield from _present(base + "*" * (base in _DOUBLING.split()))
        yield preterite, "VBD"
        yield participle, "VBN"
    for noun in lexicon.NOUNS.split():
        yield noun, "NN"
        yield plural(noun), "NNS"
    for verb in lexicon.VERBS.split():
        yield from _present(verb)
        yield past(verb), "VBD"
        yield past(verb), "VBN"
    for adjective in lexicon.ADJECTIVES.split():
        yield from _grades(adjective)
    for adverb in lexicon.ADVERBS.split():
        yield adverb, "RB"
    for word, first, *_ in _entries(lexicon.AMBIGUOUS):
        if first == "JJ":
            yield from _grades(word)


def _readings() -> dict[str, tuple[str, ...]]:
    written: dict[str, tuple[str, ...]] = {
        word: (reading,) for reading, words in lexicon.CLOSED.items() for word in words.split()
    }
    written.update((word, tuple(rest)) for word, *rest in _entries(lexicon.AMBIGUOUS))
    inflected: dict[str, list[str]] = {}
    for word, reading in _open_classes():
        known = inflected.setdefault(word, [])
        if reading not in known:
            known.append(reading)
    for known in inflected.values():  # nearly any verb is a noun somewhere: "an upgrade"
        for reading, other in (("VB", "NN"), ("VBZ", "NNS"), ("NNS", "VBZ")):
            if reading in known and other not in known:
                known.append(other)
    return {word: tuple(known) for word, known in inflected.items()} | written


READINGS = _readings()  # lower-case word, with straight apostrophes -> readings, likeliest first
