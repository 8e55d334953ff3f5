"""A run from beginning to end, its folder on disk, and its tidy frames."""
