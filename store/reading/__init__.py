"""One file for each kind of thing a study keeps: how it lies on disk and how it is read."""
