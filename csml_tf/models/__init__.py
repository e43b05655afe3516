"""Networks, the key queue and the CsMl model."""
