"""A model's networks: its folder on disk, weights that are taken whole or not at all, and fingerprints."""
