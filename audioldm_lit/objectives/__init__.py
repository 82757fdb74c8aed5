"""Training objectives, one file each; every one is an `Objective`."""
