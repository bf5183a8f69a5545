"""How the shipped checkpoints were made: the stages of `scripts/train_shapes.py`. Not needed at run time."""
