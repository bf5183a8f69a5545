"""The one training loop, its checkpoints, its metrics and its held-out evidence."""
