"""Fine-tuning with few labels, and self-training on the rest."""
