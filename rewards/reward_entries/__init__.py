"""Rows of the table of rewards, by kind."""
