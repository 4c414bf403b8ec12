"""Errors of the engine. Each message is one line that names what is wrong and what to do."""


class ConfigError(Exception):
    """The study file, or what it points to, cannot be used. One line per finding."""


class CheckpointError(Exception):
    """One checkpoint cannot be scored; the others can.

    `passing`: there is hope that it can be later, though nothing changes where it lies.
    """

    passing = False


class Interrupted(Exception):  # noqa: N818  (not an error: the user asked)
    """The user asked the engine to stop."""


class EngineError(Exception):
    """The engine cannot go on, though nothing is wrong with the study."""
