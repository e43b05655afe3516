"""The card of a measurement: all that has to be said beside its figure."""

import dataclasses
import json
import os
import pathlib
import platform

import numpy as np
import tensorflow as tf

from csml_tf import places, whole_files
from csml_tf.errors import InputError
from csml_tf.evaluation import baselines
from csml_tf.training import plan

# What names a share of something, shown in percent.
_SHARES = ("top", "accuracy", "recall", "map")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a protocol returns.

    Attributes:
        settings: {name: plain value} in effect, defaults included.
        result: {name: number, text or list}; accuracies are in [0, 1].
        files: {end of the name: text}, to be written beside the card.
        notes: sentences about the result.
    """

    settings: dict
    result: dict
    files: dict = dataclasses.field(default_factory=dict)
    notes: tuple = ()


@dataclasses.dataclass(frozen=True)
class ProtocolCard:
    """One measurement of one encoder.

    Attributes:
        protocol: name, as of `--protocol`.
        encoder: {"id", "directory", "sha256" of the weights, "sha256_after" the measurement}.
        data: {role: as of `describe_source`}.
        settings: as of `Outcome`.
        result: as of `Outcome`.
        seconds: of the measurement, extraction included.
        files: as of `Outcome`.
        notes: as of `Outcome`.
        hardware: text.
        tensorflow: version.
    """

    protocol: str
    encoder: dict
    data: dict
    settings: dict
    result: dict
    seconds: float
    files: dict = dataclasses.field(default_factory=dict, repr=False)
    notes: tuple = ()
    hardware: str = dataclasses.field(default_factory=lambda: describe_hardware())
    tensorflow: str = tf.__version__

    def headline(self):
        """The result and its whole protocol in one line."""
        numbers = [
            f"{_words(name)} {_figure(name, value)}"
            for name, value in self.result.items()
            if not isinstance(value, (list, dict))
        ]
        settings = [f"{name}={_plain(value)}" for name, value in self.settings.items()]
        data = [f"{role}: {d['name']}, {d['images']} images" for role, d in self.data.items()]
        classes = dict.fromkeys(_classes(d) for d in self.data.values() if d.get("classes"))
        data += [f"{each} classes" if each.isdigit() else f"classes {each}" for each in classes]
        result = " ".join([self.protocol, ", ".join(numbers)]).strip()
        return f"{result} ({', '.join(settings)}; {'; '.join(data)}; {self.seconds:.1f} s)"

    def text(self):
        """The card for people: a line for each fact, a table for each list of rows."""
        lines = [f"protocol    {self.protocol}"]
        lines += [f"encoder     {self.encoder['id']}", f"weights     {self.encoder['sha256']}"]
        if "sha256_after" in self.encoder:
            lines.append(f"  afterwards {self.encoder['sha256_after']}")
        for role, data in self.data.items():
            shown = {**data, "classes": _classes(data)}
            kept = [name for name in shown if name not in ("name", "class_names")]
            facts = ", ".join(f"{name} {shown[name]}" for name in kept)
            lines.append(f"{role:<11} {data['name']} ({facts})")
        lines += [f"  {name} = {_plain(value)}" for name, value in self.settings.items()]
        lines += [
            f"{_words(name)}: {_figure(name, value)}"
            for name, value in self.result.items()
            if not _is_table(value)
        ]
        lines += [*self._tables(), *self.notes]
        lines.append(f"{self.seconds:.1f} s on {self.hardware}, TensorFlow {self.tensorflow}")
        return "\n".join(lines) + "\n"

    def summary(self):
        """The tables and the notes of the result, if it has any, and the headline."""
        return "\n".join([*self._tables(), *self.notes, self.headline()])

    def figure(self):
        """The result in a word or two, for a cell of a table: its first number.

        Those of baselines do not count: they are others' results.
        """
        for name, value in self.result.items():
            if isinstance(value, float) and not name.startswith(tuple(baselines.NAMES)):
                return _figure(name, value)
        tables = {name: value for name, value in self.result.items() if _is_table(value)}
        return ", ".join(f"{name} of {len(rows)}" for name, rows in tables.items())

    def save(self, path):
        """Writes the card as JSON to `path`, and as text beside it, as well as its files.

        Those of `card.json` are called `card.txt` and, for example, `card.labels.json`.

        Raises:
            InputError: if a file cannot be written.
        """
        files = {f"{pathlib.Path(path).stem}.{name}": text for name, text in self.files.items()}
        _save(path, self._plain(files), self.text(), files)

    def _plain(self, files):
        return {**dataclasses.asdict(self), "files": list(files)}

    def _tables(self):
        return [
            line
            for name, value in self.result.items()
            if _is_table(value)
            for line in (_words(name), *align(value))
        ]


def save_all(cards, path):
    """Writes several cards as one JSON list, and as texts beside it, as `ProtocolCard.save`.

    The files of the second card are called `cards.2.labels.json`, for example.
    """
    stem = pathlib.Path(path).stem
    files = [
        {f"{stem}.{number}.{name}": text for name, text in card.files.items()}
        for number, card in enumerate(cards, start=1)
    ]
    plain = [card._plain(own) for card, own in zip(cards, files)]
    texts = "\n".join(card.text() for card in cards)
    _save(path, plain, texts, {name: text for own in files for name, text in own.items()})


def check_path(path):
    """Raises `InputError` unless a card can be saved there: before the measuring, not after."""
    if places.is_url(path):  # A store has no folders that would have to exist.
        if places.is_folder(path):
            raise InputError(f"{path} is a folder: name a file in it.")
        return
    path = pathlib.Path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: name a file in a folder that exists.")


def describe_source(source):
    """The entry of a card's `data`.

    Returns:
        {"name", "images", "classes": how many, None without labels, "fingerprint"}, and
        "class_names" where they are known and fewer than 13.
    """
    classes = () if source.labels is None else np.unique(source.labels[source.labels >= 0])
    entry = {
        "name": source.name,
        "images": len(source),
        "classes": None if source.labels is None else len(classes),
        "fingerprint": source.fingerprint,
    }
    if 0 < len(classes) <= plan.NAMED_CLASSES and source.class_names is not None:
        entry["class_names"] = [source.class_names[number] for number in classes]
    return entry


def describe_hardware():
    """The devices that TensorFlow sees, in words."""
    accelerators = [
        tf.config.experimental.get_device_details(device).get("device_name", device.device_type)
        for kind in ("GPU", "TPU")
        for device in tf.config.list_physical_devices(kind)
    ]
    host = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    return ", ".join([*accelerators, host])


def _classes(data):
    """Of an entry of `data`: "3: ant, bee, fly", or "13"."""
    names = ", ".join(data.get("class_names", ()))
    return f"{data['classes']}: {names}" if names else str(data.get("classes"))


def _words(name):
    return name.replace("_", " ")


def _figure(name, value):
    if isinstance(value, list) and value and isinstance(value[0], list):
        return f"{len(value)} rows, in the JSON file"
    if isinstance(value, float) and any(word in name for word in _SHARES):
        return f"{value:.2%}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value):
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _is_table(value):
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def align(rows):
    """Dicts of the same keys as the lines of a table: the keys, then the rows, aligned."""
    cells = [list(rows[0]), *([_figure(name, row[name]) for name in rows[0]] for row in rows)]
    widths = [max(len(str(row[i])) for row in cells) for i in range(len(cells[0]))]
    return ["  " + "  ".join(f"{c!s:>{w}}" for c, w in zip(row, widths)) for row in cells]


def _save(path, plain, text, files):
    path = places.at(path)
    try:
        whole_files.write(path, json.dumps(plain, indent=2, default=float) + "\n")
        whole_files.write(path.with_suffix(".txt"), text)
        for name, content in files.items():
            whole_files.write(path.with_name(name), content)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}).") from error
