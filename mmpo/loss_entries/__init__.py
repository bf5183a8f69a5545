"""The rows of the table of losses, a file a family. No torch."""
