"""Verbs beside Lightning's own: one typed function a file, named like its file."""
