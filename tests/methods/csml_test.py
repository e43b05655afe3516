"""Steps of `CsMl` against METHOD.md as loops in NumPy."""

import time
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.methods import cross_samples
from csml_tf.methods.cross_samples import ANCHOR_VIEWS, NEIGHBOR_VIEWS
from csml_tf.models import encoder
from csml_tf.models.backbones import resnet
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from csml_tf.training import optim
from tests.methods import loop_csml, made

BATCH, SIZE, SMALL_SIZE = 4, 12, 8
NUM_NEGATIVES = 10  # The third batch of keys wraps round.
EMA_DECAY = 0.7
TEMPERATURE = 0.3
LEARNING_RATE, SGD_MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 0.01
ONE_BOX = np.array([[2, 1, 9, 10]])


def make_backbone(bn_groups=1):
    """The outputs of a ResNet in a hundredth of its time."""
    images = tf.keras.Input([None, None, 3])
    maps, stages = images, {}
    for stage, channels in (("stage3", 4), ("stage4", 6)):
        maps = tf.keras.layers.Conv2D(channels, 3, 2, "same", use_bias=False)(maps)
        maps = SplitBatchNormalization(bn_groups, momentum=0.9)(maps)
        maps = stages[stage] = tf.keras.layers.ReLU()(maps)
    return tf.keras.Model(images, stages)


def make_resnet():
    return resnet.make_resnet(18, width=2, stem="cifar")


def make_model(
    head_dims=None, make_backbone=make_backbone, learning_rate=LEARNING_RATE, **settings
):
    head_dims = head_dims or {"stage4": 5}
    defaults = {
        "num_negatives": NUM_NEGATIVES,
        "ema_decay": EMA_DECAY,
        "temperature": TEMPERATURE,
    }
    model = made.make_csml(
        lambda: encoder.MultiLevelEncoder(make_backbone, head_dims), **{**defaults, **settings}
    )
    model.compile(optim.TorchSGD(learning_rate, SGD_MOMENTUM, WEIGHT_DECAY))
    # Away from the start, where both encoders are the same.
    rng = np.random.default_rng(5)
    for variable in model.base.key_encoder.encoder.trainable_variables:
        variable.assign_add(0.2 * rng.normal(size=variable.shape))
    return model


def make_views(seed, names=ANCHOR_VIEWS + NEIGHBOR_VIEWS):
    rng = np.random.default_rng(seed)
    sizes = {name: SMALL_SIZE if name in loop_csml.SMALL_VIEWS else SIZE for name in names}
    return {
        name: rng.normal(size=[BATCH, size, size, 3]).astype("float32")
        for name, size in sizes.items()
    }


def fixed_boxes(boxes):
    def random_boxes(seed, num_boxes, height, width, alpha):
        del seed, alpha
        assert (len(boxes), SIZE, SIZE) == (num_boxes, height, width)
        return tf.constant(boxes, tf.int32)

    return mock.patch.object(cross_samples.cutmix, "random_boxes", random_boxes)


