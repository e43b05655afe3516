"""The model card: what a set of weights is, where it comes from, how to use it.

One dict of plain values, whoever writes it: the end of a run, `csml-tf export` or the zoo.
It lies beside the weights as JSON, and as `README.md` for people. Its entries, of which a
model from elsewhere may lack some:

    id, format, precision   what it is
    recipe                  {knob: value}, as of `config.gin`
    data                    name of the training images
    data_fingerprint        digest that tells them from others
    epochs                  how long
    trained_by              version and commit that the training began with
    csml_tf, commit         those that exported it
    command                 that trains it again
    curve                   list of {"epoch", "loss"}, with "knn_top1" where it was measured
    metrics                 list of {"name", "value", "protocol"}
    image_size, resize_size pixels of the view it was trained for, and of the shorter side before
                            the cut
    feature_dim             length of the features
    mean, std               of each channel in [0, 1], where the user has to normalise by them
    arch                    torchvision's name, "resnet50"
    opens_in_keras_3        whether a Keras file does
    outputs                 what an ONNX file returns, in words
    licence                 of the weights, or "not stated"
    parity                  how far an export is from the model that it was made of
    bytes, files            size of all, and of each its path, bytes and sha256
"""

import json
import pathlib

from csml_tf import places, whole_files
from csml_tf.errors import InputError
from csml_tf.export import site_card, usage
from csml_tf.value_rules import each, fields, number, text, whole

# SavedModel's own place for files that are not part of the graph.
EXTRA_ASSETS = pathlib.Path("assets.extra")
NOT_STATED = "not stated"
_NAME = "csml_tf.json"
_README = "README.md"
_SHOWN = 60  # Characters of a wrong value.
_ENTRIES = {
    **dict.fromkeys(("id", "format", "precision", "data", "data_fingerprint"), text()),
    **dict.fromkeys(("trained_by", "csml_tf", "commit", "command", "licence"), text()),
    **dict.fromkeys(("image_size", "resize_size", "feature_dim"), whole(1)),
    **dict.fromkeys(("epochs", "batches_tracked"), whole(0)),
    "recipe": fields({}),
    "curve": each(fields({"epoch": number(), "loss": number()}, {"knn_top1": number()})),
    "metrics": each(fields({"name": text(), "value": number(), "protocol": text()})),
    "parity": fields({"text": text()}),
}


def write(folder, card):
    """Writes the card of the files in a folder, as JSON and as README.md.

    Args:
        folder: that holds the model, and nothing else.
        card: dict of plain values; sizes and checksums of the files are added to it. A
            "saved_model" keeps the JSON in its `assets.extra/`.
    """
    folder = pathlib.Path(folder)
    path = folder / _NAME
    if card.get("format") == "saved_model":
        path = folder / EXTRA_ASSETS / _NAME
        path.parent.mkdir(exist_ok=True)
    files = describe_files(folder)
    card = {"licence": NOT_STATED, **card, "bytes": sum(f["bytes"] for f in files), "files": files}
    path.write_text(json.dumps(card, indent=2, default=str) + "\n", encoding="utf-8")
    (folder / _README).write_text(describe(card), encoding="utf-8")


def read(folder):
    """The card of a folder, or {} where there is none.

    Raises:
        InputError: if it is damaged, or an entry is not what it should be.
    """
    for path in (places.at(folder, EXTRA_ASSETS, _NAME), places.at(folder, _NAME)):
        if path.exists():
            try:
                card = json.loads(path.read_text(encoding="utf-8"))
                json.dumps(card, ensure_ascii=False).encode()  # Half a surrogate is no text.
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(
                    f"The model card in {path} is no JSON ({error}): export the model again."
                ) from error
            _check(card, path)
            # What somebody has set to nothing is what is not there.
            return {name: value for name, value in card.items() if value is not None}
    return {}


def _check(card, path):
    """Raises `InputError` unless all entries that are known have their types."""
    advice = f"mend the model card in {path}, or delete it to go without"
    if not isinstance(card, dict):
        raise InputError(f"The model card is no JSON object: {advice}.")
    for name, rule in _ENTRIES.items():
        wanted = rule(card[name]) if card.get(name) is not None else None
        if wanted:
            value = repr(card[name])
            raise InputError(f"The card's {name} must be {wanted}, got {value[:_SHOWN]}: {advice}.")


