"""Figures out of files and arrays; what draws them is installed with csml_tf[reports]."""
