"""Who hears what an engine does: console, log file, metrics, notifications, trackers."""
