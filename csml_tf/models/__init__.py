"""Networks, and what replicas tell each other inside of them."""
