from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.training import strategies


class MakeTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.real_devices = tf.config.list_physical_devices

    def pretend_gpus(self, count):
        def devices(kind=None):
            return ["GPU"] * count if kind == "GPU" else self.real_devices(kind)

        self.enter_context(mock.patch.object(tf.config, "list_physical_devices", devices))

    @parameterized.parameters(
        ("auto", 0, "no GPU and works on the CPU"), ("auto", 1, "1 GPU"), ("none", 8, "8 GPUs")
    )
    def test_one_device(self, name, gpus, message):
        self.pretend_gpus(gpus)
        with self.assertLogs("absl", "INFO") as logs:
            strategy = strategies.make(name)
        self.assertIs(strategy, tf.distribute.get_strategy())
        self.assertEndsWith(logs.records[0].getMessage(), f" sees {message}.")

    @parameterized.parameters(("mirrored", 0), ("auto", 2))
    def test_mirrored(self, name, gpus):
        self.pretend_gpus(gpus)
        self.assertIsInstance(strategies.make(name), tf.distribute.MirroredStrategy)

    def test_unknown(self):
        with self.assertRaisesRegex(InputError, "one of auto, none, mirrored, got 'horovod'"):
            strategies.make("horovod")


if __name__ == "__main__":
    tf.test.main()
