"""Blind listening tests: one page that asks, the answers of its raters, and what they say of systems and metrics."""
