"""Real architectures at small widths."""
