"""Bytes in and out: local and remote places, durable writes, Zarr arrays."""
