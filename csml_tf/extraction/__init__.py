"""Features of folders of any size, into files."""
