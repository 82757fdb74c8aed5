"""Adapt a pre-trained AudioLDM to small sets of sounds, and tell the truth about the result.

Letters in every shape: B batch, T samples, F mel frames, M mel bins, C latent channels, D embedding.

Nothing heavy is imported here: `from audioldm_lit.module import LitAudioLDM` loads torch, `import audioldm_lit` does not.
"""

__version__ = "0.1.0"