def metric(name, value, protocol):
    """An entry of a card's "metrics".

    Args:
        name: of the figure, such as "kNN top-1".
        value: float; accuracies are in [0, 1].
        protocol: in words, all that the figure depends on.
    """
    return {"name": name, "value": value, "protocol": protocol}


def describe_files(folder):
    """[{"path", "bytes", "sha256"}] of the files below a folder, cards left out."""
    folder = pathlib.Path(folder)
    return [
        {
            "path": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": whole_files.sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (_NAME, _README)
    ]


def describe(card):
    """The card for people, in Markdown."""
    name, licence = card.get("id", "encoder"), card.get("licence", NOT_STATED)
    lines = []
    if card.get("format") in site_card.FORMATS:
        stated = None if licence == NOT_STATED else licence
        data, metrics = card.get("data", "not recorded"), card.get("metrics") or []
        lines += [*site_card.front_matter(card["format"], stated, name, data, metrics), ""]
    lines += [f"# {name}", ""]
    lines += ["An image encoder, pretrained without labels by csml_tf.", "", *usage.describe(card)]
    lines += ["## What goes in and comes out", "", _describe_images(card), ""]
    lines += ["## What it is", "", "| | |", "|---|---|"]
    lines += [f"| {row} | {value} |" for row, value in _facts(card)]
    lines += ["", "## How good it is", ""]
    metrics = card.get("metrics") or []
    lines += [f"* {m['name']} {m['value']:.2%} ({m['protocol']})" for m in metrics]
    lines += [] if metrics else ["Not measured."]
    if card.get("curve"):
        lines += ["", "| after epoch | loss | kNN top-1 |", "|---|---|---|"]
        lines += [_describe_epoch(row) for row in card["curve"]]
    if card.get("parity"):
        lines += ["", "## Beside the model that it was made of", "", f"{card['parity']['text']}."]
    if card.get("command"):
        lines += ["", "## To train it again", "", "```", card["command"], "```"]
    if card.get("recipe"):
        lines += ["", "## Recipe", "", "```"]
        lines += [f"{knob} = {value!r}" for knob, value in card["recipe"].items()] + ["```"]
    lines += ["", "## Files", "", "| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| `{f['path']}` | {f['bytes']:,} | `{f['sha256']}` |" for f in card["files"]]
    return "\n".join(lines) + "\n"


def _describe_images(card):
    size, resize = card.get("image_size"), card.get("resize_size")
    features = f"Pooled features, float32, [batch, {card.get('feature_dim', 'feature_dim')}]."
    if "mean" in card:
        text = (
            "RGB images whose values in [0, 1] have been normalised: less the mean "
            f"{card['mean']}, divided by the deviation {card['std']} of each channel. "
            f"`config.json` says it to timm and KerasHub; the network does not do it. {features}"
        )
    else:
        text = (
            "RGB images, float32 in [0, 1], [batch, height, width, 3]; normalisation is inside. "
            f"{features}"
        )
    if card.get("format") == "tflite":
        return f"{text} The model has one size of image, {size} × {size} px; any batch."
    if size is None:
        return text
    return (
        f"{text} Any size from 32 px up. Trained for {size} px; measured on images whose shorter "
        f"side was scaled to {resize or size} px (bilinear, antialiased), centre {size} px."
    )


def _describe_epoch(row):
    accuracy = f"{row['knn_top1']:.2%}" if "knn_top1" in row else ""
    return f"| {row['epoch']} | {row['loss']:.4g} | {accuracy} |"


def _facts(card):
    """[(name, text)] of what is known."""
    code = f"csml_tf {card['csml_tf']}" if "csml_tf" in card else "not recorded"
    data = card.get("data", "not recorded")
    if "data_fingerprint" in card:
        data += f" (fingerprint {card['data_fingerprint']})"
    return [
        ("id", card.get("id", "not recorded")),
        ("format", f"{card.get('format', 'saved_model')}, {card.get('precision', 'float32')}"),
        ("trained on", data),
        ("epochs", card.get("epochs", "not recorded")),
        ("trained by", card.get("trained_by", "not recorded")),
        ("exported by", f"{code}, commit {card.get('commit') or 'unknown'}"),
        ("size", f"{card['bytes']:,} bytes"),
        ("licence of the weights", card.get("licence", NOT_STATED)),
    ]