ALL_KINDS = ("image", "neighbor", "mixed")
TWO_LEVELS = {"stage3": 4, "stage4": 5}
SETTINGS = [
    # The authors', with and without neighbors as positives.
    ("authors", {"epoch": 11}, {"own": 0.5, "other": 0.5}),
    ("warm_up", {"epoch": 10}, {"own": 1.0, "other": 0.0}),
    ("no_warm_up", {"epoch": 0, "neighbor_warmup_epochs": 0}, {"own": 0.5, "other": 0.5}),
    (
        "two_levels",
        {
            "epoch": 11,
            "head_dims": TWO_LEVELS,
            "level_weights": {"stage3": 0.3, "stage4": 1.5},
            "positive_weights": (0.7, 0.4),
        },
        {"own": 0.7, "other": 0.4, "level_weights": {"stage3": 0.3, "stage4": 1.5}},
    ),
    ("integers", {"epoch": 11, "positive_weights": (1, 2)}, {"own": 1.0, "other": 2.0}),
    (
        "shallow_only",
        {"epoch": 11, "head_dims": {"stage3": 5}},
        {"own": 0.5, "other": 0.5, "level_weights": {"stage3": 1.0}},
    ),
    (
        "two_kinds",
        {"epoch": 11, "query_kinds": ("mixed", "neighbor"), "positive_weights": (0.8, 0.2)},
        {"own": 0.8, "other": 0.2, "kinds": ("mixed", "neighbor")},
    ),
    (
        "neighbors_of_images",
        {"epoch": 11, "query_kinds": ("image",)},
        {"own": 0.5, "other": 0.5, "kinds": ("image",)},
    ),
    (
        "moco",
        {"epoch": 0, "query_kinds": ("image",), "positive_weights": (1.0, 0.0)},
        {"own": 1.0, "other": 0.0, "kinds": ("image",), "views": ("query", "key")},
    ),
    (
        "half_moco",
        {"epoch": 11, "query_kinds": ("image",), "positive_weights": (0.5, 0.0)},
        {"own": 0.5, "other": 0.0, "kinds": ("image",), "views": ("query", "key")},
    ),
    (
        "small_views",
        {
            "epoch": 11,
            "head_dims": TWO_LEVELS,
            "num_small_views": 2,
            "positive_weights": (0.7, 0.4),
            "level_weights": {"stage3": 0.3, "stage4": 1.5},
        },
        {
            "own": 0.7,
            "other": 0.4,
            "level_weights": {"stage3": 0.3, "stage4": 1.5},
            "kinds": (*ALL_KINDS, "small"),
            "views": ANCHOR_VIEWS + NEIGHBOR_VIEWS + loop_csml.SMALL_VIEWS,
        },
    ),
    (
        "small_views_of_moco",
        {
            "epoch": 0,
            "query_kinds": ("image",),
            "positive_weights": (1.0, 0.0),
            "num_small_views": 2,
        },
        {
            "own": 1.0,
            "other": 0.0,
            "kinds": ("image", "small"),
            "views": ANCHOR_VIEWS + loop_csml.SMALL_VIEWS,
        },
    ),
    (
        "pairs",
        {
            "epoch": 11,
            "pairs": True,
            "head_dims": TWO_LEVELS,
            "level_weights": {"stage3": 0.3, "stage4": 1.5},
            "positive_weights": (0.7, 0.4),
        },
        {
            "own": 0.7,
            "other": 0.4,
            "level_weights": {"stage3": 0.3, "stage4": 1.5},
            "kinds": ("image", "mixed"),
            "pairs": True,
            "views": ANCHOR_VIEWS,
        },
    ),
    (
        "pairs_without_cutmix",
        {"epoch": 11, "pairs": True, "query_kinds": ("image", "neighbor")},
        {
            "own": 0.5,
            "other": 0.5,
            "kinds": ("image",),
            "pairs": True,
            "views": ANCHOR_VIEWS,
        },
    ),
    (
        "pairs_with_all_else",
        {
            "epoch": 2,
            "pairs": True,
            "neighbor_warmup_epochs": 0,
            "cutmix_warmup_epochs": 2,
            "num_small_views": 2,
        },
        {
            "own": 0.5,
            "other": 0.5,
            "kinds": ("image", "mixed", "small"),
            "pairs": True,
            "views": ANCHOR_VIEWS + loop_csml.SMALL_VIEWS,
        },
    ),
    (
        "cutmix_waits",
        {"epoch": 2, "cutmix_warmup_epochs": 3, "neighbor_warmup_epochs": 0},
        {"own": 0.5, "other": 0.5, "kinds": ("image", "neighbor")},
    ),
    (
        "cutmix_has_waited",
        {"epoch": 3, "cutmix_warmup_epochs": 3},
        {"own": 1.0, "other": 0.0},
    ),
    ("resnet", {"epoch": 11, "make_backbone": make_resnet}, {"own": 0.5, "other": 0.5, "steps": 1}),
]


class StepTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(SETTINGS)
    def test_steps_match_loops(self, settings, expected):
        settings, expected = dict(settings), dict(expected)
        epoch = settings.pop("epoch")
        steps = expected.pop("steps", 3)
        view_names = expected.pop("views", ANCHOR_VIEWS + NEIGHBOR_VIEWS)
        model = make_model(**settings)
        model.epoch.assign(epoch)
        reference = loop_csml.LoopCsMl(
            model,
            settings.get("head_dims", {"stage4": 5}),
            settings.get("make_backbone", make_backbone),
            kinds=expected.pop("kinds", ALL_KINDS),
            level_weights=expected.pop("level_weights", {"stage4": 1.0}),
            sgd=(LEARNING_RATE, SGD_MOMENTUM, WEIGHT_DECAY),
            **expected,
        )
        self.assertEqual(model.view_names, view_names)
        for step in range(steps):
            views = make_views(step, view_names)
            model.reset_metrics()
            with fixed_boxes(ONE_BOX):
                logs = model.train_step(views)
            self.assertAllClose(logs, reference.step(views, ONE_BOX), rtol=1e-4)
            # Not close by standing still: the step moves them by a hundred times this.
            near = {"rtol": 1e-4, "atol": 1e-4}
            self.assertAllClose(model.encoder.trainable_variables, reference.queries, **near)
            keys = model.base.key_encoder.encoder.trainable_variables
            self.assertAllClose(keys, reference.keys, **near)
            for level, queue in model.base.queues.items():
                self.assertAllClose(queue.keys, reference.queues[level], **near)
                self.assertEqual(queue.cursor.numpy(), reference.cursor)

    def test_colours_left_to_the_device(self):
        def photometric(name, crops, uniforms):
            return tf.cast(crops, tf.float32) / 255.0 - uniforms[:, :1, None, None] * len(name)

        rng = np.random.default_rng(0)
        names = ANCHOR_VIEWS + NEIGHBOR_VIEWS
        crops = {
            name: (
                rng.integers(0, 256, size=[BATCH, SIZE, SIZE, 3], dtype=np.uint8),
                rng.uniform(size=[BATCH, 7]).astype("float32"),
            )
            for name in names
        }
        tf.keras.utils.set_random_seed(0)
        on_device = make_model(photometric=photometric).train_step(crops)
        tf.keras.utils.set_random_seed(0)
        finished = {name: photometric(name, *crops[name]) for name in names}
        self.assertAllClose(on_device, make_model().train_step(finished))

    def test_backward_passes_wait_for_each_other(self):
        """Each query kind starts when the gradients of the one before are there."""
        model = make_model()
        views = make_views(0)
        graph = tf.function(model.train_step, autograph=False).get_concrete_function(views).graph
        awaited = [
            {source.type for source in operation.control_inputs}
            for operation in graph.get_operations()
            if operation.type == "Identity"
            and len(operation.control_inputs) == len(model.trainable_variables)
        ]
        # A call as such is done when its assignments are: long before its gradients.
        self.assertEqual(awaited, [{"Identity"}, {"Identity"}])

    def test_moco_is_softmax_cross_entropy(self):
        model = make_model(query_kinds=("image",), positive_weights=(1.0, 0.0), ema_decay=1.0)
        views = make_views(0, ("query", "key"))
        queries = model.encoder(views["query"], training=True)["stage4"]
        keys = model.base.key_encoder(views["key"], training=True)["stage4"]
        hits = tf.reduce_sum(queries * keys, axis=1, keepdims=True)
        logits = tf.concat([hits, queries @ tf.transpose(model.base.queues["stage4"].keys)], axis=1)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.zeros(BATCH, tf.int32), logits / TEMPERATURE
        )
        self.assertAllClose(model.train_step(views)["loss"], tf.reduce_mean(cross_entropy))

    def test_only_the_anchors_keys_are_queued(self):
        model = make_model(ema_decay=1.0)
        views = make_views(0)
        keys = model.base.key_encoder(views["key"], training=True)["stage4"].numpy()
        neighbor_keys = model.base.key_encoder(views["neighbor_key"], training=True)[
            "stage4"
        ].numpy()
        start = model.base.queues["stage4"].keys.numpy()
        model.train_step(views)
        queue = model.base.queues["stage4"].keys.numpy()
        self.assertAllClose(queue[:BATCH], keys, atol=1e-5)
        self.assertAllEqual(queue[BATCH:], start[BATCH:])
        for key in neighbor_keys:
            self.assertGreater(np.abs(queue - key).max(axis=1).min(), 1e-3)

    def test_loss_is_the_weighted_sum_of_its_running_parts(self):
        model = make_model(TWO_LEVELS, level_weights={"stage3": 0.3, "stage4": 1.5})
        for step in range(2):
            logs = model.train_step(make_views(step))
        self.assertLen(logs, 7)
        self.assertEqual(set(logs), set(model.means.names))
        expected = sum(
            weight * logs[f"loss_{level}_{kind}"] / 3
            for level, weight in (("stage3", 0.3), ("stage4", 1.5))
            for kind in ALL_KINDS
        )
        self.assertAllClose(logs["loss"], expected)

    @parameterized.parameters((("image", "neighbor"),), (("image", "neighbor", "mixed"),))
    def test_pairs_are_both_roles_at_once(self, kinds):
        """Without batch norm, the loss is the mean over steps with either image as the anchor."""

        def make_plain_backbone():
            images = tf.keras.Input([None, None, 3])
            maps = tf.keras.layers.Conv2D(6, 3, 2, "same", activation="relu")(images)
            return tf.keras.Model(images, {"stage4": maps})

        views = make_views(0, ANCHOR_VIEWS)
        options = {"query_kinds": kinds, "make_backbone": make_plain_backbone, "learning_rate": 0.0}

        def loss(views, **others):
            tf.keras.utils.set_random_seed(0)
            model = make_model(**options, **others)
            model.epoch.assign(11)
            with fixed_boxes(ONE_BOX):
                return model.train_step(views)["loss"].numpy()

        roles = []
        for anchor, neighbor in ((0, 1), (1, 0)):
            chosen = {name: rows[anchor::2] for name, rows in views.items()}
            chosen.update({f"neighbor_{name}": rows[neighbor::2] for name, rows in views.items()})
            roles.append(loss(chosen))
        # Images and neighbors change places; only what is mixed into what differs.
        self.assertEqual(abs(roles[0] - roles[1]) > 1e-4, "mixed" in kinds)
        self.assertAllClose(loss(views, pairs=True), np.mean(roles), rtol=1e-5)

    def test_all_keys_of_pairs_are_queued(self):
        model = make_model(pairs=True, ema_decay=1.0)
        views = make_views(0, ANCHOR_VIEWS)
        keys = model.base.key_encoder(views["key"], training=True)["stage4"].numpy()
        model.train_step(views)
        self.assertAllClose(model.base.queues["stage4"].keys[:BATCH], keys, atol=1e-5)
        self.assertEqual(model.base.queues["stage4"].cursor.numpy(), BATCH)

    def test_trains_the_query_encoder_only(self):
        model = make_model()
        variables = model.encoder.trainable_variables
        self.assertEqual([id(v) for v in model.trainable_variables], [id(v) for v in variables])
        key_variables = model.base.key_encoder.encoder.variables
        self.assertEmpty({id(v) for v in key_variables} & {id(v) for v in variables})

    def test_key_encoder_gets_no_gradient(self):
        """With a decay of 1 its parameters stay what they are, to the last bit."""
        model = make_model(ema_decay=1.0)
        before = [v.numpy() for v in model.base.key_encoder.encoder.trainable_variables]
        queries = [v.numpy() for v in model.encoder.trainable_variables]
        model.train_step(make_views(0))
        for value, start in zip(model.base.key_encoder.encoder.trainable_variables, before):
            self.assertAllEqual(value, start)
        for value, start in zip(model.encoder.trainable_variables, queries):
            self.assertNotAllEqual(value, start)

    def test_call_is_the_query_encoder(self):
        model = make_model()
        images = make_views(0)["query"]
        self.assertAllClose(model(images), model.encoder(images, training=False))


