import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import encoder, resnet

IMAGES = np.random.default_rng(0).normal(size=[4, 16, 16, 3]).astype("float32")


def make_backbone():
    """Four stages, as a ResNet has, of one convolution each."""
    images = tf.keras.Input([None, None, 3])
    maps, stages = images, {}
    for i, stage in enumerate(resnet.STAGES):
        maps = tf.keras.layers.Conv2D(2**i, 3, 1 if i == 0 else 2, "same")(maps)
        maps = tf.keras.layers.BatchNormalization()(maps)
        maps = stages[stage] = tf.keras.layers.ReLU()(maps)
    return tf.keras.Model(images, stages)


class MultiLevelEncoderTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.encoder = encoder.MultiLevelEncoder(make_backbone, {"stage4": 5, "stage2": 3})

    @parameterized.parameters(True, False)
    def test_is_a_head_on_the_mean_of_each_map(self, training):
        maps = self.encoder.backbone(IMAGES, training=training)
        actual = self.encoder(IMAGES, training=training)
        self.assertCountEqual(actual, ["stage2", "stage4"])
        for level, embeddings in actual.items():
            pooled = maps[level].numpy().mean(axis=(1, 2))
            self.assertAllClose(embeddings, self.encoder.heads[level](pooled), rtol=1e-5)
        self.assertEqual([actual["stage2"].shape[1], actual["stage4"].shape[1]], [3, 5])

    def test_levels_go_from_shallow_to_deep(self):
        self.assertEqual(self.encoder.levels, ("stage2", "stage4"))
        self.assertEqual(list(self.encoder(IMAGES)), ["stage2", "stage4"])
        self.assertEqual(self.encoder.head_dims, {"stage2": 3, "stage4": 5})

    def test_has_its_weights_before_the_first_call(self):
        before = len(self.encoder.weights)
        self.encoder(IMAGES)
        self.assertLen(self.encoder.weights, before)
        backbone_and_heads = len(self.encoder.backbone.weights) + 2 * 4
        self.assertEqual(before, backbone_and_heads)

    def test_gradient_reaches_every_weight_of_the_levels(self):
        with tf.GradientTape() as tape:
            embeddings = self.encoder(IMAGES, training=True)
            total = sum(tf.reduce_sum(value[:, 0]) for value in embeddings.values())
        gradients = tape.gradient(total, self.encoder.trainable_variables)
        self.assertNotIn(None, gradients)

    def test_features_are_the_pooled_last_stage_in_inference_mode(self):
        before = self.encoder.get_weights()
        expected = self.encoder.backbone(IMAGES, training=False)["stage4"].numpy().mean(axis=(1, 2))
        self.assertAllClose(self.encoder.pooled_features(IMAGES), expected, rtol=1e-5)
        self.assertEqual(self.encoder.feature_dim, expected.shape[1])
        for value, start in zip(self.encoder.get_weights(), before):
            self.assertAllEqual(value, start)

    def test_embedding_is_the_deepest_level_in_inference_mode(self):
        expected = self.encoder(IMAGES, training=False)["stage4"]
        self.assertAllClose(self.encoder.embedding(IMAGES), expected, rtol=1e-5)

    def test_features_need_no_head(self):
        shallow = encoder.MultiLevelEncoder(make_backbone, {"stage1": 2})
        self.assertEqual(shallow.pooled_features(IMAGES).shape, [4, 8])
        self.assertEqual(shallow.embedding(IMAGES).shape, [4, 2])

    def test_one_level_of_128_by_default(self):
        self.assertEqual(encoder.MultiLevelEncoder(make_backbone).head_dims, {"stage4": 128})

    @parameterized.parameters(0, 2)
    def test_hidden_layers(self, hidden_layers):
        made = encoder.MultiLevelEncoder(make_backbone, {"stage4": 5}, hidden_layers)
        self.assertLen(made.heads["stage4"].get_weights(), 2 * (hidden_layers + 1))

    @parameterized.parameters(1, 4)
    def test_bn_groups(self, groups):
        made = encoder.MultiLevelEncoder(
            lambda: resnet.make_resnet(18, 2, bn_groups=groups), {"stage4": 5}
        )
        self.assertEqual(made.bn_groups, groups)

    @parameterized.parameters([[{}]], [[{"stage5": 3}]], [[{"stage4": 3, "layer4": 3}]])
    def test_rejects_head_dims(self, arguments):
        with self.assertRaisesRegex(ValueError, "head_dims must name stages out of .*'stage4'"):
            encoder.MultiLevelEncoder(make_backbone, *arguments)


if __name__ == "__main__":
    tf.test.main()
