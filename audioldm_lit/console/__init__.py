"""What the command line says by itself: help pages, a first look at what was typed, progress on a terminal and in a log."""
