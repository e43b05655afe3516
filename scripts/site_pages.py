"""Pages of the site that have their source elsewhere: a hook of mkdocs, read by mkdocs.yml.

MODEL_ZOO.md, CHANGELOG.md and CONTRIBUTING.md stand on top of the project, recipes in
gin_configs/; the commands are what `csml_tf/verbs/` says of itself, and the knobs what the recipes
say of theirs. Nothing here imports the package, so that a site needs no TensorFlow.
"""

import ast
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("MODEL_ZOO.md", "CHANGELOG.md", "CONTRIBUTING.md")
_UP = re.compile(r"\]\(\.\./(?=gin_configs/|" + "|".join(map(re.escape, PAGES)) + ")")
_KNOB = re.compile(r"^([A-Z][A-Z0-9_]*) = ([^#]*?)\s*(?:#\s*(.*))?$")


def on_files(files, config):
    """Adds the pages and the recipes that they link to."""
    for name in PAGES:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    for path in sorted((ROOT / "gin_configs").rglob("*.gin")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "commands.md", content=describe_commands()))
    files.append(File.generated(config, "knobs.md", content=describe_knobs()))
    return files


def on_page_markdown(markdown, page, config, files):
    """A page that lies in docs/ on a disk stands beside MODEL_ZOO.md on the site."""
    del page, config, files
    return re.sub(
        r"\]\(\.\./(?=gin_configs/|" + "|".join(map(re.escape, PAGES)) + ")", "](", markdown
    )


def describe_commands():
    """Markdown of the verbs: how each is used, and its flags."""
    parts = [
        "# Commands\n\nFrom a checkout `python tools/train.py` is `csml-tf train`, and so for "
        "every verb. `--help` says the same as this page.\n"
    ]
    for path in sorted((ROOT / "csml_tf" / "verbs").glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        summary, _, usage = ast.get_docstring(tree).partition("\n\n")
        parts.append(f"## {path.stem}\n\n{summary}\n")
        if usage:
            parts.append(f"```\n{usage}\n```\n")
        parts.append("| flag | kind | default | |\n|---|---|---|---|")
        parts.extend(_describe_flag(call) for call in _flag_definitions(tree))
        parts.append("")
    return "\n".join(parts)


def _flag_definitions(tree):
    for node in ast.walk(tree):
        name = getattr(getattr(node, "func", None), "attr", "")  # `DEFINE_string` of a call.
        if name.startswith("DEFINE_"):
            yield node


def _describe_flag(call):
    kind = call.func.attr.removeprefix("DEFINE_")
    *_, text = call.args if len(call.args) > 2 else (*call.args, ast.Constant(""))
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    name = ast.literal_eval(call.args[0])
    default = "required" if "required" in words else f"`{ast.unparse(call.args[1])}`"
    help_text = ast.unparse(words.get("help", text)).strip("'\"")
    return f"| `--{name}` | {kind.replace('_', ' ')} | {default} | {_cell(help_text)} |"


def describe_knobs():
    """Markdown of the knobs in each recipe's base: name, value, and what the recipe says of it."""
    parts = [
        "# Knobs\n\nA recipe's knobs are its names in capitals: `--gin_bindings='EPOCHS = 20'` in "
        "a command, `epochs=20` in Python. Below is what each file of settings sets; a recipe "
        "includes some of them, and changes what differs.\n"
    ]
    names = [
        "photos.gin",
        *(f"base/{path.name}" for path in sorted((ROOT / "gin_configs/base").iterdir())),
    ]
    for name in names:
        lines = (ROOT / "gin_configs" / name).read_text(encoding="utf-8").splitlines()
        rows = [found.groups() for found in map(_KNOB.match, lines) if found]
        if not rows:
            continue
        parts.append(f"## [{name}](gin_configs/{name})\n\n{_header(lines)}\n")
        parts.append("| knob | value | |\n|---|---|---|")
        parts.extend(
            f"| `{knob}` | `{value}` | {_cell(text or '')} |" for knob, value, text in rows
        )
        parts.append("")
    return "\n".join(parts)


def _header(lines):
    """The first paragraph of a recipe's comments, as a sentence."""
    words = []
    for line in lines:
        if not line.startswith("#") or line == "#":
            break
        words.append(line.lstrip("# "))
    return " ".join(words)


def _cell(text):
    return text.replace("|", "\\|")
