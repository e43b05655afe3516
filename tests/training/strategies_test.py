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
        ("auto", 0, "no GPU and works on the CPU"), ("none", 1, "1 GPU"), ("none", 8, "8 GPUs")
    )
    def test_one_device(self, name, gpus, message):
        self.pretend_gpus(gpus)
        with self.assertLogs("absl", "INFO") as logs:
            strategy = strategies.make(name)
        self.assertIs(strategy, tf.distribute.get_strategy())
        self.assertEndsWith(logs.records[0].getMessage(), f" sees {message}.")

    def test_mirrored(self):
        self.assertIsInstance(strategies.make("mirrored"), tf.distribute.MirroredStrategy)

    @parameterized.parameters(1, 2)
    def test_auto_is_the_first_gpu(self, gpus):
        self.pretend_gpus(gpus)
        with mock.patch.object(tf.distribute, "MirroredStrategy") as mirrored:
            self.assertIs(strategies.make("auto"), mirrored.return_value)
        mirrored.assert_called_once_with(["GPU:0"])

    def test_unknown(self):
        with self.assertRaisesRegex(InputError, "one of auto, none, mirrored, got 'horovod'"):
            strategies.make("horovod")


if __name__ == "__main__":
    tf.test.main()
