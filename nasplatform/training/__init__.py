"""Data sets, and the one training loop used by evaluators and stages alike."""
