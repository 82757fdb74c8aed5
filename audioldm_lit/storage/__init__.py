"""Files on disk: atomic writing, names, shards of tensors, downloads, reading ahead."""
