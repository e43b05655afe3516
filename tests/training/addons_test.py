import functools
import importlib.util
import subprocess
import sys
import unittest
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.training import addons, checkpoint, optim
from tests.training import run_state, tiny_run

needs_addons = unittest.skipIf(
    importlib.util.find_spec("tensorflow_addons") is None, "tensorflow-addons is not installed"
)
STEPS = 9
RATES = np.linspace(0.5, 0.1, STEPS)
SGD = functools.partial(optim.TorchSGD, 7.0, sgd_momentum=0.9, l2_weight_decay=0.1)
LOOKAHEAD = functools.partial(addons.Lookahead, SGD, sync_period=4, slow_step_size=0.25)
AVERAGE = functools.partial(
    addons.StochasticAverage,
    make_optimizer=SGD,
    start_share=0.2,
    average_every_steps=2,
    settle_steps=1,
)
MAKERS = {
    "lamb": addons.Lamb,
    "lookahead": LOOKAHEAD,
    "lookahead_lamb": functools.partial(addons.Lookahead, addons.Lamb, sync_period=2),
    "average": AVERAGE,
    "average_lookahead": functools.partial(AVERAGE, make_optimizer=LOOKAHEAD),
}


def make(maker):
    optimizer = maker()
    if isinstance(optimizer, addons.StochasticAverage):
        optimizer.plan(3, 3)
    return optimizer


class Fixed:
    """Variables whose gradients are known beforehand, and what an optimizer makes of them."""

    def __init__(self, names=("dense/kernel",), shape=(3, 2)):
        rng = np.random.default_rng(0)
        self.start = [rng.normal(size=shape).astype("float32") for _ in names]
        self.gradients = rng.normal(size=[STEPS, len(names), *shape]).astype("float32")
        self.variables = [tf.Variable(value, name=name) for value, name in zip(self.start, names)]

    def run(self, optimizer, compiled=True):
        """-> [STEPS, variables, ...], the variables after each step."""

        def apply(gradients):
            optimizer.apply_gradients(zip(tf.unstack(gradients), self.variables))

        optimizer.build(self.variables)
        apply = tf.function(apply) if compiled else apply
        results = []
        for rate, gradients in zip(RATES, self.gradients):
            optimizer.learning_rate.assign(rate)
            apply(tf.constant(gradients))
            results.append(np.stack([variable.numpy() for variable in self.variables]))
        return np.stack(results)


def lamb(parameter, gradients, decays, beta_1, beta_2, epsilon, weight_decay):
    """Algorithm 2 of arXiv:1904.00962, for one parameter."""
    m, v = np.zeros_like(parameter), np.zeros_like(parameter)
    results = []
    for t, (rate, gradient) in enumerate(zip(RATES, gradients), start=1):
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        update = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        ratio = 1.0
        if decays:
            update = update + weight_decay * parameter
            ratio = np.linalg.norm(parameter) / np.linalg.norm(update)
        parameter = parameter - rate * ratio * update
        results.append(parameter)
    return np.stack(results)


@needs_addons
class LambTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_matches_the_paper(self, compiled):
        names = ("dense/kernel", "dense/bias", "bn/gamma", "bn/beta", "layer/beta_kernel")
        settings = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "weight_decay": 0.3}
        fixed = Fixed(names)
        actual = fixed.run(addons.Lamb(7.0, **settings), compiled)
        for number, decays in enumerate((True, False, False, False, True)):
            start = fixed.start[number].astype("float64")
            expected = lamb(start, fixed.gradients[:, number], decays, **settings)
            self.assertAllClose(actual[:, number], expected, rtol=1e-4, atol=1e-4)

    def test_a_norm_of_0_leaves_the_step_as_it_is(self):
        variable = tf.Variable([[0.0, 0.0]], name="kernel")
        optimizer = addons.Lamb(0.5, epsilon=1e-12)
        optimizer.apply_gradients([(tf.constant([[3.0, -2.0]]), variable)])
        self.assertAllClose(variable, [[-0.5, 0.5]])

    def test_overflows_are_left_out(self):
        variable = tf.Variable([[1.0, 2.0]], name="kernel")
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(addons.Lamb(0.5))
        optimizer.build([variable])
        for gradient, moves in (([[np.inf, 1.0]], False), ([[2.0**15, 1.0]], True)):
            before = variable.numpy()
            scaled = optimizer.get_scaled_loss(tf.constant(0.0))
            gradients = optimizer.get_unscaled_gradients([tf.constant(gradient) + scaled])
            optimizer.apply_gradients(zip(gradients, [variable]))
            self.assertEqual(not np.array_equal(before, variable), moves)


