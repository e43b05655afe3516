"""One step of SimCLR, BYOL, MoCo v3 and SwAV against loops over the same embeddings."""

import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.methods.byol import BYOL
from csml_tf.methods.moco_v3 import MoCoV3
from csml_tf.methods.predicted_keys import rising_decay
from csml_tf.methods.simclr import SimCLR
from csml_tf.methods.swav import SwAV
from csml_tf.models import heads
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.training import optim
from tests.methods import loop_losses, made
from tests.methods.csml_test import make_backbone

BATCH, SIZE, DIM = 4, 12, 3
TEMPERATURE = 0.4
WEIGHTS = (0.7, 0.3)
PLAIN = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
CSML = {"positive_weights": WEIGHTS, "neighbor_warmup_epochs": 0}
SETTINGS = (("plain", PLAIN), ("csml", CSML), ("pairs", {**CSML, "pairs": True}))
VIEW_OF = {"image": "query", "neighbor": "neighbor_query"}
VIEW_OF.update({"image_2": "key", "neighbor_2": "neighbor_key"})
EPSILON, ITERATIONS, PROTOTYPES = 0.3, 3, 6


def make_head(stage, channels, unit_length=False):
    return heads.make_batch_norm_head(
        stage,
        channels,
        output_dim=DIM,
        hidden_dim=5,
        last_batch_norm="plain",
        unit_length=unit_length,
    )


def make_model(make_base, **settings):
    tf.keras.utils.set_random_seed(3)
    make_encoder = functools.partial(
        MultiLevelEncoder, make_backbone, {"stage4": DIM}, make_head=make_head
    )
    if make_base in (BYOL, MoCoV3):
        settings["make_predictor"] = functools.partial(heads.make_batch_norm_head, hidden_dim=4)
    model = made.make_csml(make_encoder, make_base=make_base, **settings)
    model.compile(optim.TorchSGD(1.0, 0.0, 0.0))
    return model


def make_views(names, seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=[BATCH, SIZE, SIZE, 3]).astype("float32") for n in names}


def swapped(rows):
    return rows.reshape(2, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)


