import functools

import numpy as np
import pytest
import tensorflow as tf

from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.models.backbones import resnet
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.zoo import initial_weights
from csml_tf.zoo.training_state import TrainingState
from tests.methods import made
from tests.training import tiny_run


def make_encoder(width=1, dim=5, bn_groups=1):
    make_backbone = functools.partial(resnet.make_resnet, 18, width, bn_groups=bn_groups)
    return MultiLevelEncoder(make_backbone, {"stage3": 4, "stage4": dim})


def make_model(num_negatives=6, **options):
    make = functools.partial(make_encoder, bn_groups=2, **options)
    return made.make_csml(make, num_negatives=num_negatives)


def randomize(encoder, seed):
    rng = np.random.default_rng(seed)
    encoder.set_weights([rng.uniform(size=w.shape) for w in encoder.get_weights()])
    return encoder


def layers_of(backbone):
    return {layer.name: layer.get_weights() for layer in backbone.layers if layer.weights}


class InitialWeightsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.query, cls.key = (randomize(make_encoder(), seed) for seed in (1, 2))
        cls.queue = np.random.default_rng(3).normal(size=[6, 5]).astype("float32")
        state = TrainingState(
            layers_of(cls.key.backbone), cls.key.heads["stage4"].get_weights(), cls.queue, 4
        )
        for name, arrays in (("whole", state.pack()), ("encoder", None)):
            saved_model.export(cls.query, cls.folder / name, (0.5,) * 3, (0.5,) * 3, {}, arrays)

    def load(self, name, model):
        """-> what the log says."""
        with self.assertLogs("absl", level="INFO") as logs:
            initial_weights.load(self.folder / name, model)
        return logs.records[-1].getMessage().split(": ", 1)[1]

    def assert_weights(self, actual, expected):
        for one, other in zip(actual.get_weights(), expected.get_weights()):
            self.assertAllEqual(one, other)

    def test_everything(self):
        model = make_model()
        fresh = [w.copy() for w in model.encoder.heads["stage3"].get_weights()]
        other_queue = model.base.queues["stage3"].keys.numpy()
        said = self.load("whole", model)
        query, key = model.encoder, model.base.key_encoder.encoder
        self.assert_weights(query.backbone, self.query.backbone)
        self.assert_weights(query.heads["stage4"], self.query.heads["stage4"])
        self.assert_weights(key.backbone, self.key.backbone)
        self.assert_weights(key.heads["stage4"], self.key.heads["stage4"])
        self.assertAllEqual(model.base.queues["stage4"].keys, self.queue)
        self.assertEqual(model.base.queues["stage4"].cursor, 4)
        # The other level is as in a new run: random, and alike in both encoders.
        self.assertAllEqual(query.heads["stage3"].get_weights()[0], fresh[0])
        self.assert_weights(key.heads["stage3"], query.heads["stage3"])
        self.assertAllEqual(model.base.queues["stage3"].keys, other_queue)
        self.assertEqual(
            said,
            "backbone, head of stage4, key encoder, queue of stage4; as in a new run: "
            "queue of stage3, head of stage3.",
        )

    def test_encoder_only(self):
        model = make_model()
        random_queue = model.base.queues["stage4"].keys.numpy()
        said = self.load("encoder", model)
        self.assert_weights(model.encoder.backbone, self.query.backbone)
        self.assert_weights(model.base.key_encoder.encoder, model.encoder)
        self.assertAllEqual(model.base.queues["stage4"].keys, random_queue)
        self.assertStartsWith(said, "backbone, head of stage4; as in a new run: key encoder, queue")

    def test_another_head(self):
        """Then neither its keys nor its key encoder's head mean anything."""
        model = make_model(dim=3)
        said = self.load("whole", model)
        self.assert_weights(model.base.key_encoder.encoder.backbone, self.key.backbone)
        head = model.encoder.heads["stage4"]
        self.assert_weights(model.base.key_encoder.encoder.heads["stage4"], head)
        self.assertStartsWith(said, "backbone, key encoder; as in a new run: head of stage4, queue")

    @pytest.mark.slow
    def test_another_queue(self):
        model = make_model(num_negatives=7)
        said = self.load("whole", model)
        self.assert_weights(model.encoder.heads["stage4"], self.query.heads["stage4"])
        self.assertEqual(model.base.queues["stage4"].cursor, 0)
        self.assertIn("as in a new run: queue of stage4", said)

    @pytest.mark.slow
    def test_another_network(self):
        with self.assertRaisesRegex(
            InputError,
            r"another network .* \(they differ in stem\): set BACKBONE = 'resnet', DEPTH = 18, "
            r"WIDTH = 1, make_resnet.stem = 'imagenet'\.",
        ):
            initial_weights.load(self.folder / "whole", make_model(width=2))

    def test_which_network(self):
        self.assertEqual(
            initial_weights.describe(self.folder / "encoder"),
            {"BACKBONE": "resnet", "DEPTH": 18, "WIDTH": 1, "STEM": "imagenet"},
        )
        for name, card, expected in (
            ("other", {"recipe": {"BACKBONE": "VGG16"}}, {"BACKBONE": "VGG16"}),
            ("unknown", {}, {}),
        ):
            saved_model.export(
                tiny_run.make_encoder(), self.folder / name, (0.5,) * 3, (0.5,) * 3, card
            )
            self.assertEqual(initial_weights.describe(self.folder / name), expected)


if __name__ == "__main__":
    tf.test.main()
