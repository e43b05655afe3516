"""The tables of MODEL_ZOO.md, from the zoo's registry and its results."""

import re

from csml_tf import places, whole_files
from csml_tf.errors import InputError
from csml_tf.zoo import registry, results

PAGE = "MODEL_ZOO.md"
_NOT_TRAINED = "recipe, not trained yet"


def update(folder):
    """Writes the tables anew into the page that has their markers.

    Args:
        folder: that of MODEL_ZOO.md.

    Returns:
        One line that says what was done.

    Raises:
        InputError: if the page is missing, has not all markers, or cannot be written.
    """
    path = places.at(folder, PAGE)
    try:
        page = path.read_text(encoding="utf-8")
        changed = fill_in(page)
        whole_files.write(path, changed)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read and written ({error.strerror}): --output is its folder."
        ) from error
    return f"{path}: the tables are {'as they were' if changed == page else 'written anew'}"


def fill_in(page, entries=None, measured=None):
    """The page with its tables as the registry and the results have them.

    A table stands between `<!-- NAME: ... -->` and `<!-- end of NAME -->`, NAME being
    recipes, encoders or measurements; all else stays.

    Args:
        page: text in Markdown.
        entries: `Entry`s; default: the zoo's.
        measured: `Result`s; default: the zoo's.

    Returns:
        text.

    Raises:
        InputError: if a table has no place in the page.
    """
    entries = registry.ENTRIES if entries is None else entries
    measured = results.read() if measured is None else measured
    tables = {
        "recipes": recipes_table(entries, measured),
        "encoders": encoders_table(entries, measured),
        "measurements": measurements_table(measured),
    }
    for name, table in tables.items():
        markers = rf"(<!-- {name}:[^\n]* -->\n).*?(<!-- end of {name} -->)"
        page, places = re.subn(
            markers, lambda m, table=table: f"{m[1]}{table}{m[2]}", page, flags=re.DOTALL
        )
        if places != 1:
            raise InputError(
                f"{PAGE} has {places} places for the table {name!r}: put one pair of lines "
                f"'<!-- {name}: ... -->' and '<!-- end of {name} -->' into it."
            )
    return page


def recipes_table(entries, measured):
    """All recipes, the paper's number beside ours."""
    rows = [
        (_link(e.id), e.method, e.network, e.data, e.published, _with_this_code(e, measured))
        for e in entries
    ]
    head = ("recipe", "method", "network", "data", "published result", "with this code")
    return _table(head, rows)


def encoders_table(entries, measured):
    """The encoders that `load_model` opens."""
    rows = []
    for entry in entries:
        archive = entry.archive
        if archive is None:
            continue
        kinds = {
            kind: "<br>".join(
                f"{results.summary(r.encoder)}: {r.protocol}"
                for r in measured
                if (r.id, r.bindings, r.kind) == (entry.id, archive.bindings, kind)
            )
            or "not measured"
            for kind in results.KINDS
        }
        rows.append(
            (
                f"`{entry.id}`",
                _recipe(entry.id, archive.bindings),
                f"{archive.hardware}, {archive.hours:g} h",
                kinds["knn"],
                kinds["linear"],
                f"`{archive.commit[:10]}`",
                f"`{archive.sha256}`, {archive.num_bytes / 1e6:.1f} MB",
                archive.licence,
            )
        )
    if not rows:
        return "No pretrained encoder is distributed yet.\n"
    head = (
        *("id", "recipe", "hardware and hours", "kNN top-1", "linear top-1"),
        *("commit", "sha256 and size of the file", "licence"),
    )
    return _table(head, rows)


def measurements_table(measured):
    """Every result with its whole protocol."""
    rows = [
        (
            _recipe(r.id, r.bindings),
            r.protocol,
            *(results.summary(top1) for top1 in (r.encoder, r.untrained, r.raw_pixels)),
        )
        for r in measured
    ]
    return _table(("recipe and bindings", "protocol", "encoder", "untrained", "raw pixels"), rows)


def _with_this_code(entry, measured):
    """The recipe's last cell: what was measured at full size, else that it was not."""
    bindings = () if entry.archive is None else entry.archive.bindings
    at_full_size = [
        f"{r.kind.replace('knn', 'kNN')} top-1 {results.summary(r.encoder)}"
        for r in measured
        if (r.id, r.bindings) == (entry.id, bindings)
    ]
    parts = at_full_size or [_NOT_TRAINED]
    if entry.archive is not None:
        changed = f" ({_code(bindings)})" if bindings else ""
        parts.insert(0, f'`load_model("{entry.id}")`{changed}')
    others = [r.bindings for r in measured if r.id == entry.id and r.bindings != bindings]
    parts += [f"with {_code(changed)}: see below" for changed in dict.fromkeys(others)]
    return "; ".join(parts)


def _recipe(name, bindings):
    return ", ".join([_link(name), *([_code(bindings)] if bindings else [])])


def _link(name):
    return f"[`{name}`](gin_configs/{name}.gin)"


def _code(bindings):
    return ", ".join(f"`{binding}`" for binding in bindings)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
