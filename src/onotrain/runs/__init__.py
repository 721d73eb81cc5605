"""What a run leaves on the disk: run directory, checkpoints, and the metadata of its model."""
