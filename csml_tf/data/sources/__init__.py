"""Image sources: `len(source)` images, any of them by index."""
