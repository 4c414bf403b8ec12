"""The rule tagger: English parts of speech without a trained pipeline."""