@needs_addons
class LookaheadTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_matches_the_paper(self, compiled):
        fixed = Fixed(("first", "second"))
        actual = fixed.run(LOOKAHEAD(), compiled)
        fast, buffer = np.stack(fixed.start), 0.0
        slow = fast
        for step, (rate, gradient) in enumerate(zip(RATES, fixed.gradients), start=1):
            buffer = 0.9 * buffer + gradient + 0.1 * fast
            fast = fast - rate * buffer
            if step % 4 == 0:
                slow = fast = slow + 0.25 * (fast - slow)
            self.assertAllClose(actual[step - 1], fast, rtol=1e-4, atol=1e-4)

    def test_rejects(self):
        for options in ({"sync_period": 0}, {"slow_step_size": 0.0}, {"slow_step_size": 1.5}):
            with self.assertRaisesRegex(ValueError, "sync_period must be at least 1 and"):
                addons.Lookahead(SGD, **options)


@needs_addons
class StochasticAverageTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_is_the_mean_in_the_end(self, compiled):
        plain = Fixed(("first", "second")).run(SGD())
        optimizer = functools.partial(AVERAGE, settle_steps=2, average_every_steps=3)()
        self.assertEqual([*optimizer.plan(3, 3)], [3, 6])
        actual = Fixed(("first", "second")).run(optimizer, compiled)
        self.assertAllEqual(actual[:6], plain[:6])
        mean = (plain[3] + plain[6]) / 2
        for step in (6, 7, 8):
            self.assertAllClose(actual[step], mean)

    @parameterized.parameters(
        # 100 epochs of 50 steps, a snapshot after each from three quarters on.
        ((50, 100), {"settle_steps": 10}, range(3789, 4990, 50)),
        ((50, 100), {"start_share": 0.0, "settle_steps": 49}, range(0, 4951, 50)),
        (
            (5, 4),
            {"start_share": 0.5, "average_every_steps": 3, "settle_steps": 1},
            range(12, 19, 3),
        ),
    )
    def test_plan(self, run, options, expected):
        optimizer = addons.StochasticAverage(SGD, **options)
        self.assertEqual(optimizer.plan(*run), expected)
        start = options.get("start_share", 0.75) * run[0] * run[1]
        self.assertGreaterEqual(expected[0], start)
        self.assertLess(expected[0] - start, expected.step)
        self.assertEqual(run[0] * run[1] - 1 - expected[-1], options["settle_steps"])

    def test_rejects(self):
        for options in ({"start_share": 1.0}, {"settle_steps": 0}):
            with self.assertRaisesRegex(ValueError, "start_share must be in .0, 1. and"):
                addons.StochasticAverage(SGD, **options)
        for run in ((100, 50), (101, 4)):
            with self.assertRaisesRegex(InputError, "no two snapshots .* in a run of"):
                addons.StochasticAverage(SGD).plan(*run)
        with self.assertRaisesRegex(InputError, "call its plan"):
            AVERAGE().build([tf.Variable(1.0)])
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(make(AVERAGE))
        with self.assertRaisesRegex(InputError, "cannot follow float16"):
            optimizer.build([tf.Variable(1.0)])

    def test_a_run_ends_with_the_mean(self):
        """And with batch norm's statistics of the mean: those of the step before fade."""
        directory = tiny_run.make_temp_dir(self.addCleanup)
        model = tiny_run.run(directory, epochs=3, make_optimizer=AVERAGE)
        weights = model.encoder.trainable_variables
        means = [model.optimizer._addon.get_slot(weight, "average") for weight in weights]
        for weight, mean in zip(weights, means):
            self.assertAllEqual(weight, mean)
        self.assertGreater(np.abs(means[0]).max(), 0.0)