class SeedTest(tf.test.TestCase, parameterized.TestCase):
    def queue_rows(self, bn_groups, seed):
        """The keys of the same images in two steps of an encoder that stands still."""
        model = make_model(
            make_backbone=lambda: make_backbone(bn_groups),
            learning_rate=0.0,
            ema_decay=1.0,
            seed=seed,
        )
        rng = np.random.default_rng(0)
        for variable in model.base.key_encoder.encoder.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
        for _ in range(2):
            model.train_step(make_views(0))
        return np.split(model.base.queues["stage4"].keys.numpy()[: 2 * BATCH], 2)

    def test_the_order_of_the_keys_does_not_matter_to_one_group(self):
        rows = [rows for seed in (0, 1) for rows in self.queue_rows(1, seed)]
        for other in rows[1:]:
            self.assertAllClose(other, rows[0], atol=1e-5)

    def test_groups_are_shuffled_by_seed_and_step(self):
        rows = [rows for seed in (0, 1) for rows in self.queue_rows(2, seed)]
        partitions = np.unique(np.round(rows, 4), axis=0)
        # Four images make three pairs of pairs.
        self.assertBetween(len(partitions), 2, 3)
        self.assertAllEqual(self.queue_rows(2, 0), rows[:2])

    def boxes(self, seed, **settings):
        drawn = []
        random_boxes = cross_samples.cutmix.random_boxes

        def record(*args):
            drawn.append(random_boxes(*args).numpy().tolist())
            self.assertEqual(args[-1], settings.get("cutmix_alpha", 2.0))
            return random_boxes(*args)

        model = make_model(seed=seed, **settings)
        with mock.patch.object(cross_samples.cutmix, "random_boxes", record):
            for _ in range(4):
                model.train_step(make_views(0))
        return drawn

    def test_boxes_are_drawn_by_seed_and_step(self):
        boxes = self.boxes(0)
        self.assertEqual(np.shape(boxes), (4, 1, 4))
        self.assertGreater(len(np.unique(boxes, axis=0)), 2)
        self.assertEqual(self.boxes(0), boxes)
        self.assertNotEqual(self.boxes(1), boxes)


