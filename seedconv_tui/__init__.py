"""The terminal: the command line and the Textual monitor. It never imports torch."""
