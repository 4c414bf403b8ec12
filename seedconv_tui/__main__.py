"""`python -m seedconv_tui`: the command line where its script is not on the path."""

from __future__ import annotations

from seedconv_tui.cli.main import main

if __name__ == "__main__":  # processes that score import it as well
    main()
