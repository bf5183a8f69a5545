"""Beside the table of losses: what is no loss (a reward, an order of pairs), and a loss that is not settled."""
