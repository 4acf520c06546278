"""``/console``: a read-only page for people, off unless ``[console]`` stands in the configuration."""
