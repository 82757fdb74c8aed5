"""Metrics, one file each; every one is a torchmetrics `Metric`."""
