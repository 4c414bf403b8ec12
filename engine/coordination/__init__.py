"""Decide what to do, hand it out, commit the results."""
