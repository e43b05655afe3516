"""`csml-tf train` from a checkout."""

from csml_tf import cli

if __name__ == "__main__":
    cli.run("train")
