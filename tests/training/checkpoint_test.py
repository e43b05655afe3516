import errno
import resource
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.errors import InputError
from csml_tf.training import optim
from csml_tf.training.checkpoint import RunCheckpoint
from tests.training import tiny_run


def make_parts(seed=0, num_images=4):
    tf.keras.utils.set_random_seed(seed)
    model = tiny_run.make_model(seed)
    model.compile(optimizer=optim.TorchSGD())
    return model, NeighborTable(num_images, 2)


class RunCheckpointTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)
        self.model, self.table = make_parts()
        self.checkpoints = RunCheckpoint(self.directory, self.model, self.table)

    def names(self):
        return {path.name for path in self.directory.glob("ckpt-*.index")}

    def test_nothing_to_restore(self):
        self.assertEqual(self.checkpoints.restore(), 0)

    def test_restores_everything(self):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        variables += [self.table.neighbor_indices, self.table.mined_at_epoch]
        for queue in self.model.queues.values():
            variables += [queue.keys, queue.cursor]
        for number, variable in enumerate(variables):
            variable.assign(tf.cast(tf.fill(variable.shape, number % 40), variable.dtype))
        self.checkpoints.save(3)

        model, table = make_parts(seed=1)
        self.assertEqual(RunCheckpoint(self.directory, model, table).restore(), 3)
        for one, other in (
            (self.model.query_encoder, model.query_encoder),
            (self.model.key_encoder.encoder, model.key_encoder.encoder),
            (self.model.optimizer, model.optimizer),
        ):
            for before, after in zip(one.variables, other.variables):
                self.assertAllEqual(before, after)
        for level, queue in model.queues.items():
            self.assertAllEqual(queue.keys, self.model.queues[level].keys)
            self.assertAllEqual(queue.cursor, self.model.queues[level].cursor)
        self.assertAllEqual(table.neighbor_indices, self.table.neighbor_indices)
        self.assertAllEqual(table.mined_at_epoch, self.table.mined_at_epoch)

    def test_keeps_the_two_newest(self):
        for epoch in (1, 2, 3):
            self.checkpoints.save(epoch)
        self.assertEqual(self.names(), {"ckpt-2.index", "ckpt-3.index"})

    @parameterized.parameters(
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device\nmore"),
    )
    def test_full_disk(self, error):
        self.checkpoints.save(1)
        with (
            mock.patch.object(tf.train.CheckpointManager, "save", side_effect=error),
            self.assertRaisesRegex(
                InputError, r"epoch 2 .*No space left.*goes on from .*ckpt-1\.$"
            ),
        ):
            self.checkpoints.save(2)

    def test_file_that_cannot_grow(self):
        self.checkpoints.save(1)
        size = max(path.stat().st_size for path in self.directory.iterdir())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        try:
            with self.assertRaisesRegex(InputError, "epoch 2 could not be written"):
                self.checkpoints.save(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(RunCheckpoint(self.directory, *make_parts()).restore(), 1)

    def test_damaged_checkpoint(self):
        self.checkpoints.save(1)
        for path in self.directory.glob("*.data*"):
            path.write_bytes(path.read_bytes()[:100])
        with self.assertRaisesRegex(InputError, "does not fit this run.*another --model_dir"):
            self.checkpoints.restore()

    def test_other_number_of_images(self):
        self.checkpoints.save(1)
        other = RunCheckpoint(self.directory, *make_parts(num_images=5))
        with self.assertRaisesRegex(InputError, "the data set or the program has changed"):
            other.restore()

    def test_checkpoint_that_lacks_a_part(self):
        RunCheckpoint(self.directory, self.model).save(1)
        with self.assertRaisesRegex(InputError, "does not fit this run"):
            RunCheckpoint(self.directory, self.model, self.table).restore()


if __name__ == "__main__":
    tf.test.main()
