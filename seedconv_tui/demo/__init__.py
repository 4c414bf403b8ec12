"""Two commands that need no data: `seedconv demo` and `make reproduce`."""
