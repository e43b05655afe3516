import pathlib
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.training import optim, precision
from tests.methods import made
from tests.training import tiny_run

BATCH = 8


def train(name, steps=4):
    with precision.policy(name):
        tf.keras.utils.set_random_seed(0)
        model = made.make_csml(
            tiny_run.make_encoder, num_negatives=64, ema_decay=0.9, neighbor_warmup_epochs=0
        )
        model.compile(precision.scale_loss(optim.TorchSGD(0.05), name))
    rng = np.random.default_rng(0)
    step = tf.function(model.train_step, autograph=False)
    losses = []
    for _ in range(steps):
        names = model.view_names
        views = {n: tf.constant(rng.normal(size=[BATCH, 16, 16, 3]), tf.float32) for n in names}
        losses.append(step(views)["loss"].numpy())
    return model, losses


class PrecisionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(("mixed_bfloat16", 0.05), ("mixed_float16", 0.02))
    @pytest.mark.slow
    def test_training_is_near_float32(self, name, rtol):
        exact, exact_losses = train("float32")
        model, losses = train(name)
        self.assertAllClose(losses, exact_losses, rtol=rtol)
        backbone = model.encoder.backbone
        compute_dtypes = {layer.compute_dtype for layer in backbone.layers if layer.weights}
        self.assertEqual(compute_dtypes, {name.removeprefix("mixed_")})
        for variable in model.variables:
            self.assertNotIn(variable.dtype, (tf.float16, tf.bfloat16))
        self.assertEqual(model.base.queues["stage4"].keys.dtype, tf.float32)
        before, _ = train("float32", steps=0)
        start, end, expected = (
            np.concatenate([w.numpy().ravel() for w in m.trainable_weights])
            for m in (before, model, exact)
        )
        # The way that the weights went, not where they are: most of it is the start.
        moved, expected = end - start, expected - start
        cosine = moved @ expected / np.linalg.norm(moved) / np.linalg.norm(expected)
        self.assertGreater(cosine, 0.9)

    def test_an_overflow_is_left_out_and_lowers_the_scale(self):
        model, _ = train("mixed_float16", steps=1)
        before = [weight.numpy() for weight in model.trainable_weights]
        scale = float(model.optimizer.loss_scale)
        views = {name: tf.fill([BATCH, 16, 16, 3], np.float32(np.inf)) for name in model.view_names}
        model.train_step(views)
        for weight, value in zip(model.trainable_weights, before):
            self.assertAllEqual(weight, value)
        self.assertEqual(float(model.optimizer.loss_scale), scale / 2)

    def test_export_computes_in_float32(self):
        model, _ = train("mixed_bfloat16", steps=1)
        exported, _ = saved_model.make_export_models(model.encoder, (0.5,) * 3, (0.25,) * 3)
        self.assertEqual({layer.compute_dtype for layer in exported.layers}, {"float32"})
        images = np.random.default_rng(0).uniform(size=[3, 32, 32, 3]).astype("float32")
        expected = model.encoder.pooled_features((images - 0.5) / 0.25)
        self.assertAllClose(exported(images), expected, rtol=0.1, atol=0.02)

    def test_the_policy_ends_with_the_block(self):
        with precision.policy("mixed_bfloat16"):
            self.assertEqual(tf.keras.layers.Dense(1).compute_dtype, "bfloat16")
        self.assertEqual(tf.keras.layers.Dense(1).compute_dtype, "float32")

    def test_rejects_other_names(self):
        with (
            self.assertRaisesRegex(InputError, "PRECISION must be one of .*, got 'half'"),
            precision.policy("half"),
        ):
            pass


if __name__ == "__main__":
    tf.test.main()


class Bfloat16GainTest(tf.test.TestCase, parameterized.TestCase):
    def set_flags(self, text):
        path = pathlib.Path(self.get_temp_dir()) / "cpuinfo"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        self.enter_context(mock.patch.object(precision, "_CPU_INFO", path))

    @parameterized.parameters(
        ("processor: 0\nflags\t\t: fpu avx2 avx512_bf16 erms\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx512f avx512_bf16_like\nbugs: avx512_bf16\n", False),
        ("Features: fp asimd\n", False),
        (None, False),
    )
    def test_instructions(self, text, expected):
        self.set_flags(text)
        self.assertEqual(precision.has_bfloat16_instructions(), expected)

    def test_nothing_is_timed_without_instructions(self):
        self.set_flags("flags: avx2\n")
        with mock.patch.object(precision, "_convolution_s", side_effect=AssertionError):
            self.assertEqual(precision.bfloat16_gain(), 1.0)

    def test_both_can_be_timed(self):
        self.set_flags("flags: amx_bf16\n")
        self.assertGreater(precision.bfloat16_gain(), 0.0)

    def test_gain_is_how_many_times_as_fast(self):
        self.set_flags("flags: avx512_bf16\n")
        seconds = {tf.float32: 0.3, tf.bfloat16: 0.2}
        with mock.patch.object(precision, "_convolution_s", seconds.__getitem__):
            self.assertAlmostEqual(precision.bfloat16_gain(), 1.5)
