"""The console command `csml-tf`: the first word is a verb, the others are the verb's."""

import ast
import importlib
import pathlib
import sys

from csml_tf import errors

VERBS = ("train", "evaluate", "extract", "export", "convert", "report", "benchmark", "ablate")
_PROGRAM = "csml-tf"
_HELP = ("help", "-h", "-help", "--help", "--helpshort", "--helpfull")
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130


def main() -> None:
    """What `csml-tf` does; leaves with the verb's exit code."""
    words = sys.argv[1:]
    if not words or words[0] in _HELP:
        print(describe())
        sys.exit(0 if words else _EXIT_BAD_INPUT)
    verb = words[0]
    if verb not in VERBS:
        hint = errors.did_you_mean(verb, VERBS)
        print(
            f"{_PROGRAM}: There is no verb {verb!r}{hint}: give one of {', '.join(VERBS)}.",
            file=sys.stderr,
        )
        sys.exit(_EXIT_BAD_INPUT)
    sys.argv = [f"{_PROGRAM} {verb}", *words[1:]]
    run(verb)


def run(verb: str) -> None:
    """Runs one verb with the flags in `sys.argv`, whose first word is the program's name.

    Flags are global to a process and two verbs may have one of the same name, so only the
    module of this verb is imported.
    """
    try:
        from csml_tf import command  # Here, so that Ctrl-C during an import ends in a sentence.

        module = importlib.import_module(f"csml_tf.verbs.{verb}")
    except KeyboardInterrupt:
        print(f"{sys.argv[0]}: Interrupted before anything was done.", file=sys.stderr)
        sys.exit(_EXIT_INTERRUPTED)
    command.run(module, f"{_PROGRAM} {verb}")


def describe() -> str:
    """One screen about all verbs."""
    lines = [f"  {verb:<10} {_first_line(verb)}" for verb in VERBS]
    return "\n".join(
        [
            "Self-supervised pretraining of image encoders.\n",
            f"usage: {_PROGRAM} VERB [flags]\n",
            *lines,
            f"\n{_PROGRAM} VERB --help shows a verb's commands and flags. To begin, in a minute:\n",
            f"  {_PROGRAM} train --gin_file=quickstart.gin",
        ]
    )


def _first_line(verb: str) -> str:
    """Of the verb's docstring, read as text: two verbs may have a flag of one name."""
    path = pathlib.Path(__file__).with_name("verbs") / f"{verb}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    main()
