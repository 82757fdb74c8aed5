"""Scores of any system's clips: protocols, passports, which clips are read, tables."""
