"""The checkpoint: the whole state of a run, once per epoch."""

import tensorflow as tf

from csml_tf.errors import InputError


class RunCheckpoint:
    """Both encoders, queues and cursors, optimizer, finished epochs, neighbour table.

    Args:
        directory: where the checkpoints lie.
        model: `CsMl`, compiled.
        table: `NeighborTable` or None.
        max_to_keep: newest checkpoints that stay.
    """

    def __init__(self, directory, model, table=None, max_to_keep=2):
        self.finished_epochs = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Slots are made with the first step; a restore wants them before it.
        model.optimizer.build(model.trainable_variables)
        state = {
            "model": model,
            "optimizer": model.optimizer,
            "finished_epochs": self.finished_epochs,
        }
        if table is not None:
            state["neighbor_table"] = table
        self._checkpoint = tf.train.Checkpoint(**state)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(directory), max_to_keep=max_to_keep
        )

    def save(self, finished_epochs):
        """Writes a checkpoint beside the older ones; only a complete one counts.

        Raises:
            InputError: if the disk is full or not writable; the older ones stay.
        """
        self.finished_epochs.assign(finished_epochs)
        try:
            self._manager.save(checkpoint_number=finished_epochs)
        except (tf.errors.OpError, OSError) as error:
            kept = self._manager.latest_checkpoint
            raise InputError(
                f"The checkpoint of epoch {finished_epochs} could not be written to "
                f"{self._manager.directory} ({_first_line(error)}): free some space and repeat "
                f"the command; it goes on from {kept or 'the start'}."
            ) from error

    def restore(self):
        """Loads the newest checkpoint.

        Returns:
            The number of finished epochs; 0 where there is no checkpoint.

        Raises:
            InputError: if the checkpoint cannot be read or is of another model or of
                another number of images.
        """
        newest = self._manager.latest_checkpoint
        if newest is None:
            return 0
        try:
            self._checkpoint.restore(newest).assert_existing_objects_matched()
        except (tf.errors.OpError, OSError, ValueError, IndexError, AssertionError) as error:
            raise InputError(
                f"The checkpoint {newest} does not fit this run ({_first_line(error)}): it is "
                "damaged, or the data set or the program has changed since; start anew with "
                "another --model_dir."
            ) from error
        return int(self.finished_epochs)


def _first_line(error):
    return str(error).strip().splitlines()[0].rstrip(".")
