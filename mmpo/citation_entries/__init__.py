"""Papers by arXiv id, as literal data: a file a kind of method. No torch."""
