"""Measurements of speed and memory; each returns one dict of plain figures."""
