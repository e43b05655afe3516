import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.training import optim

RATES = [0.1, 0.1, 0.5, 0.01, 0.2]


def loop_sgd(parameters, gradients, rates, sgd_momentum, weight_decay):
    """torch.optim.SGD, one number at a time."""
    results = []
    for i, parameter in enumerate(parameters):
        buffer = 0.0
        for step, rate in enumerate(rates):
            gradient = gradients[step][i] + weight_decay * parameter
            buffer = sgd_momentum * buffer + gradient
            parameter = parameter - rate * buffer
        results.append(parameter)
    return results


class TorchSGDTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        shapes = [(3, 4), (4,), ()]
        self.parameters = [rng.normal(size=shape).astype("float32") for shape in shapes]
        self.gradients = [
            [rng.normal(size=shape).astype("float32") for shape in shapes] for _ in RATES
        ]

    @parameterized.product(sgd_momentum=[0.0, 0.9], weight_decay=[0.0, 0.1], compiled=[True, False])
    def test_matches_loops(self, sgd_momentum, weight_decay, compiled):
        optimizer = optim.TorchSGD(7.0, sgd_momentum, weight_decay)
        variables = [tf.Variable(value) for value in self.parameters]

        def apply(gradients):
            optimizer.apply_gradients(zip(gradients, variables))

        optimizer.build(variables)
        apply = tf.function(apply) if compiled else apply
        for rate, gradients in zip(RATES, self.gradients):
            optimizer.learning_rate.assign(rate)
            apply([tf.constant(gradient) for gradient in gradients])
        expected = loop_sgd(self.parameters, self.gradients, RATES, sgd_momentum, weight_decay)
        for variable, value in zip(variables, expected):
            self.assertAllClose(variable, value, rtol=1e-5, atol=1e-5)
        self.assertEqual(optimizer.iterations.numpy(), len(RATES))

    def test_sums_in_the_order_of_the_formula(self):
        """Bit for bit, which a sum of three in an order of TensorFlow's choice is not."""
        rng = np.random.default_rng(0)
        momentum, decay, rate = np.float32([0.9, 5e-4, 0.06])
        parameter = rng.normal(size=[3, 3, 3, 8]).astype("float32")
        variable = tf.Variable(parameter)
        optimizer = optim.TorchSGD(rate, float(momentum), float(decay))
        optimizer.build([variable])
        apply = tf.function(lambda gradient: optimizer.apply_gradients([(gradient, variable)]))
        buffer = np.zeros_like(parameter)
        for _ in range(5):
            gradient = rng.normal(size=parameter.shape).astype("float32")
            decayed = gradient + decay * variable.numpy()
            rounded_twice = momentum * buffer + decayed
            rounded_once = (np.float64(momentum) * buffer + decayed).astype("float32")
            apply(tf.constant(gradient))
            buffer = optimizer.variables[-1].numpy()
            # Processors may multiply and add in one go.
            self.assertTrue(np.all((buffer == rounded_twice) | (buffer == rounded_once)))

    def test_every_parameter_decays(self):
        """Without a gradient batch norm and biases shrink by the same factor as kernels."""
        model = tf.keras.Sequential(
            [tf.keras.layers.Dense(3, input_shape=[2]), tf.keras.layers.BatchNormalization()]
        )
        variables = model.trainable_variables
        for variable in variables:
            variable.assign(tf.ones_like(variable))
        optimizer = optim.TorchSGD(0.5, sgd_momentum=0.9, l2_weight_decay=0.1)
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in variables])
        self.assertLen(variables, 4)
        for variable in variables:
            self.assertAllClose(variable, np.full(variable.shape, 0.95))

    def test_rows_of_an_embedding(self):
        """A sparse gradient decays the rows that it does not name, as a dense one does."""
        variables = [tf.Variable(np.ones([3, 2], "float32")) for _ in range(2)]
        sparse = tf.IndexedSlices(tf.ones([1, 2]), [1], [3, 2])
        for variable, gradient in zip(variables, [sparse, tf.convert_to_tensor(sparse)]):
            optim.TorchSGD(0.5, 0.9, 0.1).apply_gradients([(gradient, variable)])
        self.assertAllClose(variables[0], variables[1])
        self.assertAllClose(variables[0], [[0.95] * 2, [0.45] * 2, [0.95] * 2])

    def test_config(self):
        optimizer = optim.TorchSGD(0.3, sgd_momentum=0.8, l2_weight_decay=0.02, name="sgd")
        again = optim.TorchSGD.from_config(optimizer.get_config())
        self.assertEqual(again.get_config(), optimizer.get_config())
        settings = (again.sgd_momentum, again.l2_weight_decay, again.name)
        self.assertEqual(settings, (0.8, 0.02, "sgd"))
        self.assertAllClose(again.learning_rate, 0.3)

    def test_defaults_are_mocos(self):
        config = optim.TorchSGD().get_config()
        self.assertAllClose(config["learning_rate"], 0.03)
        self.assertEqual((config["sgd_momentum"], config["l2_weight_decay"]), (0.9, 1e-4))


class LarsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(weight_decay=[0.0, 0.1], compiled=[True, False])
    def test_matches_loops(self, weight_decay, compiled):
        rng = np.random.default_rng(0)
        shapes = [(3, 4), (4,), (2, 2)]
        values = [rng.normal(size=shape).astype("float32") for shape in shapes]
        values[2][:] = 0.0  # A parameter without length is not scaled.
        gradients = [[rng.normal(size=s).astype("float32") for s in shapes] for _ in RATES]
        optimizer = optim.Lars(7.0, 0.9, weight_decay, trust_coefficient=0.02)
        variables = [tf.Variable(value) for value in values]

        def apply(gradients):
            optimizer.apply_gradients(zip(gradients, variables))

        optimizer.build(variables)
        apply = tf.function(apply) if compiled else apply
        for rate, of_step in zip(RATES, gradients):
            optimizer.learning_rate.assign(rate)
            apply([tf.constant(gradient) for gradient in of_step])
        for i, (variable, value) in enumerate(zip(variables, values)):
            buffer = np.zeros_like(value)
            for rate, of_step in zip(RATES, gradients):
                change = of_step[i]
                if value.ndim > 1:
                    change = change + weight_decay * value
                    length = np.linalg.norm(value)
                    if length:
                        change = change * 0.02 * length / np.linalg.norm(change)
                buffer = 0.9 * buffer + change
                value = value - rate * buffer
            self.assertAllClose(variable, value, rtol=1e-5, atol=1e-5)

    def test_config(self):
        optimizer = optim.Lars(0.3, 0.8, 0.02, 0.01)
        again = optim.Lars.from_config(optimizer.get_config())
        self.assertEqual(again.get_config(), optimizer.get_config())
        self.assertEqual(again.trust_coefficient, 0.01)


class SchedulesTest(tf.test.TestCase, parameterized.TestCase):
    def test_cosine(self):
        for epoch in range(200):
            expected = 0.03 * 0.5 * (1 + math.cos(math.pi * epoch / 200))
            self.assertAllClose(optim.cosine_schedule(epoch, 200, 0.03), expected)

    def test_cosine_starts_at_the_peak_and_falls_towards_0(self):
        rates = [optim.cosine_schedule(epoch, 10, 0.5) for epoch in range(11)]
        self.assertEqual(rates[0], 0.5)
        self.assertAllClose(rates[-1], 0.0)
        self.assertAllLess(np.diff(rates), 0.0)

    def test_rise_then_cosine(self):
        rates = [optim.warmup_cosine_schedule(epoch, 30, 0.4, 10, 0.1) for epoch in range(30)]
        for epoch in range(10):
            self.assertAllClose(rates[epoch], 0.4 * (epoch + 0.5) / 10)
        for epoch in range(10, 30):
            expected = 0.04 + 0.36 * 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 20))
            self.assertAllClose(rates[epoch], expected)

    def test_a_rise_as_long_as_the_run(self):
        with self.assertRaisesRegex(ValueError, "fewer than the run's 10 epochs, got 10"):
            optim.warmup_cosine_schedule(0, 10, 0.4, 10)

    def test_steps_of_moco_v1(self):
        for epoch in range(200):
            expected = 0.03 * (0.1 if epoch >= 120 else 1) * (0.1 if epoch >= 160 else 1)
            self.assertAllClose(optim.step_schedule(epoch, 200, 0.03), expected)

    def test_steps_at_other_milestones(self):
        rates = [optim.step_schedule(epoch, 4, 8.0, (0.25, 0.5, 0.75), 0.5) for epoch in range(4)]
        self.assertEqual(rates, [8.0, 4.0, 2.0, 1.0])

    @parameterized.parameters((256, 0.03), (512, 0.06), (64, 0.0075))
    def test_scale(self, global_batch_size, expected):
        self.assertAllClose(optim.scale_learning_rate(0.03, global_batch_size), expected)


if __name__ == "__main__":
    tf.test.main()
