"""A study under fire for some minutes, and one in peace: `make soak`, outside `make test`."""
