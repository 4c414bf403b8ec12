"""The Tokens screen: the text as a heat map, one token in detail."""
