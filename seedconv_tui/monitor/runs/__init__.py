"""The Runs screen: progress, engine and machine."""
