"""Preference data: reading, pairing, caching, collating."""
