"""Images told by their nearest images."""
