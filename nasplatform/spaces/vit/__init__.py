"""Visual transformers, isotropic and pyramids (survey: Han et al., TPAMI 2023)."""
