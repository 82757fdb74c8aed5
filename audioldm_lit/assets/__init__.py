"""Weights and data sets that are not part of the package: known by name, found, fetched and carried to other machines."""
