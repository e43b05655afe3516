"""Evaluation: one file or one folder for each protocol."""
