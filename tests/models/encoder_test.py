import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import encoder
from csml_tf.models.backbones import contract, resnet
from csml_tf.models.split_batch_norm import SplitBatchNormalization

IMAGES = np.random.default_rng(0).normal(size=[4, 16, 16, 3]).astype("float32")


def make_backbone():
    """Four stages, as a ResNet has, of one convolution each."""
    images = tf.keras.Input([None, None, 3])
    maps, stages = images, {}
    for i, stage in enumerate(contract.STAGES):
        maps = tf.keras.layers.Conv2D(2**i, 3, 1 if i == 0 else 2, "same")(maps)
        maps = tf.keras.layers.BatchNormalization()(maps)
        maps = stages[stage] = tf.keras.layers.ReLU()(maps)
    return tf.keras.Model(images, stages)


def make_mlp_head(stage, channels):
    features = x = tf.keras.Input([channels])
    x = tf.keras.layers.Dense(7, activation="tanh")(x)
    dim = 3 if stage == "stage2" else 5
    outputs = tf.keras.layers.UnitNormalization()(tf.keras.layers.Dense(dim)(x))
    return tf.keras.Model(features, outputs)


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

    def test_no_map_of_a_resnet_has_a_gradient_of_three_summands(self):
        """Or two runs of a seed would part. It is that of heads on the maps themselves."""
        made = encoder.MultiLevelEncoder(
            lambda: resnet.make_resnet(18, 2, "cifar"), {"stage2": 3, "stage4": 5}
        )

        def on_the_maps_themselves(images, training):
            maps = made.backbone(images, training=training)
            return {level: head(encoder.pool(maps[level])) for level, head in made.heads.items()}

        @tf.function(autograph=False)
        def gradients(embed):
            with tf.GradientTape() as tape:
                embeddings = embed(IMAGES, training=True)
                total = sum(tf.reduce_sum(value[:, 0]) for value in embeddings.values())
            return tape.gradient(total, made.trainable_variables)

        def most_summands(embed):
            operations = gradients.get_concrete_function(embed).graph.get_operations()
            sums = [op for op in operations if op.type == "AddN" and op.outputs[0].shape.rank == 4]
            return max(len(op.inputs) for op in sums)

        self.assertEqual((most_summands(made), most_summands(on_the_maps_themselves)), (2, 3))
        for actual, expected in zip(gradients(made), gradients(on_the_maps_themselves)):
            self.assertAllClose(actual, expected, rtol=1e-4, atol=1e-5)

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

    def test_heads_of_ones_own(self):
        made = encoder.MultiLevelEncoder(
            make_backbone, {"stage4": 5, "stage2": 3}, make_head=make_mlp_head
        )
        self.assertEqual(made.head_dims, {"stage2": 3, "stage4": 5})
        maps = made.backbone(IMAGES, training=False)
        for level, embeddings in made(IMAGES, training=False).items():
            hidden, hidden_bias, last, last_bias = made.heads[level].get_weights()
            pooled = maps[level].numpy().mean(axis=(1, 2))
            expected = np.tanh(pooled @ hidden + hidden_bias) @ last + last_bias
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
            self.assertAllClose(embeddings, expected, rtol=1e-4, atol=1e-5)
        trained = {id(variable) for variable in made.trainable_variables}
        for head in made.heads.values():
            self.assertContainsSubset({id(v) for v in head.trainable_variables}, trained)

    def test_rejects_a_head_of_another_length(self):
        with self.assertRaisesRegex(ValueError, "head of stage4 makes vectors of length 5, .*8"):
            encoder.MultiLevelEncoder(make_backbone, {"stage4": 8}, make_head=make_mlp_head)

    def test_network_without_batch_norm_is_divided_anyhow(self):
        def make():
            images = tf.keras.Input([None, None, 3])
            return tf.keras.Model(images, {"stage4": tf.keras.layers.Conv2D(4, 3)(images)})

        made = encoder.MultiLevelEncoder(make)
        made.divide_batch(replicas=2, accumulation_steps=2)
        self.assertEqual(made.bn_groups, 1)

    def test_batch_norm_inside_a_model_inside_is_divided(self):
        def make():
            images = tf.keras.Input([None, None, 3])
            norm = SplitBatchNormalization(4)
            inner = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3), norm])
            return tf.keras.Model(images, {"stage4": inner(images)})

        made = encoder.MultiLevelEncoder(make)
        made.divide_batch(2)
        self.assertEqual(made.bn_groups, 4)
        (norm,) = (n for n in made.submodules if isinstance(n, SplitBatchNormalization))
        self.assertEqual(norm.batch_parts, 2)

    @parameterized.parameters("relu", "tanh")
    def test_activation_of_any_kind_has_a_twin_for_the_head(self, activation):
        def make():
            images = tf.keras.Input([None, None, 3])
            maps = tf.keras.layers.Activation(activation)(tf.keras.layers.Conv2D(4, 3)(images))
            last = tf.keras.layers.Conv2D(4, 3)(maps)
            return tf.keras.Model(images, {"stage3": maps, "stage4": last})

        made = encoder.MultiLevelEncoder(make, {"stage3": 3, "stage4": 5})
        pooled = encoder.pool(made.backbone(IMAGES)["stage3"])
        self.assertAllClose(made(IMAGES)["stage3"], made.heads["stage3"](pooled), rtol=1e-5)

    def test_capped_relu_keeps_its_cap(self):
        def make():
            images = tf.keras.Input([None, None, 3])
            maps = tf.keras.layers.ReLU(0.1)(images)
            return tf.keras.Model(images, {"stage3": maps, "stage4": 2.0 * maps})

        made = encoder.MultiLevelEncoder(make, {"stage3": 3, "stage4": 3})
        pooled = np.clip(IMAGES, 0.0, 0.1).mean(axis=(1, 2))
        self.assertAllClose(made(IMAGES)["stage3"], made.heads["stage3"](pooled), rtol=1e-4)

    @parameterized.parameters(
        ([{}], "head_dims must name stages out of .*'stage4'"),
        ([{"stage5": 3}], "has no stage5, .* levels: choose levels out of stage1, .*stage4"),
        ([{"stage4": 3, "layer4": 3}], "has no layer4"),
    )
    def test_rejects_head_dims(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            encoder.MultiLevelEncoder(make_backbone, *arguments)


if __name__ == "__main__":
    tf.test.main()
