"""Check a store, repair it, drop what is no longer needed."""
