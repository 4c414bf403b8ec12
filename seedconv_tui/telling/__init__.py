"""Whom a working engine tells, besides the terminal: a log, messages, metrics, other tools' charts.

Each is optional and none can stop or delay the work: they run in threads of their own, wait for
nobody, and say once that they cannot go on.
"""
