"""Programs: the stages and the command line."""
