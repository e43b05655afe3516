"""The checkpoint: the whole state of a run, at the end of an epoch or in the middle of one."""

import dataclasses
import json

import tensorflow as tf
from absl import logging

from csml_tf import errors
from csml_tf.errors import InputError
from csml_tf.training import checkpoint_files


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch: int from 0, of the epoch that is running or next.
        step: steps of that epoch that are done.
        row: {name: figure} for that epoch's row of the metrics that are known by now.
        timed: (steps, seconds, seconds of these that waited for input), over which the
            speed of that epoch has been measured by now.
    """

    epoch: int = 0
    step: int = 0
    row: dict = dataclasses.field(default_factory=dict)
    timed: tuple = (0, 0.0, 0.0)

    @property
    def has_begun(self):
        """Whether anything of `epoch` is done."""
        return self.step > 0 or bool(self.row)

    def __str__(self):
        if self.step:
            return f"step {self.step} of epoch {self.epoch + 1}"
        if self.row:
            return f"the mining before epoch {self.epoch + 1}"
        return f"epoch {self.epoch}" if self.epoch else "the start"


_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


def read_progress(prefix):
    """The `Progress` of a checkpoint, but for the figures; None where it cannot be read.

    Args:
        prefix: as of `CheckpointFiles.prefix`.
    """
    try:
        reader = checkpoint_files.open_reader(prefix)
        names = (f"{name}/{_VALUE}" for name in ("finished_epochs", "step"))
        return Progress(*(int(reader.get_tensor(name)) for name in names))
    except (tf.errors.OpError, OSError, ValueError, IndexError, RuntimeError):
        return None


def find_progress(directory):
    """How far the run is whose checkpoints lie in a folder, by the newest that is whole.

    Args:
        directory: that may be missing.

    Returns:
        `Progress`; of a run that has not begun where there is no such checkpoint.
    """
    files = checkpoint_files.CheckpointFiles(directory)
    for number in reversed(files.numbers()):
        if files.find_damage(number) is None:
            return read_progress(files.prefix(number)) or Progress()
    return Progress()


class RunCheckpoint:
    """The model with its method's state, optimizer, running means, neighbor table, progress.

    Args:
        directory: where the checkpoints lie.
        model: `TrainingModel`, compiled.
        table: `NeighborTable` or None.
        max_to_keep: newest checkpoints that stay.
        read_from: where `find_newest` and `load` look; None is `directory`.
    """

    def __init__(self, directory, model, table=None, max_to_keep=3, read_from=None):
        # Slots are made with the first step; a restore wants them before it.
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        self._model = model
        self._files = checkpoint_files.CheckpointFiles(directory)
        self._read = (
            self._files if read_from is None else checkpoint_files.CheckpointFiles(read_from)
        )
        self._max_to_keep = max_to_keep
        self._damaged = set()
        self._newest = (None, Progress())
        with tf.device("CPU:0"):
            self._finished_epochs = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
            # JSON of the running epoch's figures; empty between epochs.
            self._figures = tf.Variable("", trainable=False)
        state = {
            "model": model,  # And with it the optimizer.
            "finished_epochs": self._finished_epochs,
            "step": self._step,
            "figures": self._figures,
        }
        if table is not None:
            state["neighbor_table"] = table
        self._checkpoint = tf.train.Checkpoint(**state)

    def describe_newest(self):
        """Where a repeated run would go on, and from which file, in a few words."""
        prefix, progress = self._newest
        return "the start" if prefix is None else f"{prefix}, after {progress}"

    def save(self, progress):
        """Writes a checkpoint beside the older ones; only a complete one counts.

        Args:
            progress: `Progress` that the model's state belongs to.

        Raises:
            InputError: if a weight is not finite, or the disk is full or not writable; the
                older checkpoints stay.
        """
        self._check_finite(progress)
        self._finished_epochs.assign(progress.epoch)
        self._step.assign(progress.step)
        figures = {"row": progress.row, "timed": progress.timed}
        self._figures.assign(json.dumps(figures) if progress.has_begun else "")
        there = self._files.numbers()
        number = max(there, default=0) + 1
        try:
            self._checkpoint.write(self._files.prefix(number))
            self._files.settle(number)
        except (tf.errors.OpError, OSError) as error:
            self._files.keep_only(there)
            if errors.is_of_another_worker(error):  # To read a variable may be to ask them all.
                raise
            raise InputError(
                f"The checkpoint of {progress} could not be written to {self._files.directory} "
                f"({errors.first_line(error)}): free some space and repeat the command; "
                f"it goes on from {self.describe_newest()}."
            ) from error
        self._newest = (self._files.prefix(number), progress)
        sound = [one for one in [*there, number] if one not in self._damaged]
        self._files.keep_only(sound[-self._max_to_keep :])

    def restore(self):
        """Loads the newest checkpoint that is whole: `load(find_newest())`."""
        return self.load(self.find_newest())

    def find_newest(self):
        """Number of the newest checkpoint that is whole; warns of newer ones that are not.

        All of it has been read then, so that a model is never loaded half from it.

        Returns:
            0 where there is no checkpoint.

        Raises:
            InputError: if all checkpoints are damaged.
        """
        numbers = self._read.numbers()
        for number in reversed(numbers):
            damage = self._read.find_damage(number)
            if damage is None:
                return number
            self._damaged.add(number)
            logging.warning(
                "The checkpoint %s is damaged (%s): the one before is taken.",
                self._read.prefix(number),
                damage,
            )
        if numbers:
            raise InputError(
                f"No checkpoint in {self._read.directory} can be read ({len(numbers)} are "
                "damaged): start anew with another --model_dir, or delete that folder to begin "
                "this run again."
            )
        return 0

    def load(self, number):
        """Loads one checkpoint.

        Args:
            number: from `find_newest`.

        Returns:
            `Progress`; for 0 that of a run which has not begun, and nothing is loaded.

        Raises:
            InputError: if the checkpoint is of another model or another number of images.
        """
        if number == 0:
            return Progress()
        prefix = self._read.prefix(number)
        try:
            self._checkpoint.read(prefix).assert_existing_objects_matched()
        except (tf.errors.OpError, OSError, ValueError, IndexError, AssertionError) as error:
            raise InputError(
                f"The checkpoint {prefix} does not fit this run "
                f"({errors.first_line(error)}): the data set or the program has changed "
                "since; start anew with another --model_dir."
            ) from error
        figures = self._figures.numpy()
        epoch, step = int(self._finished_epochs), int(self._step)
        if not figures:
            progress = Progress(epoch, step)
        else:
            figures = json.loads(figures)
            progress = Progress(epoch, step, figures["row"], tuple(figures["timed"]))
        self._newest = (prefix, progress)
        return progress

    def _check_finite(self, progress):
        """A loss may still be finite in the step that spoils a weight."""
        optimizer = self._model.optimizer
        variables = [*self._model.variables, *optimizer.variables, optimizer.learning_rate]
        variables = [variable for variable in variables if variable.dtype.is_floating]
        finite = [tf.reduce_all(tf.math.is_finite(variable)) for variable in variables]
        finite = tf.stack(finite).numpy()  # One wait for the device.
        if not finite.all():
            raise InputError(
                f"After {progress} and at a learning rate of "
                f"{float(optimizer.learning_rate):.4g}, "
                f"{variables[finite.argmin()].name} holds values that are no finite numbers: "
                "lower LEARNING_RATE and start anew with another --model_dir; the last good state "
                f"is {self.describe_newest()}."
            )
