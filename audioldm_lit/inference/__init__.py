"""From an adapted model to sound: sampling, blending of adapters, what an adapter changes, the manifest."""
