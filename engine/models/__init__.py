"""A checkpoint as a model on a device."""
