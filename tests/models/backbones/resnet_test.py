import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models.backbones import contract, resnet

BATCH_NORMS = tf.keras.layers.BatchNormalization


def loop_windows(images, size, stride, padding, value):
    """-> [batch, rows, columns, size, size, channels], with `padding` on all four sides."""
    width = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    images = np.pad(images, width, constant_values=value)
    ends = [side - size + 1 for side in images.shape[1:3]]
    rows = []
    for top in range(0, ends[0], stride):
        row = [
            images[:, top : top + size, left : left + size] for left in range(0, ends[1], stride)
        ]
        rows.append(np.stack(row, axis=1))
    return np.stack(rows, axis=1)


def loop_conv(images, kernel, stride):
    windows = loop_windows(images, len(kernel), stride, len(kernel) // 2, value=0.0)
    return np.einsum("nhwijc,ijcd->nhwd", windows, kernel)


def loop_max_pool(images):
    return loop_windows(images, 3, 2, 1, value=-np.inf).max(axis=(3, 4))


class LoopResNet:
    """Parts of a model by the definition, in inference mode, from the weights of its layers."""

    def __init__(self, model):
        self.model = model

    def conv_bn(self, images, name, stride):
        layer = self.model.get_layer(name)
        gamma, beta, mean, variance = self.model.get_layer(f"{name}_bn").get_weights()
        maps = loop_conv(images, layer.get_weights()[0].astype("float64"), stride)
        return gamma * (maps - mean) / np.sqrt(variance + 1e-5) + beta

    def block(self, images, name, strides):
        """`strides` of its convolutions; the shortcut has a convolution if there is one."""
        maps = images
        for i, stride in enumerate(strides):
            maps = self.conv_bn(maps, f"{name}_conv{i + 1}", stride)
            if i < len(strides) - 1:
                maps = np.maximum(maps, 0.0)
        if f"{name}_shortcut" in [layer.name for layer in self.model.layers]:
            images = self.conv_bn(images, f"{name}_shortcut", max(strides))
        return np.maximum(maps + images, 0.0)


def make_with_statistics(**arguments):
    """A ResNet whose batch norms do something in inference mode."""
    model = resnet.make_resnet(**arguments)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, BATCH_NORMS):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def output_of(model, name, images):
    return tf.keras.Model(model.input, model.get_layer(name).output)(images, training=False)


class ResNetTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((18, 11_176_512), (50, 23_508_032), (101, 42_500_160))
    def test_as_many_parameters_as_torchvision_without_classifier(self, depth, expected):
        model = resnet.make_resnet(depth)
        self.assertEqual(sum(np.prod(v.shape) for v in model.trainable_variables), expected)

    @parameterized.parameters((34, 36), (152, 155))
    def test_number_of_convolutions(self, depth, expected):
        model = resnet.make_resnet(depth, width=1)
        convolutions = [v for v in model.layers if isinstance(v, tf.keras.layers.Conv2D)]
        self.assertLen(convolutions, expected)

    @parameterized.product(
        depth_and_expansion=[(18, 1), (50, 4)],
        stem_and_stride=[("imagenet", 4), ("cifar", 1)],
        size=[(64, 96), (33, 47)],
    )
    def test_strides_and_channels(self, depth_and_expansion, stem_and_stride, size):
        (depth, expansion), (stem, stride) = depth_and_expansion, stem_and_stride
        model = resnet.make_resnet(depth, width=2, stem=stem)
        self.assertEqual(tuple(model.output), contract.STAGES)
        for i, stage in enumerate(contract.STAGES):
            shape = model.compute_output_shape([2, *size, 3])[stage]
            sides = [-(-side // (stride * 2**i)) for side in size]
            self.assertEqual(tuple(shape), (2, *sides, 2 * 2**i * expansion))

    @parameterized.parameters([[32, 32]], [[33, 38]])
    def test_imagenet_stem_matches_loops(self, size):
        """Symmetric padding: 3 for the convolution, 1 for the pooling."""
        model = make_with_statistics(depth=18, width=2)
        images = np.random.default_rng(1).normal(size=[2, *size, 3]).astype("float32")
        maps = np.maximum(LoopResNet(model).conv_bn(images, "stem", 2), 0.0)
        self.assertAllClose(output_of(model, "stem_relu", images), maps, rtol=1e-4, atol=1e-4)
        actual = output_of(model, "stem_pool", images)
        self.assertAllClose(actual, loop_max_pool(maps), rtol=1e-4, atol=1e-4)

    def test_cifar_stem_matches_loops(self):
        model = make_with_statistics(depth=18, width=2, stem="cifar")
        images = np.random.default_rng(1).normal(size=[2, 7, 8, 3]).astype("float32")
        maps = np.maximum(LoopResNet(model).conv_bn(images, "stem", 1), 0.0)
        self.assertAllClose(output_of(model, "stem_relu", images), maps, rtol=1e-4, atol=1e-4)

    @parameterized.product(
        depth_and_strides=[(18, (2, 1)), (50, (1, 2, 1))], size=[(16, 16), (9, 14)]
    )
    def test_blocks_match_loops(self, depth_and_strides, size):
        """The first block of a stage halves the map, the second keeps it."""
        depth, strides = depth_and_strides
        model = make_with_statistics(depth=depth, width=2, stem="cifar")
        images = np.random.default_rng(1).normal(size=[2, *size, 3]).astype("float32")
        maps = output_of(
            model, "stage1_block2_relu" if depth == 18 else "stage1_block3_relu", images
        )
        reference = LoopResNet(model)
        maps = reference.block(maps.numpy(), "stage2_block1", strides)
        actual = output_of(model, "stage2_block1_relu", images)
        self.assertAllClose(actual, maps, rtol=1e-4, atol=1e-4)
        maps = reference.block(maps, "stage2_block2", [1] * len(strides))
        actual = output_of(model, "stage2_block2_relu", images)
        self.assertAllClose(actual, maps, rtol=1e-4, atol=1e-4)

    @parameterized.parameters(1, 2)
    def test_batch_norm_has_the_constants_of_pytorch(self, bn_groups):
        """PyTorch's momentum of 0.1 is Keras' 0.9."""
        model = resnet.make_resnet(18, width=1, bn_groups=bn_groups)
        layers = [layer for layer in model.layers if isinstance(layer, BATCH_NORMS)]
        self.assertLen(layers, 20)
        for layer in layers:
            self.assertEqual((layer.momentum, layer.epsilon), (0.9, 1e-5))
            self.assertEqual(getattr(layer, "num_groups", 1), bn_groups)

    def test_convolutions_start_with_fan_out(self):
        kernel = resnet.make_resnet(18, width=16).get_layer("stage4_block1_conv1").get_weights()[0]
        self.assertEqual(kernel.shape, (3, 3, 64, 128))
        self.assertAllClose(np.std(kernel), np.sqrt(2 / (9 * 128)), rtol=0.02)
        # Not truncated, as Keras' own "he_normal" is: at two deviations, that is.
        self.assertGreater(np.abs(kernel).max(), 3.5 * np.std(kernel))

    @parameterized.parameters(
        ({"depth": 20}, r"depth must be one of \[18, 34, 50, 101, 152\], got 20"),
        ({"stem": "mnist"}, "stem must be one of .*, got 'mnist'"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"bn_groups": 0}, "bn_groups must be at least 1, got 0"),
    )
    def test_rejects(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            resnet.make_resnet(**arguments)


if __name__ == "__main__":
    tf.test.main()
