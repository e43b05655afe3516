"""Several recipes with several seeds, one after the other, and what came of them."""
