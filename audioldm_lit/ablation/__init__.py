"""Grids of runs: from one YAML to trials, on this machine or on Slurm, and from their results to one table."""
