import functools

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


def make_wide_backbone():
    """Two stages whose channels a bottleneck can divide by four."""
    images = tf.keras.Input([None, None, 3])
    maps, stages = images, {}
    for stage in ("stage3", "stage4"):
        maps = stages[stage] = tf.keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(maps)
    return tf.keras.Model(images, stages)


def convolve(maps, kernel):
    """Stride 1 and zeros around: [n, h, w, c], kernel [k, k, c, d] -> [n, h, w, d]."""
    size = len(kernel)
    margin = size // 2
    padded = np.pad(maps, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = maps.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


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

    @parameterized.parameters(18, 50)
    def test_extra_blocks(self, depth):
        """Residual blocks before one head, from their definition; nothing else changes."""
        plain = self.encoder
        make_blocks = functools.partial(resnet.make_blocks, depth=depth)
        made = encoder.MultiLevelEncoder(
            make_wide_backbone, {"stage3": 3, "stage4": 5}, 1, {"stage3": 2}, make_blocks
        )
        blocks = made.extra_blocks["stage3"]
        rng = np.random.default_rng(0)
        for variable in blocks.weights:  # Away from where batch norm does nothing.
            variable.assign(rng.uniform(0.2, 0.6, variable.shape))
        maps = made.backbone(IMAGES, training=False)
        rows = maps["stage3"].numpy()
        num_convolutions = 3 if depth == 50 else 2
        for block in (1, 2):
            inside = rows
            for number in range(1, num_convolutions + 1):
                name = f"stage3_extra_block{block}_conv{number}"
                inside = convolve(inside, blocks.get_layer(name).get_weights()[0])
                gamma, beta, mean, variance = blocks.get_layer(f"{name}_bn").get_weights()
                inside = gamma * (inside - mean) / np.sqrt(variance + 1e-5) + beta
                if number < num_convolutions:
                    inside = np.maximum(inside, 0)
            rows = np.maximum(rows + inside, 0)
        expected = made.heads["stage3"](rows.mean(axis=(1, 2)))
        actual = made(IMAGES, training=False)
        self.assertAllClose(actual["stage3"], expected, rtol=1e-4, atol=1e-5)
        pooled = maps["stage4"].numpy().mean(axis=(1, 2))
        self.assertAllClose(actual["stage4"], made.heads["stage4"](pooled), rtol=1e-5)
        self.assertAllClose(made.pooled_features(IMAGES), pooled, rtol=1e-5)
        self.assertEqual(plain.extra_blocks, {})
        trained = {id(variable) for variable in made.trainable_variables}
        self.assertContainsSubset({id(v) for v in blocks.trainable_variables}, trained)

    def test_batch_norm_of_extra_blocks_is_divided_as_the_rest(self):
        def make(bn_groups):
            return encoder.MultiLevelEncoder(
                functools.partial(resnet.make_resnet, 18, 2, bn_groups=4),
                {"stage3": 3, "stage4": 5},
                extra_blocks={"stage3": 1},
                make_blocks=functools.partial(resnet.make_blocks, depth=18, bn_groups=bn_groups),
            )

        made = make(4)
        made.divide_batch(2)
        layer = made.extra_blocks["stage3"].get_layer("stage3_extra_block1_conv1_bn")
        self.assertEqual((layer.num_groups, layer.batch_parts), (4, 2))
        with self.assertRaisesRegex(ValueError, r"as many groups in extra_blocks .*\[2, 4\]"):
            make(2)

    @parameterized.parameters(({"stage4": 1},), ({"stage1": 1},), ({"stage5": 1},))
    def test_rejects_extra_blocks(self, extra_blocks):
        with self.assertRaisesRegex(
            ValueError, r"levels out of \['stage2'\], those below the deep"
        ):
            encoder.MultiLevelEncoder(
                make_backbone, {"stage2": 3, "stage4": 5}, extra_blocks=extra_blocks
            )

    @parameterized.parameters([[{}]], [[{"stage5": 3}]], [[{"stage4": 3, "layer4": 3}]])
    def test_rejects_head_dims(self, arguments):
        with self.assertRaisesRegex(ValueError, "head_dims must name stages out of .*'stage4'"):
            encoder.MultiLevelEncoder(make_backbone, *arguments)


if __name__ == "__main__":
    tf.test.main()
