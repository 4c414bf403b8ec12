"""From files to tokens and windows."""
