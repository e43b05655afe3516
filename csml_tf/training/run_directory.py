"""The folder of a run: what lies where, and to which recipe it belongs."""

import ast
import json
import pathlib
import re

from absl import logging

from csml_tf import code_version, whole_files
from csml_tf.errors import InputError

# Tells the images of a run from others; beside the recipe's settings in config.gin.
_FINGERPRINT = "DATA_FINGERPRINT"
# What a run may change on the way, because it changes no result.
_FREE_SETTINGS = ("CHECKPOINT_EVERY_STEPS", "pretrain.checkpoint_every_steps")
# What it may raise: the run then goes on, on the schedule of the longer one.
_EPOCHS = ("EPOCHS", "pretrain.epochs")
# A comment that says something about the run: "# Recipe: r50.gin".
_NOTE = re.compile(r"^# ([A-Z][\w ]*): (.+)$", re.MULTILINE)


def find(path):
    """The directory of a run that exists.

    Args:
        path: of the folder.

    Returns:
        `RunDirectory`.

    Raises:
        InputError: if there is no run in it.
    """
    if not pathlib.Path(path, "config.gin").is_file():
        raise InputError(
            f"There is no run in {path}, which has no config.gin: give --model_dir a "
            "folder that csml-tf train has written."
        )
    return RunDirectory(path)


def settings_of_earlier(path):
    """`RunDirectory.read_settings` of a run that may or may not be there; {} without one."""
    config = pathlib.Path(path, "config.gin")
    return _settings(config.read_text()) if config.is_file() else {}


class RunDirectory:
    """`config.gin`, `checkpoints/`, `tensorboard/`, `metrics.jsonl`, `saved_model/`.

    Args:
        path: of the folder; made when missing.

    Raises:
        InputError: if the folder cannot be made.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.gin"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics = self.path / "metrics.jsonl"
        self.saved_model = self.path / "saved_model"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The run directory {path} cannot be made ({error.strerror}): "
                "choose another with --model_dir."
            ) from error

    def claim(self, config_text, source):
        """Writes the run's configuration, or checks that it is the one already here.

        A comment, "# Code: ...", says which version and commit the run began with.

        Args:
            config_text: the settings, one `name = value` per line; lines that begin
                with "#" do not count. How often checkpoints are written may change, and the
            number of epochs may grow.
            source: `sources.base.ImageSource` of the training images.

        Raises:
            InputError: if the folder holds a run with other settings, and names the first,
                or on other images.
        """
        config_text = f"{config_text.rstrip()}\n{_FINGERPRINT} = {source.fingerprint!r}\n"
        there = _settings(self.config.read_text()) if self.config.exists() else None
        here = _settings(config_text)
        if there == here:
            return
        if there is not None:
            there = _with_more_epochs(there, here)
        if there is None or _what_counts(there) == _what_counts(here):
            code = self.read_notes().get("Code") or code_version.describe()
            whole_files.write(self.config, f"# Code: {code}\n{config_text}")
            return
        there, here = _what_counts(there), _what_counts(here)
        names = [n for n in sorted({*there, *here}) if there.get(n) != here.get(n)]
        # Another DATASET has other images, too.
        names.sort(key=lambda n: n == _FINGERPRINT)
        if names == [_FINGERPRINT] and _FINGERPRINT in there:
            raise InputError(
                f"The images of {source.name} have changed since the run in {self.path} began "
                f"(fingerprint {there[_FINGERPRINT]} then and {here[_FINGERPRINT]} now): bring "
                "the old ones back, or choose another --model_dir."
            )
        name = names[0]
        raise InputError(
            f"{self.path} belongs to a run with other settings ({name} is "
            f"{there.get(name, 'not set')} there and {here.get(name, 'not set')} here): choose "
            "another --model_dir, or repeat the command with the settings in its config.gin."
        )

    def read_settings(self):
        """{name: value} of `config.gin`, values as they are written there."""
        return _settings(self.config.read_text())

    def read_notes(self):
        """{name: text} of the comments "# Name: text" in `config.gin`: recipe, data set, code."""
        return dict(_NOTE.findall(self.config.read_text())) if self.config.exists() else {}

    def read_metrics(self):
        """The rows of `metrics.jsonl`, one dict per finished epoch.

        A last line that was cut off, by a crash or a full disk, does not count: the
        checkpoint comes after the row, so that epoch is done again.
        """
        rows = []
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise InputError(
                        f"Line {number} of {self.metrics} is no JSON ({error.msg}): mend or "
                        "delete it."
                    ) from error
        return rows

    def dataset(self):
        """The data set string that the run was started with."""
        return ast.literal_eval(_settings(self.config.read_text())["DATASET"])

    def summary(self):
        """One line about a finished run."""
        row = self.read_metrics()[-1]
        knn = (
            f", kNN top-1 {row['knn_top1']:.2%} ({row['knn_protocol']})"
            if "knn_top1" in row
            else ""
        )
        return (
            f"{self.path}: {row['epoch']} epochs, loss {row['loss']:.3f}{knn}; "
            f"the encoder is in {self.saved_model}"
        )

    def drop_metrics_after(self, finished_epochs):
        """Removes the rows of epochs that a resumed run will do again."""
        kept = [row for row in self.read_metrics() if row["epoch"] <= finished_epochs]
        whole_files.write(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def append_metrics(self, row):
        """Adds one epoch's row to `metrics.jsonl`."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _with_more_epochs(there, here):
    """The settings of a run, with the epochs of now where these are more; logs them."""
    raised = {}
    for name in _EPOCHS:
        before, after = there.get(name, ""), here.get(name, "")
        if before.isdigit() and after.isdigit() and int(after) > int(before):
            raised[name] = after
            logging.info(
                "%s is raised from %s to %s: the run goes on with the learning rates that a run of "
                "%s epochs has there, higher than its last ones. To begin anew from its encoder "
                "instead: another --model_dir, and --init_from.",
                *(name, before, after, after),
            )
    return {**there, **raised}


def _what_counts(settings):
    return {name: value for name, value in settings.items() if name not in _FREE_SETTINGS}


def _settings(config_text):
    """Lines of "name = value" -> {name: value}; gin continues long values on further lines."""
    joined = config_text.replace("\\\n", " ")
    settings = {}
    name = None
    for line in joined.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if " = " in line and not line.startswith((" ", ")", "]", "}")):
            name, value = line.split(" = ", 1)
            settings[name.strip()] = value.strip()
        elif name is not None:
            settings[name.strip()] += " " + line.strip()
    return settings
