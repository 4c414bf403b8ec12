"""Exit codes of all commands."""

from typing import Final

OK: Final = 0
FAILED: Final = 1  # work failed
USAGE: Final = 2  # usage or configuration
INTERRUPTED: Final = 130
