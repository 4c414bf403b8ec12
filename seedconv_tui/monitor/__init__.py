"""The Textual app that watches a study; one folder a screen."""
