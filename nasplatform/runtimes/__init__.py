"""What computes a network where it is deployed, and what it costs there."""
