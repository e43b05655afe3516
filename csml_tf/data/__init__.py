"""Image sources with random access, and the input pipeline on top of them."""
