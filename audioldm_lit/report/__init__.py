"""Pages for people who decide: one HTML file each that loads nothing, in plain words, with sounds and pictures inside."""
