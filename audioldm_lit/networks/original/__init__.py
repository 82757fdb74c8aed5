"""The original AudioLDM's checkpoint, one file of all its networks: to a model folder, and back."""
