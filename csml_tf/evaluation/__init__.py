"""Evaluation, one protocol per file."""
