"""The schema of study.toml, checked before anything starts; one module a section."""
