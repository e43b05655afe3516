"""Published encoders by name."""
