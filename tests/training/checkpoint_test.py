import errno
import os
import resource
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.errors import InputError
from csml_tf.training import checkpoint, optim
from csml_tf.training.checkpoint import Progress, RunCheckpoint
from tests.training import tiny_run


def make_parts(seed=0, num_images=4):
    tf.keras.utils.set_random_seed(seed)
    model = tiny_run.make_model(seed)
    model.compile(optimizer=optim.TorchSGD())
    return model, NeighborTable(num_images, 2)


# What a disk or a crash may do to the files of one checkpoint.
def truncate(index, data):
    data.write_bytes(data.read_bytes()[:100])


def truncate_index(index, data):
    index.write_bytes(index.read_bytes()[:-1])


def empty(index, data):
    data.write_bytes(b"")


def flip_a_bit(index, data):
    flipped = bytearray(data.read_bytes())
    flipped[len(flipped) // 2] ^= 4
    data.write_bytes(flipped)


def flip_a_bit_of_the_index(index, data):
    flipped = bytearray(index.read_bytes())
    flipped[len(flipped) // 2] ^= 4
    index.write_bytes(flipped)


def lose_the_shard(index, data):
    data.unlink()


def lose_the_index(index, data):
    index.unlink()


class RunCheckpointTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model, cls.table = make_parts()
        cls.other_model, cls.other_table = make_parts(seed=1)

    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)
        self.checkpoints = RunCheckpoint(self.directory, self.model, self.table)

    def test_progress_without_a_model(self):
        folder = self.directory / "none"
        self.assertEqual(checkpoint.find_progress(folder), Progress())
        for progress in (Progress(2), Progress(2, step=5)):
            self.checkpoints.save(progress)
            self.assertEqual(checkpoint.find_progress(self.directory), progress)
        truncate(*self.files(2))
        self.assertEqual(checkpoint.find_progress(self.directory), Progress(2))

    def names(self):
        return {path.name for path in self.directory.glob("ckpt-*")}

    def kept(self):
        return sorted(int(path.stem.split("-")[1]) for path in self.directory.glob("*.index"))

    def files(self, number):
        (data,) = self.directory.glob(f"ckpt-{number}.data*")
        return self.directory / f"ckpt-{number}.index", data

    def save_numbered(self, *steps):
        """Checkpoints whose queues hold nothing but the number of their step."""
        for step in steps:
            keys = self.model.base.queues["stage4"].keys
            keys.assign(tf.fill(keys.shape, float(step)))
            self.checkpoints.save(Progress(1, step, {"epoch": 2}))

    def restore_anew(self):
        """-> (progress, the number of the step whose queues are loaded, warnings)."""
        other_keys = self.other_model.base.queues["stage4"].keys
        other_keys.assign(tf.fill(other_keys.shape, -1.0))
        checkpoints = RunCheckpoint(self.directory, self.other_model, self.other_table)
        with mock.patch.object(checkpoint.logging, "warning") as warning:
            progress = checkpoints.restore()
        keys = np.unique(other_keys)
        warnings = [call.args[0] % call.args[1:] for call in warning.call_args_list]
        return progress, *keys, warnings

    def test_nothing_to_restore(self):
        self.assertEqual(self.checkpoints.restore(), Progress())
        self.assertEqual(self.checkpoints.describe_newest(), "the start")

    @parameterized.parameters(
        Progress(3),
        Progress(2, 0, {"mining_seconds": 1.5}),
        Progress(0, 7, {"epoch": 1, "loss": 0.1 + 0.2, "knn": "k"}, (6, 1.25, 0.1)),
    )
    def test_restores_everything(self, progress):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        variables += [self.table.neighbor_indices, self.table.mined_at_epoch]
        for number, variable in enumerate(variables):
            variable.assign(tf.cast(tf.fill(variable.shape, number % 40), variable.dtype))
        self.checkpoints.save(progress)

        model, table = self.other_model, self.other_table
        for variable in [*model.variables, *model.optimizer.variables]:
            variable.assign(tf.cast(tf.fill(variable.shape, 77), variable.dtype))
        self.assertEqual(RunCheckpoint(self.directory, model, table).restore(), progress)
        for one, other in (
            (self.model, model),
            (self.model.encoder, model.encoder),
            (self.model.base.key_encoder.encoder, model.base.key_encoder.encoder),
            (self.model.optimizer, model.optimizer),
        ):
            for before, after in zip(one.variables, other.variables):
                self.assertAllEqual(before, after)
        for level, queue in model.base.queues.items():
            self.assertAllEqual(queue.keys, self.model.base.queues[level].keys)
            self.assertAllEqual(queue.cursor, self.model.base.queues[level].cursor)
        self.assertAllEqual(table.neighbor_indices, self.table.neighbor_indices)
        self.assertAllEqual(table.mined_at_epoch, self.table.mined_at_epoch)

    @parameterized.parameters(
        (Progress(), "the start"),
        (Progress(2), "epoch 2"),
        (Progress(2, 0, {"epoch": 3}), "the mining before epoch 3"),
        (Progress(2, 5, {"epoch": 3}), "step 5 of epoch 3"),
    )
    def test_progress_in_words(self, progress, words):
        self.assertEqual(str(progress), words)
        self.assertEqual(progress.has_begun, "3" in words)

    def test_keeps_the_three_newest(self):
        for folder in ("ckpt-2_temp", "ckpt-9_temp"):  # Of runs killed while they wrote.
            (self.directory / folder).mkdir()
            (self.directory / folder / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"1")
        (self.directory / "notes").write_text("mine")
        self.save_numbered(*range(1, 13))
        self.assertEqual(self.kept(), [10, 11, 12])  # 12 is after 9, not after 1.
        self.assertLen(self.names(), 6)
        self.assertTrue((self.directory / "notes").exists())
        self.assertEqual(self.restore_anew(), (Progress(1, 12, {"epoch": 2}), 12, []))
        # TensorFlow's own tools find the same one.
        self.assertEqual(tf.train.latest_checkpoint(self.directory), f"{self.directory}/ckpt-12")

    @parameterized.parameters(b"", b'model_checkpoint_path: "ckpt-1"\n', b"\x00\xff", None)
    def test_list_of_checkpoints_does_not_count(self, content):
        self.save_numbered(1, 2)
        if content is None:
            (self.directory / "checkpoint").unlink()
        else:
            (self.directory / "checkpoint").write_bytes(content)
        self.assertEqual(self.restore_anew()[1:], (2, []))

    def test_clock_does_not_count(self):
        self.save_numbered(1, 2, 3)
        for age, path in enumerate(sorted(self.directory.glob("ckpt-*"))):
            os.utime(path, (1e9 - age, 1e9 - age))
        self.assertEqual(self.restore_anew()[1:], (3, []))
        with mock.patch("time.time", lambda: 1.0):
            self.save_numbered(4)
        self.assertEqual(self.kept(), [2, 3, 4])
        self.assertEqual(self.restore_anew()[1:], (4, []))

    @parameterized.parameters(
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device\nmore"),
    )
    def test_full_disk(self, error):
        self.save_numbered(1)
        with (
            mock.patch.object(tf.train.Checkpoint, "write", side_effect=error),
            self.assertRaisesRegex(
                InputError, r"step 2 of epoch 2 .*No space left.*ckpt-1, after step 1 of epoch 2\.$"
            ),
        ):
            self.save_numbered(2)

    def test_file_that_cannot_grow(self):
        self.save_numbered(1)
        names = self.names()
        size = max(path.stat().st_size for path in self.directory.iterdir())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        try:
            with self.assertRaisesRegex(InputError, "step 2 of epoch 2 could not be .*File too l"):
                self.save_numbered(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(self.names(), names)
        self.assertEqual(self.restore_anew()[1:], (1, []))
        self.save_numbered(2)
        self.assertEqual(self.restore_anew()[1:], (2, []))

    @parameterized.parameters(
        truncate,
        truncate_index,
        empty,
        flip_a_bit,
        flip_a_bit_of_the_index,
        lose_the_shard,
        lose_the_index,
    )
    def test_damaged_checkpoint_is_passed_over(self, damage):
        self.save_numbered(1, 2, 3)
        damage(*self.files(3))
        progress, loaded, (warning,) = self.restore_anew()
        self.assertEqual((progress.step, loaded), (2, 2))
        self.assertRegex(warning, r"^The checkpoint .*ckpt-3 is damaged \(.*\): the one before ")
        self.assertNotIn("\n", warning)

    def test_damaged_checkpoints_make_room_first(self):
        self.save_numbered(1, 2, 3)
        for number in (2, 3):
            flip_a_bit(*self.files(number))
        self.assertEqual(self.checkpoints.restore().step, 1)
        self.save_numbered(4)
        self.assertEqual(self.kept(), [1, 4])
        self.assertEqual(self.restore_anew()[1:], (4, []))

    def test_all_damaged(self):
        self.save_numbered(1, 2)
        for number in (1, 2):
            truncate(*self.files(number))
        before = [variable.numpy() for variable in self.model.variables]
        with self.assertRaisesRegex(
            InputError, r"^No checkpoint in .* \(2 are damaged\): start anew .*again\.$"
        ):
            self.checkpoints.restore()
        for value, variable in zip(before, self.model.variables):
            self.assertAllEqual(value, variable)

    def test_never_holds_what_is_not_finite(self):
        self.save_numbered(1)
        reader = tf.train.load_checkpoint(str(self.directory / "ckpt-1"))
        dtypes = reader.get_variable_to_dtype_map()
        num_floats = sum(dtype.is_floating for dtype in dtypes.values())
        optimizer = self.model.optimizer
        variables = [*self.model.variables, *optimizer.variables, optimizer.learning_rate]
        variables = [variable for variable in variables if variable.dtype.is_floating]
        self.assertEqual(len({variable.ref() for variable in variables}), num_floats)
        for number, variable in enumerate(variables):
            sound, spoilt = variable.numpy(), np.array(variable.numpy())
            spoilt.reshape(-1)[-1:] = (np.nan, np.inf, -np.inf)[number % 3]
            variable.assign(spoilt)
            with self.assertRaisesRegex(
                InputError, "^After epoch 4 and at a learning rate of .* no finite numbers: lower"
            ):
                self.checkpoints.save(Progress(4))
            variable.assign(sound)
        self.assertEqual(self.kept(), [1])
        self.checkpoints.save(Progress(4))
        self.assertEqual(self.kept(), [1, 2])

    def test_other_number_of_images(self):
        self.save_numbered(1)
        other = RunCheckpoint(self.directory, *make_parts(num_images=5))
        with self.assertRaisesRegex(InputError, "the data set or the program has changed"):
            other.restore()

    def test_checkpoint_that_lacks_a_part(self):
        RunCheckpoint(self.directory, self.model).save(Progress(1))
        with self.assertRaisesRegex(InputError, "does not fit this run"):
            RunCheckpoint(self.directory, self.model, self.table).restore()


if __name__ == "__main__":
    tf.test.main()
