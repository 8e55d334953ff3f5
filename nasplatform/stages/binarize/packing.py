"""From latent weights to bits: what is left of a training."""
