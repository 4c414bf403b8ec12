"""`seedconv_tui.training.announcing`, by the name that it had before; for scripts that use it."""

from seedconv_tui.training.announcing import announce as announce
