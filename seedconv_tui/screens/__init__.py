"""The screens; one a file. `seedconv_tui.app.SCREENS` says which there are, in order."""
