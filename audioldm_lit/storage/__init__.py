"""What lies on disk: writing that is whole or not at all, names, shards of tensors, downloads, reading ahead."""
