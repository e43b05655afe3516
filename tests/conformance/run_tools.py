"""Runs tools one after the other in one process: TensorFlow is imported once for all of them.

python run_tools.py < calls.json, a list of command lines -> a list of [code, stdout, stderr]
"""

import contextlib
import io
import json
import runpy
import sys

from absl import app, flags


def run(call):
    """-> [exit code, text on stdout, text on stderr] of one command line."""
    known = {*flags.FLAGS}
    sys.argv = list(call)
    stdout, stderr = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            runpy.run_path(call[0], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except Exception as error:  # What the interpreter itself would show.
            code = 1
            print(f"Traceback: {type(error).__name__}: {error}", file=stderr)
    for name in {*flags.FLAGS} - known:
        delattr(flags.FLAGS, name)
    # Each verb defines its flags anew.
    for name in [name for name in sys.modules if name.startswith("csml_tf.verbs.")]:
        del sys.modules[name]
    return [code, stdout.getvalue(), stderr.getvalue()]


if __name__ == "__main__":
    app.define_help_flags()  # Those stay; each tool's own flags go with it.
    print(json.dumps([run(call) for call in json.load(sys.stdin)]))
