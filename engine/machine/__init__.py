"""Devices, and how much of the machine the engine may use."""
