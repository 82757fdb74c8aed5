"""The original's networks under the names of its checkpoints: what a converted part is compared with."""
