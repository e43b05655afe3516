import types
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.training import loss_guard

PARTS = ("loss_stage3_image", "loss_stage4_image", "loss_stage4_small")


def running_means(losses):
    """Of {name: list of a value per step}, as the model's: one {name: mean} per step."""
    means = {name: tf.keras.metrics.Mean() for name in losses}
    for values in zip(*losses.values()):
        for name, value in zip(losses, values):
            means[name].update_state(value)
        yield {name: mean.result() for name, mean in means.items()}


class LossGuardTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now)
        self.enter_context(mock.patch.object(loss_guard, "time", clock))
        checkpoints = types.SimpleNamespace(describe_newest=lambda: "ckpt-7, after epoch 2")
        self.guard = loss_guard.LossGuard(2, 10, 0.06, checkpoints)

    def run_steps(self, losses, seconds_per_step=0.0):
        for batch, logs in enumerate(running_means(losses)):
            self.now += seconds_per_step
            self.guard.on_train_batch_end(batch, logs)

    def spoil(self, value, first_spoilt=3, num_steps=9):
        """Losses of which one part goes bad in one step, and all parts in the next."""
        losses = {name: [1.0] * num_steps for name in ("loss", *PARTS)}
        for name in losses:
            losses[name][first_spoilt + 1] = value
        for name in ("loss", "loss_stage4_small"):
            losses[name][first_spoilt] = value
        return losses

    def test_passes_what_is_finite(self):
        losses = {name: [1e30, -5.0, 3.0] for name in ("loss", *PARTS)}
        self.run_steps(losses, 2.0)
        self.guard.check()

    @parameterized.parameters(float("nan"), float("inf"), -float("inf"))
    def test_names_the_first_step_and_part(self, value):
        self.run_steps(self.spoil(value))
        with self.assertRaisesRegex(
            InputError,
            rf"^The loss is {value} from step 14 of epoch 3 on, at a learning rate of 0\.06, "
            r"first in stage4 small: lower LEARNING_RATE, or raise TEMPERATURE, and start anew "
            r"with another --model_dir; the last good state is ckpt-7, after epoch 2\.$",
        ):
            self.guard.check()

    def test_looks_about_once_a_second(self):
        looks = []
        losses = {"loss": [1.0] * 41}
        with mock.patch.object(self.guard, "check", lambda: looks.append(self.now)):
            self.guard._looked = self.now
            self.run_steps(losses, 0.25)
        self.assertEqual(looks[0], 101.25)
        self.assertLen(looks, 41 - 4)  # `check`, replaced, is due until it has looked.
        with self.assertRaisesRegex(InputError, "step 14 of epoch 3"):
            self.run_steps(self.spoil(float("nan")), 0.4)

    def test_does_not_wait_for_the_device_in_between(self):
        class Unread:
            def __float__(self):
                raise AssertionError("read")

        for batch in range(5):
            self.guard.on_train_batch_end(batch, {"loss": Unread()})
        with self.assertRaisesRegex(AssertionError, "read"):
            self.guard.check()

    def test_says_nothing_before_the_first_step(self):
        self.guard.check()


if __name__ == "__main__":
    tf.test.main()
