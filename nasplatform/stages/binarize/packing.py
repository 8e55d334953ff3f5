"""From latent weights to bits: what is left of a training."""

from dataclasses import replace


def packed(network, latent):
    return replace(network, module=latent)