@needs_addons
class RunTest(tf.test.TestCase, parameterized.TestCase):
    """What a run asks of an optimizer: a checkpoint, replicas, XLA."""

    def make_model(self, maker, strategy=None):
        tf.keras.utils.set_random_seed(0)
        with (strategy or tf.distribute.get_strategy()).scope():
            norm = tf.keras.layers.LayerNormalization()
            model = tf.keras.Sequential(
                [tf.keras.layers.Dense(5, input_shape=[4]), norm, tf.keras.layers.Dense(2)]
            )
            model.compile(make(maker))
        return model

    def train(self, model, first, last, jit_compile=False):
        strategy, optimizer = model.distribute_strategy, model.optimizer

        @tf.function(jit_compile=jit_compile)
        def step(inputs):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(inputs) - 1.0) ** 2)
                loss /= strategy.num_replicas_in_sync
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))

        @tf.function
        def distributed_step(inputs):
            strategy.run(step.python_function, args=(inputs,))

        rng = np.random.default_rng(0)
        inputs = rng.normal(size=[STEPS, 6, 4]).astype("float32")
        for number in range(first, last):
            optimizer.learning_rate.assign(RATES[number] / 10)
            (step if jit_compile else distributed_step)(tf.constant(inputs[number]))
        return [variable.numpy() for variable in model.variables]

    @parameterized.parameters(*[(maker, 1) for maker in MAKERS], ("lookahead_lamb", 2))
    def test_goes_on_from_a_checkpoint(self, maker, replicas):
        """Bit for bit, slots and all, wherever the run was interrupted."""
        strategy = None
        if replicas == 2:
            strategy = tf.distribute.MirroredStrategy(
                ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
            )
        directory = tiny_run.make_temp_dir(self.addCleanup)
        ends = []
        for name, parts in (("whole", [STEPS]), ("parts", [2, 5, STEPS])):
            first = 0
            for last in parts:
                model = self.make_model(MAKERS[maker], strategy)
                files = checkpoint.RunCheckpoint(str(directory / name / "checkpoints"), model)
                self.assertEqual(files.restore().step, first)
                self.train(model, first, last)
                files.save(checkpoint.Progress(0, last))
                first = last
            ends.append(run_state.load(directory / name))
        whole, parts = ends
        self.assertEqual(whole.keys(), parts.keys())
        slots = {name.rsplit("/", 1)[-1] for name in whole if "OPTIMIZER_SLOT" in name}
        self.assertNotEmpty(slots)
        for name, value in whole.items():
            self.assertEqual(value.tobytes(), parts[name].tobytes(), name)

    @parameterized.parameters("lookahead_lamb", "average_lookahead")
    def test_two_replicas_are_one(self, maker):
        self.check_two_replicas(maker)

    @parameterized.parameters("lamb", "lookahead", "average")
    @pytest.mark.slow
    def test_two_replicas_are_one_of_the_others(self, maker):
        self.check_two_replicas(maker)

    def check_two_replicas(self, maker):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        one = self.train(self.make_model(MAKERS[maker]), 0, STEPS)
        two = self.train(self.make_model(MAKERS[maker], strategy), 0, STEPS)
        self.assertAllClose(one, two, rtol=1e-4, atol=1e-5)

    @parameterized.parameters("lamb", "lookahead", "average")
    def test_compiled_by_xla(self, maker):
        plain = self.train(self.make_model(MAKERS[maker]), 0, STEPS)
        model = self.make_model(MAKERS[maker])
        model.optimizer.build(model.trainable_variables)
        self.assertAllClose(plain, self.train(model, 0, STEPS, True), rtol=1e-4, atol=1e-5)

    @parameterized.parameters(*MAKERS)
    def test_variables(self, maker):
        """Each once, and none that is not there for a reason: steps, rate, slots."""
        model = self.make_model(MAKERS[maker])
        model.optimizer.build(model.trainable_variables)
        variables = model.optimizer.variables
        self.assertLen({id(variable) for variable in variables}, len(variables))
        self.assertEqual(sum(v.dtype == tf.int64 for v in variables), 1)
        self.train(model, 0, 3)
        self.assertEqual(model.optimizer.iterations.numpy(), 3)


@needs_addons
class OneKerasTest(tf.test.TestCase):
    def test_no_second_keras_is_imported(self):
        """It would take over the names by which exports and checkpoints find their classes."""
        program = (
            "import sys; from csml_tf.training import addons; addons.Lamb(); "
            "sys.exit(any(name.partition('.')[0] == 'keras' for name in sys.modules))"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", program]).returncode, 0)


class MissingTest(tf.test.TestCase):
    def test_says_what_to_choose(self):
        for maker, name in (
            (addons.Lamb, "Lamb"),
            (LOOKAHEAD, "Lookahead"),
            (AVERAGE, "StochasticAverage"),
        ):
            with (
                mock.patch.dict(sys.modules, {"tensorflow_addons.optimizers": None}),
                self.assertRaisesRegex(
                    InputError, f"^{name} comes from tensorflow-addons, .*: choose .* = @TorchSGD"
                ) as caught,
            ):
                maker()
            self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    tf.test.main()
