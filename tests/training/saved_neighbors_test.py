import numpy as np
import pytest
import tensorflow as tf

from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.training import checkpoint_files, saved_neighbors
from tests.training import tiny_run


def write_checkpoint(directory, number, **state):
    prefix = checkpoint_files.CheckpointFiles(directory).prefix(number)
    tf.train.Checkpoint(**state).write(prefix)


def make_table(shift):
    table = NeighborTable(4, 2)
    table.assign((np.arange(4)[:, None] + [1, 2] + shift) % 4, 5 + shift)
    return table


class ReadNewestTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def test_newest(self):
        write_checkpoint(self.directory, 9, neighbor_table=make_table(0))
        write_checkpoint(self.directory, 10, neighbor_table=make_table(1))
        indices, epoch = saved_neighbors.read_newest(self.directory)
        self.assertAllEqual(indices, [[2, 3], [3, 0], [0, 1], [1, 2]])
        self.assertEqual(epoch, 6)

    def test_damaged_newest(self):
        write_checkpoint(self.directory, 1, neighbor_table=make_table(0))
        write_checkpoint(self.directory, 2, neighbor_table=make_table(1))
        (self.directory / "ckpt-2.index").write_bytes(b"no")
        write_checkpoint(self.directory, 3, neighbor_table=make_table(2))
        (self.directory / "ckpt-3.data-00000-of-00001").unlink()
        self.assertEqual(saved_neighbors.read_newest(self.directory)[1], 5)

    @pytest.mark.slow
    def test_of_a_run(self):
        tiny_run.run(self.directory, epochs=1)
        indices, epoch = saved_neighbors.read_newest(self.directory / "checkpoints")
        self.assertEqual((indices.shape, epoch), ((tiny_run.NUM_IMAGES, 3), 0))

    def test_nothing(self):
        self.assertIsNone(saved_neighbors.read_newest(self.directory / "no"))
        write_checkpoint(self.directory, 1, step=tf.Variable(1))  # As of MoCo.
        self.assertIsNone(saved_neighbors.read_newest(self.directory))


if __name__ == "__main__":
    tf.test.main()
