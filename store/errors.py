"""Errors of the store. Each message is one line that names the file and says what to do."""


class StoreError(Exception):
    """The store cannot be used as asked."""


class NotAStudyError(StoreError):
    """The path holds no study, or one of another format version."""


class StudyMismatchError(StoreError):
    """The store belongs to another corpus, tokenizer or scoring configuration."""


class UnsupportedError(StoreError):
    """What is asked cannot be done: by this installation, or for such an address or category."""


class RemoteError(StoreError):
    """A remote store did not answer, or refused to."""


class BusyError(StoreError):
    """Another engine coordinates this study."""


class DamagedError(StoreError):
    """Something that was committed is missing, altered or unreadable."""
