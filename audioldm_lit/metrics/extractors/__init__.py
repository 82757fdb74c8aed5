"""Networks and formulas that turn clips into features, one file each."""
