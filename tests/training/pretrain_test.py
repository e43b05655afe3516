import contextlib
import functools
import itertools
import os
import shutil
import signal
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import whole_files
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.training import optim
from csml_tf.training.run_directory import RunDirectory
from csml_tf.training.stop_signals import Stopped
from tests.training import run_state, tiny_run

EPOCHS = 3


class Monitor:
    """Measures after the last epoch; may be sent a signal while it does."""

    def __init__(self, signal_number=None):
        self._signal = signal_number

    def is_due(self, finished_epochs, epochs):
        return finished_epochs == epochs

    def measure(self, encoder):
        if self._signal is not None:
            os.kill(os.getpid(), self._signal)
        return {"knn_top1": 0.5}


def clock_that_is_set_back():
    """Within it each look at the wall clock is an hour before the last."""
    now = itertools.count(2e9, -3600.0)
    stack = contextlib.ExitStack()
    for name in ("time.time", "tqdm.std.time"):
        stack.enter_context(mock.patch(name, lambda: next(now)))
    return stack


class ResumeTest(tf.test.TestCase):
    """Ends as if nothing had happened: all of the state, and every figure."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.whole = tiny_run.make_temp_dir(cls.addClassCleanup)
        tiny_run.run(cls.whole, EPOCHS, [Monitor()])

    def interrupt(self, directory, message, monitors, **options):
        with self.assertRaisesRegex(Stopped, message), self.assertLogs("absl", "INFO") as logs:
            tiny_run.run(directory, EPOCHS, monitors, **options)
        return "".join(logs.output)

    def test_ends_like_an_undisturbed_run(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        with clock_that_is_set_back():
            # After the mining of epoch 1, which is not repeated.
            with tiny_run.signal_after_step(0, 1):
                self.interrupt(
                    directory,
                    r"^Stopped by SIGTERM at step 2 of epoch 1: repeat the command to go on\.$",
                    [Monitor()],
                    checkpoint_every_steps=1,
                )
            self.assertEmpty(run_state.figures(directory))
            self.assertEqual(run_state.load(directory)["step"], 2)
            # After the mining, step 1 and step 2.
            newest = tf.train.latest_checkpoint(directory / "checkpoints")
            self.assertEndsWith(newest, "ckpt-3")
            for age, path in enumerate(sorted(directory.glob("checkpoints/ckpt-*"))):
                os.utime(path, (1e9 - age, 1e9 - age))
            # In the last step of an epoch, which needs nothing more.
            with tiny_run.signal_after_step(1, 2):
                logs = self.interrupt(
                    directory, "^Stopped by SIGTERM after epoch 2: repeat", [Monitor()]
                )
            self.assertIn(f"Going on from {directory} after step 2 of epoch 1.", logs)
            self.assertNotIn("mined before epoch 1", logs)
            # In epoch 3 all is trained, and not yet measured.
            logs = self.interrupt(
                directory,
                "^Stopped by SIGINT while measuring after epoch 3, which will be done again: rep",
                [Monitor(signal.SIGINT)],
                checkpoint_every_steps=None,
            )
            self.assertIn(f"Going on from {directory} after epoch 2.", logs)
            self.assertIn("mined before epoch 3", logs)
            with mock.patch.object(tf.keras.Model, "fit") as fit:
                tiny_run.run(directory, EPOCHS, [Monitor()])
            fit.assert_not_called()
        self.assertEqual(
            handlers, [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        )

        expected, actual = run_state.load(self.whole), run_state.load(directory)
        self.assertEqual(expected.keys(), actual.keys())
        for part in (
            "query_encoder",
            "key_encoder",
            "queues",
            "cursor",
            "neighbor_indices",
            "optimizer/_variables/16",
            "means/_totals",
            "finished_epochs",
        ):
            self.assertTrue(any(part in name for name in actual), part)
        for name, value in expected.items():
            self.assertEqual(value.tobytes(), actual[name].tobytes(), name)
        self.assertEqual(run_state.figures(self.whole), run_state.figures(directory))
        for row in RunDirectory(directory).read_metrics():
            self.assertGreater(row["seconds"], 0)
            self.assertGreater(row["images_per_sec"], 0)
            self.assertBetween(row["input_wait_fraction"], 0, 1)

    @pytest.mark.slow
    def test_two_replicas_end_where_one_ends(self):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        directory = tiny_run.make_temp_dir(self.addCleanup)
        with tiny_run.signal_after_step(1, 1), self.assertRaises(Stopped):
            tiny_run.run(directory, EPOCHS, [Monitor()], strategy=strategy)
        tiny_run.run(directory, EPOCHS, [Monitor()], strategy=strategy)
        expected, actual = run_state.load(self.whole), run_state.load(directory)
        self.assertEqual(expected.keys(), actual.keys())
        for name, value in expected.items():
            if value.dtype.kind == "f":
                self.assertAllClose(actual[name], value, rtol=1e-3, atol=1e-4, msg=name)
            elif value.dtype.kind == "i":
                self.assertAllEqual(actual[name], value, msg=name)
        rows = zip(run_state.figures(directory), run_state.figures(self.whole))
        for row, expected_row in rows:
            self.assertAllClose(row, expected_row, rtol=1e-4)

    @pytest.mark.slow
    def test_goes_on_with_another_number_of_replicas(self):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        expected = run_state.load(self.whole)
        for first, second in ((strategy, None), (None, strategy)):
            directory = tiny_run.make_temp_dir(self.addCleanup)
            with tiny_run.signal_after_step(1, 1), self.assertRaises(Stopped):
                tiny_run.run(directory, EPOCHS, [Monitor()], strategy=first)
            tiny_run.run(directory, EPOCHS, [Monitor()], strategy=second)
            actual = run_state.load(directory)
            for name, value in expected.items():
                if value.dtype.kind == "f":
                    self.assertAllClose(actual[name], value, rtol=1e-3, atol=1e-4, msg=name)

    @pytest.mark.slow
    def test_float16_goes_on_with_its_loss_scale(self):
        whole, directory = (tiny_run.make_temp_dir(self.addCleanup) for _ in range(2))
        tiny_run.run(whole, EPOCHS, precision="mixed_float16")
        with tiny_run.signal_after_step(1, 1), self.assertRaises(Stopped):
            tiny_run.run(directory, EPOCHS, precision="mixed_float16")
        tiny_run.run(directory, EPOCHS, precision="mixed_float16")
        expected, actual = run_state.load(whole), run_state.load(directory)
        self.assertTrue(any("loss_scale" in name for name in expected))
        for name, value in expected.items():
            self.assertEqual(value.tobytes(), actual[name].tobytes(), name)

    def test_one_row_per_epoch(self):
        rows = RunDirectory(self.whole).read_metrics()
        self.assertEqual([row["epoch"] for row in rows], [1, 2, 3])
        self.assertEqual([row["step"] for row in rows], [3, 6, 9])
        for epoch, row in enumerate(rows):
            rate = optim.cosine_schedule(epoch, EPOCHS, 0.03 * tiny_run.BATCH / 256)
            self.assertAlmostEqual(row["learning_rate"], rate)
            parts = {
                f"loss_{s}_{k}"
                for s in ("stage3", "stage4")
                for k in ("image", "neighbor", "mixed")
            }
            self.assertContainsSubset(parts, row)
            self.assertAlmostEqual(row["loss"], sum(row[part] for part in parts) / 3, places=4)
            self.assertGreater(row["images_per_sec"], 0)
            self.assertBetween(row["input_wait_fraction"], 0, 1)
        self.assertEqual(["neighbor_purity" in row for row in rows], [True, False, True])
        self.assertEqual(["neighbor_churn" in row for row in rows], [False, False, True])

    def test_finished_run_says_so(self):
        before = run_state.load(self.whole)
        with self.assertLogs("absl", "INFO") as logs:
            model = tiny_run.run(self.whole, EPOCHS)
        self.assertIn("is finished: 3 epochs are done", "".join(logs.output))
        self.assertLen(run_state.figures(self.whole), EPOCHS)
        self.assertAllEqual(model.optimizer.iterations, 9)
        self.assertAllEqual(model.base.queues["stage4"].cursor, 9 * tiny_run.BATCH % 40)
        self.assertEqual(before.keys(), run_state.load(self.whole).keys())

    def test_goes_on_with_more_epochs(self):
        directory = tiny_run.make_temp_dir(self.addCleanup) / "longer"
        shutil.copytree(self.whole, directory)
        with self.assertLogs("absl", "INFO") as logs:
            model = tiny_run.run(directory, EPOCHS + 1)
        self.assertIn("EPOCHS is raised from 3 to 4", "".join(logs.output))
        *before, last = run_state.figures(directory)
        self.assertEqual(before, run_state.figures(self.whole))
        peak = 0.03 * tiny_run.BATCH / 256
        self.assertEqual(last["learning_rate"], optim.cosine_schedule(3, 4, peak))
        self.assertEqual(int(model.steps_of_run), 4 * 3)
        with self.assertRaisesRegex(InputError, "EPOCHS is 4 there and 3 here"):
            tiny_run.run(directory, EPOCHS)

    def test_health_in_every_row(self):
        for row in run_state.figures(self.whole):
            self.assertBetween(row["effective_rank"], 1, 8)
            self.assertBetween(row["stranger_cosine"], -1, 1)
            self.assertBetween(row["queue_entropy_share"], 0, 1)

    def test_a_monitor_that_fails_ends_nothing(self):
        class Broken(Monitor):
            def measure(self, encoder):
                raise RuntimeError("No more labels.")

        directory = tiny_run.make_temp_dir(self.addCleanup)
        with self.assertLogs("absl", "WARNING") as logs:
            tiny_run.run(directory, 1, [Broken(), Monitor()])
        self.assertIn(
            "Broken could not measure after epoch 1 (RuntimeError: No", "".join(logs.output)
        )
        (row,) = run_state.figures(directory)
        self.assertContainsSubset(Monitor().measure(None), row)

    def test_refuses_a_run_with_other_settings(self):
        with self.assertRaisesRegex(InputError, r"SEED is 0 there and 1 here.*--model_dir"):
            tiny_run.run(self.whole, EPOCHS, seed=1)

    def test_refuses_when_the_data_set_has_grown(self):
        with self.assertRaisesRegex(
            InputError, r"^The images of 50 digits have changed .*fingerprint.*--model_dir\.$"
        ):
            tiny_run.run(self.whole, EPOCHS, source=tiny_run.make_source(50))

    def test_refuses_a_directory_in_use(self):
        with (
            whole_files.hold(self.whole),
            self.assertRaisesRegex(InputError, f"in use by process {os.getpid()} on "),
        ):
            tiny_run.run(self.whole, EPOCHS)

    def test_initializes_a_new_run_only(self):
        class Called(Exception):
            pass

        def initialize(model):
            raise Called

        directory = tiny_run.make_temp_dir(self.addCleanup)
        with self.assertRaises(Called):
            tiny_run.run(directory, EPOCHS, initialize=initialize)
        for step, function in ((0, lambda model: None), (1, initialize)):
            with tiny_run.signal_after_step(0, step), self.assertRaises(Stopped):
                tiny_run.run(directory, EPOCHS, initialize=function)

    def test_trains(self):
        model = tiny_run.run(self.whole, EPOCHS)
        fresh = tiny_run.make_model()
        self.assertNotAllClose(
            model.encoder.trainable_variables[0], fresh.encoder.trainable_variables[0]
        )


class AugmentOnTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_device_ends_like_host(self):
        augmentation = ViewAugmentation(image_size=16, blur_probability=0.5)
        states = []
        for augment_on in ("host", "device"):
            directory = tiny_run.make_temp_dir(self.addCleanup)
            tiny_run.run(directory, 2, augmentation=augmentation, augment_on=augment_on)
            states.append(run_state.load(directory))
        for name, value in states[0].items():
            self.assertAllEqual(value, states[1][name], name)

    @pytest.mark.slow
    def test_small_views(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        tiny_run.run(
            directory,
            1,
            make_model=functools.partial(tiny_run.make_model, num_small_views=2),
            small_augmentation=ViewAugmentation(image_size=8, crop_scale=(0.05, 0.14)),
            augment_on="device",
        )
        (row,) = RunDirectory(directory).read_metrics()
        # Two of the five queries of an anchor are small.
        expected = sum(
            share * row[f"loss_{level}_{kind}"]
            for level in ("stage3", "stage4")
            for kind, share in (("image", 0.2), ("neighbor", 0.2), ("mixed", 0.2), ("small", 0.4))
        )
        self.assertAlmostEqual(row["loss"], expected, places=4)


class CutMixWaitsTest(tf.test.TestCase):
    def run_with(self, epochs=2, **options):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        make_model = functools.partial(tiny_run.make_model, pairs=True, **options)
        tiny_run.run(directory, epochs, make_model=make_model)
        return directory

    @pytest.mark.slow
    def test_is_as_if_there_were_none_until_it_begins(self):
        """What an epoch has of it, and at which cost."""
        rows = RunDirectory(self.run_with(cutmix_warmup_epochs=1)).read_metrics()
        mixed = [{name for name in row if name.endswith("mixed")} for row in rows]
        self.assertEqual(mixed, [set(), {"loss_stage3_mixed", "loss_stage4_mixed"}])
        self.assertEqual([row["forward_units"] for row in rows], [4 * 48.0, 7 * 48.0])
        without = RunDirectory(self.run_with(1, query_kinds=("image", "neighbor"))).read_metrics()
        for name, value in without[0].items():
            if name.startswith("loss"):
                self.assertEqual(rows[0][name], value, name)

    def test_ends_like_a_run_without(self):
        waits = run_state.load(self.run_with(cutmix_warmup_epochs=2))
        without = run_state.load(self.run_with(query_kinds=("image", "neighbor")))
        compared = [name for name in without if "encoder" in name or "queues" in name]
        self.assertGreater(len(compared), 20)
        for name in compared:
            self.assertEqual(without[name].tobytes(), waits[name].tobytes(), name)


class FitTogetherTest(tf.test.TestCase, parameterized.TestCase):
    """What is found out before the first step, and what to do about it."""

    @parameterized.parameters(
        ({"make_model": functools.partial(tiny_run.make_model, num_negatives=16)}, "NUM_NEGATIVES"),
        ({"global_batch_size": 49}, "larger than 48 digits, which has 48: lower GLOBAL_BATCH_SIZE"),
        ({"global_batch_size": 15}, "15 images cannot be split into 2 .* a multiple of 2"),
        ({"global_batch_size": 0}, "GLOBAL_BATCH_SIZE must be a whole number from 1, got 0"),
        ({"augment_on": "moon"}, "AUGMENT_ON must be one of 'host', 'device', got 'moon'"),
        (
            {"make_model": functools.partial(tiny_run.make_model, num_small_views=2)},
            r'small views .* include "base/multicrop\.gin"',
        ),
        ({"epochs": 0}, "EPOCHS must be a whole number from 1, got 0"),
        ({"epochs": 1.5}, "EPOCHS must be a whole number from 1, got 1.5"),
        (
            {"checkpoint_every_steps": -1},
            "CHECKPOINT_EVERY_STEPS must be a whole number from 0, got -1",
        ),
    )
    def test_rejects(self, options, message):
        with self.assertRaisesRegex(InputError, message):
            tiny_run.run(tiny_run.make_temp_dir(self.addCleanup), **options)

    def test_rejects_one_image(self):
        source = memory.MemorySource(np.zeros([1, 8, 8], np.uint8), name="lonely")
        with self.assertRaisesRegex(InputError, "lonely has 1 image"):
            tiny_run.run(tiny_run.make_temp_dir(self.addCleanup), source=source)

    def test_rejects_fewer_images_than_neighbors(self):
        with self.assertRaisesRegex(InputError, "3 digits has 3 images, too few for 3 neighbors"):
            tiny_run.run(
                tiny_run.make_temp_dir(self.addCleanup),
                source=tiny_run.make_source(3),
                global_batch_size=2,
            )

    def test_rejects_a_batch_that_replicas_cannot_share(self):
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(3)])
        with self.assertRaisesRegex(ValueError, "choose BN_GROUPS as a multiple of 3, or 1"):
            tiny_run.run(tiny_run.make_temp_dir(self.addCleanup), strategy=strategy)
        make_model = functools.partial(tiny_run.make_model, bn_groups=3)
        with self.assertRaisesRegex(InputError, "over 3 replicas .* as a multiple of 3"):
            tiny_run.run(
                tiny_run.make_temp_dir(self.addCleanup), strategy=strategy, make_model=make_model
            )

    def test_warns_of_a_queue_longer_than_the_data_set(self):
        make_model = functools.partial(tiny_run.make_model, num_negatives=49)
        with self.assertLogs("absl", "WARNING") as logs:
            tiny_run.run(tiny_run.make_temp_dir(self.addCleanup), 1, make_model=make_model)
        self.assertRegex("".join(logs.output), "queue of 49 keys .* 48 images.*NUM_NEGATIVES = 17")

    def test_diverged_run_ends_and_keeps_its_checkpoint(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)

        def explode(epoch, epochs, peak_learning_rate):
            return float("nan") if epoch == 1 else peak_learning_rate

        with self.assertRaisesRegex(
            InputError,
            r"^The loss is nan from step 2 of epoch 2 on, at a learning rate of nan, in all of its "
            r"parts: lower LEARNING_RATE.*ckpt-\d, after epoch 1\.$",
        ):
            tiny_run.run(directory, 3, schedule=explode, checkpoint_every_steps=2)
        state = run_state.load(directory)
        self.assertEqual((state["finished_epochs"], state["step"]), (1, 0))
        self.assertLen(run_state.figures(directory), 1)


if __name__ == "__main__":
    tf.test.main()
