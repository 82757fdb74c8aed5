"""Data sets, one file each; every one is an `AudioDataModule`."""
