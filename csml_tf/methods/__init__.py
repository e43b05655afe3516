"""Training methods: the contract, base methods, cross-image positives, and the step."""
