"""`seedconv_tui.training.callback`, by the name that it had before; for scripts that use it."""

from seedconv_tui.training.callback import SeedconvCallback as SeedconvCallback