class FitTest(tf.test.TestCase):
    def test_is_the_same_as_steps(self):
        views = [make_views(step) for step in range(3)]
        stacked = {name: np.stack([view[name] for view in views]) for name in views[0]}
        model, stepwise = make_model(), make_model()
        stepwise.encoder.set_weights(model.encoder.get_weights())
        stepwise.base.key_encoder.encoder.set_weights(model.base.key_encoder.encoder.get_weights())
        history = model.fit(tf.data.Dataset.from_tensor_slices(stacked), verbose=0).history
        for view in views:
            logs = stepwise.train_step(view)
        self.assertEqual(set(history), set(logs))
        for name, values in history.items():
            self.assertAllClose(values, [logs[name]], rtol=1e-4)
        for actual, expected in zip(model.base.variables, stepwise.base.variables):
            self.assertAllClose(actual, expected, rtol=1e-4, atol=1e-4)

    def test_epochs_start_new_means_and_the_epoch_counts(self):
        # Nothing moves, and each step writes the whole queue: from epoch 1 on only the
        # weights of the positives can change the loss.
        model = make_model(
            neighbor_warmup_epochs=2, learning_rate=0.0, ema_decay=1.0, num_negatives=BATCH
        )
        batches = tf.data.Dataset.from_tensors(make_views(0))
        counter = tf.keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: model.epoch.assign(epoch)
        )
        history = model.fit(batches, epochs=4, callbacks=[counter], verbose=0).history
        _, warm_up, first, second = history["loss_stage4_image"]
        self.assertNotAllClose(first, warm_up, rtol=1e-3)
        self.assertAllClose(second, first, rtol=1e-5)

    def test_waiting_for_the_input_is_counted(self):
        views = make_views(0, ("query", "key"))

        def slow_batches():
            for _ in range(4):
                time.sleep(0.2)
                yield views

        spec = {name: tf.TensorSpec(value.shape) for name, value in views.items()}
        batches = tf.data.Dataset.from_generator(slow_batches, output_signature=spec)
        model = make_model(query_kinds=("image",), positive_weights=(1, 0))
        self.assertEqual(model.input_wait_s, 0.0)
        model.fit(batches, verbose=0)
        first = model.input_wait_s
        self.assertGreater(first, 0.0)
        # Traced by now, the steps are short, and little of a wait hides behind a step.
        started = time.perf_counter()
        model.fit(batches, verbose=0)
        self.assertBetween(model.input_wait_s - first, 0.3, time.perf_counter() - started)


class ArgumentsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({"query_kinds": ("image", "blended")}, r"query_kinds must be out of .*'blended'"),
        ({"query_kinds": ()}, r"query_kinds must be out of .*, got \(\)"),
        ({"query_kinds": ("image", "image")}, "query_kinds must be out of"),
        ({"positive_weights": (1.0,)}, "positive_weights must be .* got"),
        ({"positive_weights": (1.0, -0.1)}, "positive_weights must be .* at least 0"),
        ({"ema_decay": 1.1}, r"ema_decay must be in \[0, 1\], got 1.1"),
        ({"ema_decay": -0.1}, r"ema_decay must be in \[0, 1\], got -0.1"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"cutmix_alpha": 0}, "cutmix_alpha must be above 0, got 0"),
        ({"num_negatives": 0}, "num_negatives must be at least 1, got 0"),
        ({"num_small_views": -1}, "num_small_views must be at least 0, got -1"),
        ({"cutmix_warmup_epochs": -1}, "cutmix_warmup_epochs must be at least 0, got -1"),
        ({"cutmix_warmup_epochs": 1, "query_kinds": ("mixed",)}, "Without another query"),
        ({"pairs": True, "query_kinds": ("image", "mixed")}, "query_kinds must have both, got"),
        ({"level_weights": {"stage3": 1.0}}, r"level_weights must name .*\['stage4'\]"),
        ({"level_weights": {"stage3": 1, "stage4": 1}}, "level_weights must name"),
    )
    def test_rejects(self, settings, message):
        with self.assertRaisesRegex(ValueError, message):
            make_model(**settings)

    @parameterized.parameters(
        ({}, 4),
        ({"query_kinds": ("image",)}, 4),
        ({"query_kinds": ("mixed",), "positive_weights": (1.0, 0.0)}, 4),
        ({"query_kinds": ["image"], "positive_weights": (1.0, 0.0)}, 2),
        ({"pairs": True}, 2),
    )
    def test_view_names(self, settings, expected):
        names = ("query", "key", "neighbor_query", "neighbor_key")
        self.assertEqual(make_model(**settings).view_names, names[:expected])
        model = make_model(num_small_views=1, **settings)
        self.assertEqual(model.view_names, (*names[:expected], "small_0"))

    def test_what_replicas_hold_alike(self):
        model = make_model()
        held = [*model.base.queues["stage4"].variables]
        self.assertLen(held, 2)
        for each in (model.encoder, model.base.key_encoder.encoder):
            held += each.trainable_variables
        shared = {id(variable) for variable in model.base.shared_state.values()}
        self.assertEqual(shared, {id(variable) for variable in held})


if __name__ == "__main__":
    tf.test.main()
