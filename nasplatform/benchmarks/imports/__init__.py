"""Published benchmarks, turned into tables."""
