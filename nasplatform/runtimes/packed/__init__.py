"""The platform's own runtime for networks with binary layers: bits, counted."""
