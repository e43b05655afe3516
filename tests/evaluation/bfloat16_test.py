from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.evaluation import bfloat16
from csml_tf.models.backbones import resnet

_OPTION = "auto_mixed_precision_onednn_bfloat16"


def make_encode():
    network = resnet.make_resnet(18, 8, "cifar")
    return tf.function(lambda images: tf.reduce_mean(network(images)["stage4"], [1, 2]))


def option():
    return tf.config.optimizer.get_experimental_options().get(_OPTION, False)


class ChooseTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        tf.keras.utils.set_random_seed(0)
        self.images = tf.random.stateless_uniform([6, 32, 32, 3], [1, 2])

    def test_float32_is_the_function_itself(self):
        encode = make_encode()
        self.assertIs(bfloat16.choose(encode, "float32"), encode)

    def test_bfloat16_is_near_float32_and_says_how_near(self):
        encode = make_encode()
        expected = encode(self.images).numpy()
        in_bfloat16 = bfloat16.choose(encode, "bfloat16")
        with self.assertLogs("absl", "INFO") as logs:
            found = in_bfloat16(self.images).numpy()
        apart = [np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, expected)]
        # bfloat16 has 8 bits: a number is off by up to 2^-9, and errors add up over the layers.
        self.assertBetween(min(apart), 2**-12, 2**-5)
        (line,) = logs.output
        self.assertIn(
            f"the first 6 rows differ from those of float32 by {100 * np.mean(apart):.2g} %", line
        )
        self.assertIn(f"{100 * max(apart):.2g} % at most", line)

    def test_only_the_first_batch_is_compared(self):
        calls = mock.Mock(wraps=make_encode())
        in_bfloat16 = bfloat16.choose(calls, "bfloat16")
        for _ in range(3):
            in_bfloat16(self.images)
        self.assertEqual(calls.call_count, 4)

    def test_float32_is_as_before_afterwards(self):
        encode = make_encode()
        expected = encode(self.images).numpy()
        bfloat16.choose(encode, "bfloat16")(self.images)
        self.assertFalse(option())
        self.assertAllEqual(encode(self.images), expected)

    def test_an_error_leaves_no_option_behind(self):
        in_bfloat16 = bfloat16.choose(mock.Mock(side_effect=KeyError), "bfloat16")
        with self.assertRaises(KeyError):
            in_bfloat16(self.images)
        self.assertFalse(option())

    def test_says_where_nothing_changes(self):
        in_bfloat16 = bfloat16.choose(lambda images: images[:, 0, 0], "bfloat16")
        with self.assertLogs("absl", "WARNING") as logs:
            in_bfloat16(self.images)
        self.assertIn("Nothing of this network is computed in bfloat16", logs.output[0])

    def test_refuses_what_is_no_single_cpu(self):
        scope = tf.distribute.MirroredStrategy(["CPU:0"]).scope()
        with scope, self.assertRaisesRegex(InputError, "one CPU only"):
            bfloat16.choose(make_encode(), "bfloat16")
        gpus = mock.patch.object(tf.config, "list_logical_devices", lambda kind: [kind])
        with gpus, self.assertRaisesRegex(InputError, "hide the GPUs"):
            bfloat16.choose(make_encode(), "bfloat16")

    def test_refuses_an_unknown_precision(self):
        with self.assertRaisesRegex(InputError, "one of float32, bfloat16, got 'half'"):
            bfloat16.choose(make_encode(), "half")


class DeviationsTest(tf.test.TestCase):
    def test_by_hand(self):
        found = [[3.0, 4.0], [0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]
        expected = [[3.0, 4.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
        self.assertAllClose(bfloat16.deviations(found, expected), [0.0, 1.0, 0.0, 1.0])


if __name__ == "__main__":
    tf.test.main()
