"""Adaptation methods, one file each; every one is an `Adapter`."""