class StepTest(tf.test.TestCase, parameterized.TestCase):
    def prepare(self, make_base, settings, **options):
        self.pairs = settings.get("pairs", False)
        self.model = make_model(make_base, **settings, **options)
        self.views = make_views(self.model.view_names)
        kinds = self.model.kinds_in_use
        self.queries = self.model.make_queries(self.views, tf.constant(0, tf.int64), kinds)

    def weights_of(self, kind):
        """From the definition; but the area of the box, which another test looks at."""
        if "neighbor_query" not in self.views and not self.pairs:
            of_view = [1.0]
        elif kind == "mixed":
            kept = float(self.queries[kind].weights[0, 0])
            self.assertBetween(kept, 0.001, 0.999)
            of_view = [kept, 1 - kept]
        else:
            of_view = WEIGHTS[::-1] if kind.startswith("neighbor") else WEIGHTS
        nothing = [0.0] * len(of_view)
        return [*nothing, *of_view] if kind.endswith("_2") else [*of_view, *nothing]

    def shares(self):
        sizes = {
            kind: 2.0 if self.pairs and kind.startswith("image") else 1.0 for kind in self.queries
        }
        return {kind: size / sum(sizes.values()) for kind, size in sizes.items()}

    def columns(self, of_views):
        """{view: [batch, dim]} -> [batch, columns, dim], in the order of the weights."""
        columns = []
        for view in ("key", "query"):
            columns.append(of_views[view])
            if self.pairs:
                columns.append(swapped(of_views[view]))
            elif f"neighbor_{view}" in of_views:
                columns.append(of_views[f"neighbor_{view}"])
        return np.stack(columns, axis=1)

    def mean_loss(self, queries, loss_of):
        """`loss_of(query, image, weights)`, as the model weighs it."""
        shares = self.shares()
        return sum(
            shares[kind] / BATCH * loss_of(query, i, self.weights_of(kind))
            for kind, rows in queries.items()
            for i, query in enumerate(rows)
        )

    def check_step(self, tape, outputs, expected_loss, loss_of):
        """Takes the step, and compares it with the gradient by differences through `outputs`."""
        arrays = {name: value.numpy() for name, value in outputs.items()}
        self.assertAllClose(expected_loss, loss_of(arrays))
        gradients = loop_losses.numeric_gradient(loss_of, arrays)
        variables = self.model.base.trained_variables
        before = [variable.numpy() for variable in variables]
        expected = tape.gradient(
            [outputs[name] for name in gradients],
            variables,
            [tf.constant(gradient, tf.float32) for gradient in gradients.values()],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        logs = self.model.train_step(self.views)
        self.assertAllClose(logs["loss"], expected_loss, rtol=1e-5)
        for variable, old, gradient in zip(variables, before, expected):
            self.assertAllClose(old - variable, gradient, rtol=1e-3, atol=2e-6)
            # Dense layers in front of batch norm have biases without a gradient.
            if "bias" not in variable.name:
                self.assertGreater(np.abs(gradient).max(), 1e-5, variable.name)

    def embed(self):
        encoder = self.model.encoder
        return {
            kind: encoder(query.images, training=True)["stage4"]
            for kind, query in self.queries.items()
        }

    @parameterized.named_parameters(*SETTINGS)
    def test_simclr(self, settings):
        self.prepare(SimCLR, settings, temperature=TEMPERATURE)
        with tf.GradientTape() as tape:
            outputs = self.embed()

        def loss_of(arrays):
            targets = self.columns({v: arrays[k] for k, v in VIEW_OF.items() if k in arrays})
            return self.mean_loss(
                arrays,
                lambda query, i, weights: loop_losses.simclr(
                    query, i, targets, weights, TEMPERATURE, self.pairs
                ),
            )

        expected = loss_of({name: value.numpy() for name, value in outputs.items()})
        self.check_step(tape, outputs, expected, loss_of)

    @parameterized.product(base=(BYOL, MoCoV3), settings=[each for _, each in SETTINGS])
    def test_predicted_keys(self, base, settings):
        options = {"temperature": TEMPERATURE} if base is MoCoV3 else {}
        self.prepare(base, settings, ema_decay=0.5, **options)
        # A key encoder that is another one than the query encoder.
        method = self.model.base
        for variable in method.key_encoder.encoder.trainable_variables:
            variable.assign_add(
                0.1
                * tf.cos(tf.range(tf.size(variable), dtype=tf.float32))
                .numpy()
                .reshape(variable.shape)
            )
        moved = [
            0.5 * key.numpy() + 0.5 * query.numpy()
            for key, query in zip(
                method.key_encoder.encoder.trainable_variables,
                self.model.encoder.trainable_variables,
            )
        ]
        copy = MultiLevelEncoder(make_backbone, {"stage4": DIM}, make_head=make_head)
        for variable, value in zip(copy.trainable_variables, moved):
            variable.assign(value)
        names = ["key", "query", "neighbor_key", "neighbor_query"]
        targets = self.columns(
            {
                name: copy(self.views[name], training=True)["stage4"].numpy()
                for name in names
                if name in self.views
            }
        )
        with tf.GradientTape() as tape:
            outputs = {
                kind: method.predictors["stage4"](embeddings, training=True)
                for kind, embeddings in self.embed().items()
            }

        def of_query(prediction, i, weights):
            if base is BYOL:
                return loop_losses.byol(prediction, i, targets, weights)
            return loop_losses.moco_v3(prediction, i, targets, weights, TEMPERATURE, self.pairs)

        def loss_of(arrays):
            return self.mean_loss(arrays, of_query)

        expected = loss_of({name: value.numpy() for name, value in outputs.items()})
        self.check_step(tape, outputs, expected, loss_of)

    @parameterized.named_parameters(*SETTINGS)
    def test_swav(self, settings):
        self.prepare(
            SwAV,
            settings,
            num_prototypes=PROTOTYPES,
            temperature=TEMPERATURE,
            epsilon=EPSILON,
            sinkhorn_iterations=ITERATIONS,
            frozen_epochs=0,
        )
        prototypes = self.model.base.prototypes["stage4"].vectors
        prototypes.assign(tf.math.l2_normalize(prototypes, axis=1))
        with tf.GradientTape() as tape:
            outputs = {**self.embed(), "prototypes": tf.identity(prototypes)}
        of_views = {
            view: loop_losses.unit(outputs[kind]) @ prototypes.numpy().T
            for kind, view in VIEW_OF.items()
            if kind in outputs
        }
        codes = self.columns(
            {
                view: loop_losses.sinkhorn(scores, EPSILON, ITERATIONS)
                for view, scores in of_views.items()
            }
        )

        def loss_of(arrays):
            queries = {name: rows for name, rows in arrays.items() if name != "prototypes"}
            # Their length is taken before the step, so the gradient is that of the vectors.
            vectors = arrays["prototypes"]

            def of_query(query, i, weights):
                logits = vectors @ loop_losses.unit(query) / TEMPERATURE
                log_shares = logits - np.log(np.exp(logits).sum())
                return -sum(w * codes[i, c] @ log_shares for c, w in enumerate(weights))

            return self.mean_loss(queries, of_query)

        expected = loss_of({name: value.numpy() for name, value in outputs.items()})
        self.check_step(tape, outputs, expected, loss_of)


class SwAVTest(tf.test.TestCase, parameterized.TestCase):
    def make(self, **options):
        make_encoder = functools.partial(MultiLevelEncoder, make_backbone, {"stage4": DIM})
        options = {"num_prototypes": PROTOTYPES, "queue_length": 8, **options}
        return SwAV(make_encoder, epsilon=EPSILON, **options)

    def test_codes_with_the_queue(self):
        """Of the batch alone until the queue is full, then of the batch and what is in it."""
        method = self.make(queue_from_epoch=1)
        rng = np.random.default_rng(0)
        vectors = method.prototypes["stage4"].vectors.numpy()
        earlier = []
        for step in range(5):
            method.before_step(tf.constant(0.0), tf.constant(step // 3, tf.int64))
            embeddings = rng.normal(size=[BATCH, 4, DIM]).astype("float32")
            codes = method.targets_of_queries({"stage4": tf.constant(embeddings)})["stage4"]
            unit = loop_losses.unit(embeddings)
            for column in range(4):
                rows = [unit[:, column]]
                if step >= 3:  # Two batches fill it; the epoch lets it count from the fourth on.
                    rows += [batch[:, column // 2 * 2] for batch in earlier[:2]]
                scores = np.concatenate(rows) @ vectors.T
                expected = loop_losses.sinkhorn(scores, EPSILON, 3)[:BATCH]
                self.assertAllClose(codes[:, column], expected, rtol=1e-4, atol=1e-5)
            earlier.insert(0, unit)

    @parameterized.parameters((0, True), (1, False))
    def test_prototypes_stand_still_at_first(self, epoch, stands_still):
        model = make_model(
            SwAV, **PLAIN, num_prototypes=PROTOTYPES, frozen_epochs=1, temperature=TEMPERATURE
        )
        model.epoch.assign(epoch)
        vectors = model.base.prototypes["stage4"].vectors
        before = vectors.numpy()
        model.train_step(make_views(model.view_names))
        if stands_still:
            self.assertAllClose(vectors, before, rtol=1e-6)
        else:
            self.assertNotAllClose(vectors, before)

    def test_prototypes_have_unit_length_in_each_step(self):
        method = self.make()
        vectors = method.prototypes["stage4"].vectors
        vectors.assign(3.0 * vectors)
        method.before_step(tf.constant(0.0), tf.constant(0, tf.int64))
        self.assertAllClose(tf.norm(vectors, axis=1), np.ones(PROTOTYPES))

    @parameterized.parameters(
        ({"num_prototypes": 1}, "num_prototypes must be at least 2, got 1"),
        ({"epsilon": 0.0}, "temperature and epsilon must be above 0, got 0.1 and 0"),
        ({"queue_length": -1}, "queue_length must be at least 0, got -1"),
    )
    def test_rejects(self, options, message):
        with self.assertRaisesRegex(ValueError, message):
            SwAV(functools.partial(MultiLevelEncoder, make_backbone, {"stage4": DIM}), **options)

    def test_a_queue_below_the_batch(self):
        with self.assertRaisesRegex(
            ValueError, "queue of 8 embeddings is smaller than the batch of 9"
        ):
            self.make().check(9, 100, "images")

    def test_warns_of_too_few_rows(self):
        with self.assertLogs(level="WARNING") as logs:
            self.make(num_prototypes=20).check(8, 100, "images")
        self.assertIn("20 prototypes cannot all be used by 16 embeddings", logs.output[0])


class YoungPairsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(SimCLR, BYOL, MoCoV3, SwAV)
    def test_until_neighbors_count_the_step_is_that_of_the_base(self, base):
        waits = {"neighbor_warmup_epochs": 2, "cutmix_warmup_epochs": 1}
        steps = {}
        for name, settings in (("plain", PLAIN), ("pairs", {**CSML, **waits, "pairs": True})):
            model = make_model(base, **settings)
            for epoch in (0, 1):
                model.epoch.assign(epoch)
                loss = model.train_step(make_views(model.view_names, seed=epoch))["loss"]
                weights = [variable.numpy() for variable in model.trainable_variables]
                steps[name, epoch] = [loss, *weights]
        for ours, plain in zip(steps["pairs", 0], steps["plain", 0]):
            # Two graphs may round apart, by 1.2e-7 as seen.
            self.assertAllClose(ours, plain, rtol=1e-5, atol=1e-6)
        self.assertNotAllClose(steps["plain", 1][0], steps["pairs", 1][0])


class RisingDecayTest(tf.test.TestCase):
    def test_formula(self):
        for progress in (0.0, 0.1, 0.7, 1.0):
            expected = 1 - 0.004 * (np.cos(np.pi * progress) + 1) / 2
            self.assertAllClose(rising_decay(0.996, progress), expected, rtol=1e-7)

    def test_key_encoder_follows_by_it(self):
        model = make_model(BYOL, **PLAIN, ema_decay=0.6)
        model.steps_of_run.assign(4)
        model.optimizer.iterations.assign(2)
        key = model.base.key_encoder.encoder.trainable_variables[0]
        key.assign_add(tf.ones_like(key))
        query = model.encoder.trainable_variables[0].numpy()
        model.train_step(make_views(model.view_names))
        self.assertAllClose(key, query + 0.8, rtol=1e-5)


class BadInputTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(base=(SimCLR, BYOL, MoCoV3, SwAV))
    def test_a_batch_of_one(self, base):
        with self.assertRaisesRegex(ValueError, "at least 2"):
            make_model(base, **PLAIN).check(1, 100, "images")

    def test_a_batch_of_one_pair(self):
        with self.assertRaisesRegex(ValueError, "at least 4"):
            make_model(SimCLR, **CSML, pairs=True).check(2, 100, "images")

    def test_an_odd_batch_of_pairs(self):
        with self.assertRaisesRegex(ValueError, "whole pairs"):
            make_model(SimCLR, **CSML, pairs=True).check(5, 100, "images")

    def test_groups_of_one_image(self):
        make_encoder = functools.partial(
            MultiLevelEncoder,
            functools.partial(make_backbone, 4),
            {"stage4": 256},
            make_head=functools.partial(heads.make_batch_norm_head, bn_groups=4),
        )
        model = made.make_csml(make_encoder, make_base=SimCLR, **PLAIN)
        with self.assertRaisesRegex(ValueError, "one image each"):
            model.check(4, 100, "images")

    @parameterized.product(base=(BYOL, MoCoV3), decay=(-0.1, 1.1))
    def test_a_decay_out_of_range(self, base, decay):
        with self.assertRaisesRegex(ValueError, r"ema_decay must be in \[0, 1\], got"):
            make_model(base, **PLAIN, ema_decay=decay)


if __name__ == "__main__":
    tf.test.main()
