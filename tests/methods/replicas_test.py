"""The same step on one replica and on several: logical CPUs under MirroredStrategy."""

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import cross_replica, encoder
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from csml_tf.training import optim
from tests.methods import made

GLOBAL_BATCH = 8
STEPS = 20


def make_strategy(replicas):
    if replicas == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)], tf.distribute.ReductionToOneDevice()
    )


def make_backbone(bn_groups):
    images = x = tf.keras.Input([None, None, 3])
    stages = {}
    for seed, (stage, channels) in enumerate((("stage3", 4), ("stage4", 6))):
        initializer = tf.keras.initializers.GlorotUniform(seed)
        x = tf.keras.layers.Conv2D(
            channels, 3, 2, "same", use_bias=False, kernel_initializer=initializer
        )(x)
        x = SplitBatchNormalization(bn_groups, momentum=0.9)(x)
        x = stages[stage] = tf.keras.layers.ReLU()(x)
    return tf.keras.Model(images, stages)


def make_batches(model):
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield {
            # Every image has its own brightness and contrast, so that groups differ.
            name: (
                rng.normal(size=[GLOBAL_BATCH, 8, 8, 3])
                * rng.uniform(0.3, 3.0, [GLOBAL_BATCH, 1, 1, 1])
                + rng.normal(size=[GLOBAL_BATCH, 1, 1, 1])
            ).astype("float32")
            for name in model.view_names
        }


def train(replicas, bn_groups, steps=STEPS, compile_options=None, **options):
    """-> (model, [{name of a loss: its mean so far} of each step])."""
    strategy = make_strategy(replicas)
    with strategy.scope():
        tf.keras.utils.set_random_seed(0)
        model = made.make_csml(
            lambda: encoder.MultiLevelEncoder(
                lambda: make_backbone(bn_groups), {"stage3": 4, "stage4": 5}
            ),
            num_negatives=20,  # The cursor wraps round inside a batch.
            ema_decay=0.9,
            neighbor_warmup_epochs=0,
            seed=3,
            **options,
        )
        model.compile(optim.TorchSGD(0.05), **(compile_options or {}))
    logs = []
    train_function = model.make_train_function()
    for batch in list(make_batches(model))[:steps]:
        parts = [np.split(values, replicas) for values in batch.values()]

        def own_part(context, names=tuple(batch), parts=parts):
            own = [part[context.replica_id_in_sync_group] for part in parts]
            return dict(zip(names, map(tf.constant, own)))

        views = strategy.experimental_distribute_values_from_function(own_part)
        logs.append({k: float(v) for k, v in train_function(iter([views])).items()})
    return model, logs


def copies(variable):
    return [copy.numpy() for copy in tf.nest.flatten(getattr(variable, "values", variable))]


class ReplicasTest(tf.test.TestCase, parameterized.TestCase):
    def test_twenty_steps_equal_those_of_one_replica(self):
        self.check_twenty_steps(replicas=2, bn_groups=4)

    @parameterized.parameters(
        (2, 1),
        (4, 1),
        (4, 4),
        (4, 4, {"num_small_views": 2}),
        (2, 4, {"pairs": True}),
        (4, 1, {"num_small_views": 2}),
        (2, 1, {"pairs": True, "num_small_views": 2}),
        (4, 8, {"cutmix_warmup_epochs": 1}),
        (2, 4, {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}),
    )
    @pytest.mark.slow
    def test_other_splits_and_recipes(self, replicas, bn_groups, options=None):
        self.check_twenty_steps(replicas, bn_groups, **(options or {}))

    def check_twenty_steps(self, replicas, bn_groups, **options):
        expected, expected_logs = train(1, bn_groups, **options)
        actual, actual_logs = train(replicas, bn_groups, **options)
        for a, b in zip(actual_logs, expected_logs):
            self.assertAllClose(a, b, rtol=1e-4)
        for a, b in zip(actual.trainable_weights, expected.trainable_weights):
            self.assertAllClose(a, b, rtol=1e-3, atol=1e-4)
        keys = (actual.base.key_encoder.encoder, expected.base.key_encoder.encoder)
        for a, b in zip(*(key.variables for key in keys)):
            self.assertAllClose(a, b, rtol=1e-3, atol=1e-4)  # Moving statistics included.
        for level, queue in actual.base.queues.items():
            self.assertAllClose(queue.keys, expected.base.queues[level].keys, atol=1e-4)
            self.assertEqual(queue.cursor.numpy(), STEPS * GLOBAL_BATCH % 20)

        self.check_inference(actual, replicas)
        for held in actual.base.queues.values():
            for variable in held.variables:
                self.check_copies(variable, replicas)
        for variable in (
            *actual.trainable_weights,
            *actual.base.key_encoder.encoder.trainable_weights,
        ):
            self.check_copies(variable, replicas)

    def check_inference(self, model, replicas):
        """Moving statistics differ between replicas until they are averaged."""
        statistics = model.base.key_encoder.encoder.non_trainable_variables
        means = [np.mean(copies(variable), axis=0) for variable in statistics]
        model.base.average_moving_statistics(model.distribute_strategy)
        for variable, mean in zip(statistics, means):
            self.check_copies(variable, replicas)
            self.assertAllClose(copies(variable)[0], mean, rtol=1e-6)

    def check_copies(self, variable, replicas):
        """Every replica holds the same bytes."""
        values = copies(variable)
        self.assertLen(values, replicas)
        for value in values[1:]:
            self.assertAllEqual(value, values[0])

    @pytest.mark.slow
    def test_groups_matter(self):
        together, _ = train(2, 1, steps=1)
        apart, _ = train(2, 2, steps=1)
        self.assertNotAllClose(
            together.base.queues["stage4"].keys, apart.base.queues["stage4"].keys, atol=1e-3
        )

    @parameterized.parameters((3, 2, 1), (1, 2, 2), (4, 4, 2))
    def test_rejects_groups_that_do_not_fall_on_parts(self, groups, replicas, accumulation_steps):
        made = encoder.MultiLevelEncoder(lambda: make_backbone(groups), {"stage4": 5})
        with self.assertRaisesRegex(
            ValueError, f"choose BN_GROUPS as a multiple of {replicas * accumulation_steps}"
        ):
            made.divide_batch(replicas, accumulation_steps)


class CrossReplicaTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(replicas=[1, 2, 4], by_sum=[True, False])
    def test_all_gather(self, replicas, by_sum):
        strategy = make_strategy(replicas)
        gather = cross_replica.all_gather_by_sum if by_sum else cross_replica.all_gather
        rows = np.arange(replicas * 6, dtype="float32").reshape([replicas, 2, 3])
        rows[0, 0, 0] = np.nan  # One replica's fault does not spread to other rows.

        @tf.function
        def run():
            def step():
                own = tf.constant(rows)[
                    tf.distribute.get_replica_context().replica_id_in_sync_group
                ]
                own = tf.ensure_shape(own, [2, 3])
                gathered = gather(own)
                return gathered, cross_replica.own_part(gathered)

            gathered, own = strategy.run(step)
            local = strategy.experimental_local_results
            return local(gathered), local(own)

        gathered, own = run()
        for value, part, expected in zip(gathered, own, rows):
            self.assertAllEqual(value, rows.reshape([-1, 3]))
            self.assertAllEqual(part, expected)

    def test_gather_by_sum_is_differentiable(self):
        strategy = make_strategy(2)
        cotangents = np.random.default_rng(0).normal(size=[2, 4, 3]).astype("float32")

        @tf.function
        def run():
            def step():
                replica = tf.distribute.get_replica_context().replica_id_in_sync_group
                own = tf.ones([2, 3])
                with tf.GradientTape() as tape:
                    tape.watch(own)
                    gathered = cross_replica.all_gather_by_sum(own)
                    total = tf.reduce_sum(gathered * tf.constant(cotangents)[replica])
                return tape.gradient(total, own)

            return strategy.experimental_local_results(strategy.run(step))

        # What all replicas lose by a row comes back to the replica that the row is from.
        expected = cotangents.sum(axis=0).reshape([2, 2, 3])
        self.assertAllClose(run(), expected, rtol=1e-5)


class AccumulationTest(tf.test.TestCase, parameterized.TestCase):
    def test_parts_give_the_whole_step(self):
        self.check_parts(1, 2)

    @parameterized.parameters((1, 4, {"num_small_views": 2}), (2, 2), (1, 4, {"pairs": True}))
    @pytest.mark.slow
    def test_other_parts(self, replicas, accumulation_steps, options=None):
        self.check_parts(replicas, accumulation_steps, **(options or {}))

    def check_parts(self, replicas, accumulation_steps, **options):
        whole, whole_logs = train(1, 4, **options)
        parts, parts_logs = train(replicas, 4, accumulation_steps=accumulation_steps, **options)
        for a, b in zip(parts_logs, whole_logs):
            self.assertAllClose(a, b, rtol=1e-4)
        for a, b in zip(parts.trainable_weights, whole.trainable_weights):
            self.assertAllClose(a, b, rtol=1e-3, atol=1e-4)
        for level, queue in parts.base.queues.items():
            self.assertAllClose(queue.keys, whole.base.queues[level].keys, atol=1e-4)


class CompiledTest(tf.test.TestCase, parameterized.TestCase):
    """XLA on a CPU, in place of a TPU: no dynamic shape, no operation of the host alone."""

    @pytest.mark.slow
    def test_one_replica(self):
        self.check_one_replica(num_small_views=2)

    @pytest.mark.slow
    def test_single_crop(self):
        self.check_one_replica()

    @pytest.mark.slow
    def test_pairs_and_a_waiting_cutmix(self):
        self.check_one_replica(pairs=True, cutmix_warmup_epochs=1)

    @pytest.mark.slow
    def test_accumulation(self):
        self.check_one_replica(accumulation_steps=2)

    def check_one_replica(self, **options):
        expected, expected_logs = train(1, 4, steps=5, **options)
        actual, actual_logs = train(1, 4, 5, {"jit_compile": True}, **options)
        self.assertAllClose(actual_logs, expected_logs, rtol=1e-4)
        for a, b in zip(actual.weights, expected.weights):
            self.assertAllClose(a, b, rtol=1e-3, atol=1e-4)

    def test_rejects_what_it_would_not_compile(self):
        with self.assertRaisesRegex(
            ValueError, "BN_GROUPS as a multiple of the 2 replicas, or JIT"
        ):
            train(2, 1, 0, {"jit_compile": True})

    @pytest.mark.slow
    def test_two_replicas(self):
        _, expected_logs = train(2, 4, steps=3)
        _, actual_logs = train(2, 4, 3, {"jit_compile": True})
        self.assertAllClose(actual_logs, expected_logs, rtol=1e-4)


if __name__ == "__main__":
    tf.test.main()
