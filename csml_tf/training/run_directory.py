"""The folder of a run: what lies where, and to which recipe it belongs."""

import ast
import contextlib
import json
import re

from absl import logging

from csml_tf import amounts, code_version, errors, places, whole_files
from csml_tf.errors import InputError

# Tells the images of a run from others; beside the recipe's settings in config.gin.
_FINGERPRINT = "DATA_FINGERPRINT"
# What a run may change on the way: how it computes and what it measures, nothing that it learns.
_FREE_SETTINGS = (
    *("CHECKPOINT_EVERY_STEPS", "pretrain.checkpoint_every_steps"),
    *("JIT_COMPILE", "pretrain.jit_compile", "AUGMENT_ON", "pretrain.augment_on"),
    *("MONITOR_EVERY_EPOCHS", "KnnMonitor.every_epochs", "MONITOR_LAYER", "KnnMonitor.layer"),
    *("LINEAR_EVERY_EPOCHS", "LinearMonitor.every_epochs", "LinearMonitor.layer"),
    *("KnnEvaluation.k", "KnnEvaluation.temperature", "LinearEvaluation.l2"),
    *("APPROXIMATE_MINING_FROM", "NeighborRefresh.approximate_from"),
)
# Where something lies, and what tells whether it is the same in another place.
_PLACES = {
    "DATASET": _FINGERPRINT,
    "INIT_FROM": "INIT_FINGERPRINT",
    "MINE_WITH": "MINE_WITH_FINGERPRINT",
}
# Models that a run needs when it begins, and that may be gone afterwards.
_MODELS = ("INIT_FROM", "MINE_WITH")
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
    if not places.at(path, "config.gin").is_file():
        raise InputError(
            f"There is no run in {path}, which has no config.gin: give --model_dir a "
            "folder that csml-tf train has written."
        )
    return RunDirectory(path)


def settings_of_earlier(path):
    """`RunDirectory.read_settings` of a run that may or may not be there; {} without one."""
    config, checkpoints = (places.at(path, name) for name in ("config.gin", "checkpoints"))
    has_begun = config.is_file() and _has_checkpoints(checkpoints)
    return _settings(_read(config)) if has_begun else {}


