"""Exports of a trained encoder, which open without this package."""
