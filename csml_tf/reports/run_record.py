"""What the files of a run say about it, in words: how far it is, what it was made with."""

import ast
import dataclasses

from csml_tf import amounts, code_version
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.training import run_directory
from csml_tf.training.share_of_epochs import share_of_epochs

_NOT_RECORDED = "not recorded: begun with an older csml_tf"
# What stands behind a word on the page.
_NETWORK = {
    "backbone": "make_backbone.name",
    "ResNet": "make_resnet.depth",
    "width": "make_resnet.width",
    "stem": "make_resnet.stem",
    "image size": "CenterView.image_size",
}
_SETTINGS = {
    "batch": "pretrain.global_batch_size",
    "learning rate per 256 images": "pretrain.learning_rate_per_256_images",
    "seed": "pretrain.seed",
    "precision": "pretrain.precision",
}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run as its directory describes it.

    Attributes:
        directory: `RunDirectory`.
        rows: list of dicts, the lines of `metrics.jsonl`, at least one.
        settings: {name: value as it is written in `config.gin`}.
        notes: {"Recipe", "Data set", "Code": text}, those that are there.
        card: dict of the SavedModel; {} without one.
    """

    directory: run_directory.RunDirectory
    rows: list
    settings: dict
    notes: dict
    card: dict

    @property
    def name(self):
        """Of the run, which is that of its folder."""
        return self.directory.path.resolve().name

    @property
    def dataset(self):
        """The data set string that it was trained with."""
        return self.setting("DATASET")

    def setting(self, name):
        """A value of `config.gin`, that of a macro where one stands; None where there is none."""
        text = self.settings.get(name)
        while text is not None and text.startswith("%"):
            name = text[1:]
            text = self.settings.get(name)
        if text == "@share_of_epochs()":
            # Gin writes down what a macro's call was made with under the macro's name.
            call = f"{name}/share_of_epochs"
            return share_of_epochs(self.setting(f"{call}.epochs"), self.setting(f"{call}.share"))
        try:
            return None if text is None else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text  # A reference such as @CsMl.

    def progress(self):
        """How far it is, in a few words."""
        done, planned = self.rows[-1]["epoch"], self.setting("pretrain.epochs")
        if planned is None or done >= planned:
            return f"finished after {amounts.count(done, 'epoch')}"
        return f"in progress or stopped: {done} of {amounts.count(planned, 'epoch')} done"

    def knn(self):
        """(epoch, top-1 in [0, 1], protocol as text) of the newest kNN figure, or None."""
        for row in reversed(self.rows):
            if row.get("knn_top1") is not None:
                return row["epoch"], row["knn_top1"], row.get("knn_protocol", "")
        return None

    def facts(self):
        """[(name, text)] that identify the run, for a table."""
        newest = self.rows[-1]
        facts = [
            ("recipe", self.notes.get("Recipe", _NOT_RECORDED)),
            ("data set", f"{self.dataset} (fingerprint {self.setting('DATA_FINGERPRINT')})"),
            ("code", self._code()),
            ("progress", f"{self.progress()}, {newest['step']:,} steps"),
            ("time", f"{describe_seconds(self._seconds())}, mining and measuring included"),
            ("network", self._list(_NETWORK)),
            ("settings", self._list(_SETTINGS)),
        ]
        return [(name, text) for name, text in facts if text]

    def _list(self, names):
        """Those of the settings that are there, in a line."""
        values = {word: self.setting(name) for word, name in names.items()}
        return ", ".join(f"{word} {value}" for word, value in values.items() if value is not None)

    def _seconds(self):
        return sum(row.get("seconds", 0.0) for row in self.rows)

    def _code(self):
        """Version and commit that it began with, and those of the export where they differ."""
        begun = code_version.shorten(self.notes.get("Code", _NOT_RECORDED))
        if "csml_tf" not in self.card:
            return begun
        commit = self.card.get("commit") or "unknown"
        ended = code_version.shorten(f"csml_tf {self.card['csml_tf']}, commit {commit}")
        return begun if ended == begun else f"{begun} at the start; {ended} at the end"


def read(model_dir):
    """Reads a run.

    Args:
        model_dir: its directory; it may be in progress.

    Returns:
        `RunRecord`.

    Raises:
        InputError: if there is no run, none of its epochs is finished, or a file of it is
            damaged.
    """
    directory = run_directory.find(model_dir)
    rows = directory.read_metrics()
    if not rows:
        raise InputError(
            f"The run in {model_dir} has no finished epoch yet, its metrics.jsonl is empty or "
            "missing: let csml-tf train finish one."
        )
    card = saved_model.read_card(directory.saved_model)
    return RunRecord(directory, rows, directory.read_settings(), directory.read_notes(), card)


def describe_seconds(seconds):
    """Seconds in the two largest units that it has: "2 h 5 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
