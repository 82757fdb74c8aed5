"""A model's networks: its folder on disk, weights that are loaded completely or not at all, and fingerprints."""