class RunDirectory:
    """`config.gin`, `checkpoints/`, `tensorboard/`, `metrics.jsonl`, `saved_model/`.

    Args:
        path: of the folder; made when missing.

    Raises:
        InputError: if the folder cannot be made, or TensorFlow could not read from it.
    """

    def __init__(self, path):
        places.check_no_pattern(path, "The run directory")
        self.path = places.at(path)
        self.config = self.path / "config.gin"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics = self.path / "metrics.jsonl"
        self.saved_model = self.path / "saved_model"
        folders = [self.checkpoints, *self.checkpoints.parents]
        self._made = [folder for folder in folders if not folder.exists()]
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The run directory {path} cannot be made ({error.strerror or error}): "
                "choose another with --model_dir."
            ) from error

    def claim(self, config_text, source):
        """Writes the run's configuration, or checks that it is the one already here.

        A comment, "# Code: ...", says which version and commit the run began with. Without a
        checkpoint nothing is lost, so the folder is claimed anew.

        Args:
            config_text: the settings, one `name = value` per line; lines that begin
                with "#" do not count. How the run computes and what it measures may change, so
                may the places of what has the same fingerprint, and the number of epochs may
                grow.
            source: `sources.base.ImageSource` of the training images.

        Raises:
            InputError: if the folder holds a run with other settings, and names the first,
                or on other images.
        """
        config_text = f"{config_text.rstrip()}\n{_FINGERPRINT} = {source.fingerprint!r}\n"
        here = _settings(config_text)
        there = self.read_settings() if self.config.exists() and self.has_checkpoints() else here
        new = not self.config.exists() or there is here
        # Of a model that the run began with long ago, and that is not there any more.
        for model, gone in ((name, _PLACES[name]) for name in _MODELS):
            if gone in there and model in here and gone not in here:
                here[gone] = there[gone]
                config_text += f"{gone} = {there[gone]}\n"
        if not new and there == here:
            return
        raised = _raised(there, here)
        names = _differing({**there, **raised}, here)
        if not names:
            for name, epochs in raised.items():
                logging.info(
                    "%s is raised from %s to %s: the run goes on with the learning rates that a "
                    "run of %s epochs has there, higher than its last ones. To begin anew from its "
                    "encoder instead: another --model_dir, and --init_from.",
                    *(name, there[name], epochs, epochs),
                )
            code = "" if new else self.read_notes().get("Code")
            whole_files.write(
                self.config, f"# Code: {code or code_version.describe()}\n{config_text}"
            )
            return
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

    def leave(self):
        """Removes what a start that was refused has made: no checkpoint, nothing to go on from."""
        if self.has_checkpoints():
            return
        if self.path in self._made:
            self.config.unlink(missing_ok=True)
        for folder in self._made:
            with contextlib.suppress(OSError):  # It holds something else by now.
                folder.rmdir()

    def has_checkpoints(self):
        """Whether there is anything that a run could go on from."""
        return _has_checkpoints(self.checkpoints)

    def read_settings(self):
        """{name: value} of `config.gin`, values as they are written there."""
        return _settings(_read(self.config))

    def read_notes(self):
        """{name: text} of the comments "# Name: text" in `config.gin`: recipe, data set, code."""
        return dict(_NOTE.findall(_read(self.config))) if self.config.exists() else {}

    def read_metrics(self):
        """The rows of `metrics.jsonl`, one dict per finished epoch.

        A last line that was cut off, by a crash or a full disk, does not count: the
        checkpoint comes after the row, so that epoch is done again.
        """
        rows = []
        lines = _read(self.metrics).splitlines() if self.metrics.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row["epoch"] + row.get("loss", 0)  # Both are numbers.
                rows.append(row)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                if number < len(lines):
                    raise InputError(
                        f"Line {number} of {self.metrics} is no JSON of an epoch "
                        f"({errors.first_line(error)}): mend or delete it."
                    ) from error
        return rows

    def dataset(self):
        """The data set string that the run was started with."""
        try:
            return ast.literal_eval(self.read_settings()["DATASET"])
        except (KeyError, ValueError, SyntaxError) as error:
            raise InputError(
                f"{self.config} has no DATASET that can be read: name one with --dataset."
            ) from error

    def summary(self):
        """One line about a finished run."""
        rows = self.read_metrics()
        if not rows:  # Somebody has deleted them.
            return f"{self.path}: the encoder is in {self.saved_model}"
        row = rows[-1]
        knn = (
            f", kNN top-1 {row['knn_top1']:.2%} ({row['knn_protocol']})"
            if "knn_top1" in row
            else ""
        )
        return (
            f"{self.path}: {amounts.count(row['epoch'], 'epoch')}, loss {row['loss']:.3f}{knn}; "
            f"the encoder is in {self.saved_model}"
        )

    def drop_metrics_after(self, finished_epochs):
        """Removes the rows of epochs that a resumed run will do again."""
        kept = [row for row in self.read_metrics() if row["epoch"] <= finished_epochs]
        whole_files.write(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def append_metrics(self, row):
        """Adds one epoch's row to `metrics.jsonl`."""
        if places.is_url(self.metrics):  # A store puts files as a whole.
            rows = [*self.read_metrics(), row]
            whole_files.write(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))
            return
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _has_checkpoints(folder):
    return any(not path.is_dir() for path in folder.glob("ckpt-*"))


def _read(path):
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): look at its rights."
        ) from error


def without_places(config_text):
    """The settings that all workers have in common: {name: value}, without where things lie."""
    return {name: value for name, value in _settings(config_text).items() if name not in _PLACES}


def _differing(there, here):
    """Names of the settings that count and differ, the first ones first to be told."""
    free = {*_FREE_SETTINGS}
    for place, fingerprint in _PLACES.items():
        known = there.get(fingerprint)
        if known is not None and known == here.get(fingerprint):
            free.add(place)
        elif known is None and place in _MODELS:  # Of a run from before there was one.
            free.add(fingerprint)
    names = [n for n in sorted({*there, *here}) if n not in free and there.get(n) != here.get(n)]
    # Another DATASET has other images, too.
    return sorted(names, key=lambda n: n in _PLACES.values())


def _raised(there, here):
    """{name: value} of the number of epochs, where there are more now."""
    numbers = {name: (there.get(name, ""), here.get(name, "")) for name in _EPOCHS}
    return {
        name: after
        for name, (before, after) in numbers.items()
        if before.isdigit() and after.isdigit() and int(after) > int(before)
    }


def _settings(config_text):
    """Lines of "name = value" -> {name: value}; gin continues long values on further lines."""
    joined = config_text.replace("\\\n", " ")
    settings = {}
    name = None
    for line in joined.splitlines():
        if not line.strip() or line.startswith(("#", "import ", "from ")):
            continue
        if " = " in line and not line.startswith((" ", ")", "]", "}")):
            name, value = line.split(" = ", 1)
            settings[name.strip()] = value.strip()
        elif name is not None:
            settings[name.strip()] += " " + line.strip()
    return settings
