"""Time to tag text by its parts of speech, and what part of it is spaCy's tokenizer and alignment.

    python -m benchmarks.tagging [--characters 450000] [--tagger rules]

The text is Python's own documentation, in pieces of six characters at most, about as many as a
sub-word tokenizer would make. Prints JSON; the first time, with imports, is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from pydoc_data.topics import topics

import numpy as np

from engine.categories.alignment import blank, majority
from engine.categories.tagging import UNIVERSAL, load, tag
from store.schema import Corpus

TOKEN = re.compile(r" ?\w{1,6}|[^\w\s]|\s")


def corpus(characters: int) -> Corpus:
    """About as many characters of documentation, a topic being a document."""
    texts: list[str] = []
    for text in itertools.cycle(topics.values()):
        if sum(map(len, texts)) >= characters:
            break
        texts.append(text)
    starts = np.cumsum([0, *map(len, texts[:-1])])
    spans = [
        (number, start + match.start(), start + match.end())
        for number, (text, start) in enumerate(zip(texts, starts.tolist(), strict=True))
        for match in TOKEN.finditer(text)
    ]
    document, start, end = np.array(spans).T
    none = np.zeros(len(spans), np.int32)
    names = tuple(map(str, range(len(texts))))
    return Corpus(none, none, document.astype(np.int32), start, end, "".join(texts), starts, names)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--characters", type=int, default=450_000)
    parser.add_argument("--tagger", default="rules")
    options = parser.parse_args()
    text = corpus(options.characters)
    tag(text, options.tagger)
    clock = time.perf_counter
    start = clock()
    tags = tag(text, options.tagger)
    whole = clock() - start
    nlp, _ = load(options.tagger)
    bounds = [*text.document_start.tolist(), len(text.text)]
    start = clock()
    words = sum(len(nlp.make_doc(text.text[low:high])) for low, high in itertools.pairwise(bounds))
    tokenizer = clock() - start
    label = np.zeros(len(text.text), np.int16)
    start = clock()
    majority(label, ~blank(text.text), text.char_start, text.char_end, len(UNIVERSAL))
    aligning = clock() - start
    result = {
        "tagger": tags.tagger,
        "tokens": len(text),
        "words": words,
        "documents": len(bounds) - 1,
        "seconds": round(whole, 2),
        "tokenizer_seconds": round(tokenizer, 2),
        "alignment_seconds": round(aligning, 2),
    }
    print(json.dumps({"tagging": result}, indent=2))


if __name__ == "__main__":
    main()
