"""A folder of parts, by which an extraction that was stopped goes on."""

import contextlib
import json
import pathlib
import tempfile

from csml_tf import places, whole_files
from csml_tf.errors import InputError

_CARD = "extraction.json"
# What a folder was made with, in the words of the sentence that refuses another.
_WORDS = {
    "model_sha256": "of another model",
    "layer": "of another layer",
    "view": "of images prepared otherwise",
    "precision": "computed in other numbers",
    "images_fingerprint": "of other images",
    "part_images": "of parts of another size",
    "format": "in another format",
}


# What older cards do not say.
_UNSAID = {"precision": "float32"}


class PartFolder:
    """Files `part-00000-of-00012.npz` and so on, and `extraction.json`: of what they are.

    Part i holds the images from `i * part_images` on. A part is there or not, never half.

    Args:
        path: of the folder; made when missing.
        file_format: `files.NpzFile` or `files.ParquetFile`.
        card: dict of what decides the features; "num_images" and "part_images" among it.

    Raises:
        InputError: if the folder cannot be made, holds something else, or was begun with
            another card.
    """

    def __init__(self, path, file_format, card):
        self.path = places.at(path)
        self.part_images = card["part_images"]
        self.num_parts = -(-card["num_images"] // self.part_images)
        self._format = file_format
        self._card = card
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The folder {path} cannot be made ({error.strerror or error}): choose another "
                "--output."
            ) from error

    def claim(self):
        """Writes `extraction.json`, or checks that the one in the folder says the same.

        Raises:
            InputError: if the folder holds something else, or was begun with another card.
        """
        path = self.path / _CARD
        if not path.exists():
            if any(entry.name != "lock" for entry in self.path.iterdir()):
                raise InputError(
                    f"{self.path} holds other files, and no {_CARD}: choose another --output."
                )
            whole_files.write(path, json.dumps(self._card, indent=2) + "\n")
            return
        try:
            there = json.loads(path.read_text())
            there["part_images"]  # A card of ours has it.
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise InputError(f"{path} is damaged: delete the folder {self.path}.") from error
        refuse_another(there, self._card, self.path)

    def file(self, number):
        """The path of a part, whether it is there or not."""
        name = f"part-{number:05d}-of-{self.num_parts:05d}{self._format.suffix}"
        return self.path / name

    def files(self):
        """The paths of all parts, in order."""
        return [self.file(number) for number in range(self.num_parts)]

    @contextlib.contextmanager
    def on_disk(self):
        """Within it all parts, which are there, are files on this machine: yields their paths."""
        if not places.is_url(self.path):
            yield self.files()
            return
        with tempfile.TemporaryDirectory(prefix="csml_tf_parts_") as folder:
            copies = [pathlib.Path(folder, file.name) for file in self.files()]
            for file, copy in zip(self.files(), copies):
                file.download(copy)
            yield copies

    def count_finished(self):
        """How many parts are there, from the first one on and without a gap."""
        missing = (number for number, file in enumerate(self.files()) if not file.exists())
        return next(missing, self.num_parts)

    def finish(self, card):
        """Writes `extraction.json` anew, with what is known when all parts are there."""
        whole_files.write(self.path / _CARD, json.dumps(card, indent=2) + "\n")

    def save(self, number, rows):
        """Writes a part."""
        self._format.write(self.file(number), rows, self._card)


def refuse_another(there, here, path):
    """Compares two cards.

    Args:
        there: card of what lies at `path`.
        here: card of what would be written there.
        path: of the file or folder.

    Raises:
        InputError: if their features would not be the same.
    """
    for name, words in _WORDS.items():
        found = there.get(name, _UNSAID.get(name))
        if found != here[name]:
            raise InputError(
                f"{path} holds features {words} ({name} is {found} there and {here[name]} here): "
                "choose another --output, or delete it."
            )
