"""`csml-tf export` from a checkout."""

from csml_tf import cli

if __name__ == "__main__":
    cli.run("export")
