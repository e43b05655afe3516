import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.conversion import torch_weights
from csml_tf.errors import InputError
from csml_tf.models.backbones import contract, resnet
from tests.conversion import numpy_resnet


def shapes_of(model):
    return {
        layer.name: [weight.shape for weight in layer.weights]
        for layer in model.layers
        if layer.weights
    }


def without_counts(state):
    return {name: array for name, array in state.items() if "num_batches" not in name}


class BackboneTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((18, "imagenet"), (50, "imagenet"), (18, "cifar"))
    def test_computes_what_the_definition_does(self, depth, stem):
        state = numpy_resnet.random_state(depth, width=2, stem=stem)
        model = resnet.make_resnet(depth, 2, stem)
        layers = torch_weights.backbone_to_keras(state, shapes_of(model), "ResNet")
        for name, weights in layers.items():
            model.get_layer(name).set_weights(weights)
        images = np.random.default_rng(1).normal(size=[2, 37, 32, 3]).astype("float32")
        actual = model(images, training=False)
        expected = numpy_resnet.forward(state, images.transpose(0, 3, 1, 2))
        for stage in contract.STAGES:
            maps = expected[stage].transpose(0, 2, 3, 1)
            self.assertAllClose(actual[stage], maps, rtol=1e-4, atol=1e-4 * np.abs(maps).max())

    def test_there_and_back_is_the_same(self):
        state = numpy_resnet.random_state(50, width=1)
        layers = torch_weights.backbone_to_keras(
            state, shapes_of(resnet.make_resnet(50, 1)), "ResNet"
        )
        back = torch_weights.backbone_to_torch(layers, batches=7)
        self.assertEqual({*back}, {*state})
        for name, array in state.items():
            self.assertEqual(back[name].dtype, array.dtype)
            self.assertEqual(back[name].tobytes(), array.tobytes(), name)
            self.assertTrue(back[name].flags.c_contiguous)

    @parameterized.parameters("stem", "stage2_block1_shortcut", "stage4_block2_conv2_bn")
    def test_lists_every_missing_tensor(self, layer):
        state = without_counts(numpy_resnet.random_state(width=1))
        missing = [n for n in state if n.startswith(torch_weights.module_name(layer))]
        shapes = shapes_of(resnet.make_resnet(18, 1))
        tensors = {name: array for name, array in state.items() if name not in missing}
        with self.assertRaises(InputError) as caught:
            torch_weights.backbone_to_keras(tensors, shapes, "ResNet-18")
        message = f"lacks {len(missing)} of the {len(state)} tensors of a ResNet-18, "
        self.assertIn(message + ", ".join(missing), str(caught.exception))

    def test_refuses_a_variant(self):
        state = numpy_resnet.random_state(width=1)
        state["layer1.0.se.fc1.weight"] = np.zeros([1, 1])
        with self.assertRaisesRegex(InputError, "such as layer1.0.se.fc1.weight: it is of a var"):
            torch_weights.backbone_to_keras(
                state, shapes_of(resnet.make_resnet(18, 1)), "ResNet-18"
            )

    def test_refuses_another_shape(self):
        state = numpy_resnet.random_state(width=4)
        state["layer2.0.conv2.weight"] = state["layer2.0.conv2.weight"][:, :2]
        with self.assertRaisesRegex(InputError, r"layer2.0.conv2.weight is \[8, 2, 3, 3\] where"):
            torch_weights.backbone_to_keras(
                state, shapes_of(resnet.make_resnet(18, 4)), "ResNet-18"
            )

    def test_refuses_an_unknown_layer(self):
        with self.assertRaisesRegex(ValueError, "no layer 'predictions'"):
            torch_weights.backbone_to_torch({"predictions": [np.zeros([1, 1, 1, 1])]})

    def test_half_precision_becomes_single(self):
        state = {n: a.astype("float16") for n, a in numpy_resnet.random_state(width=1).items()}
        layers = torch_weights.backbone_to_keras(
            state, shapes_of(resnet.make_resnet(18, 1)), "ResNet"
        )
        self.assertEqual(
            {w.dtype for weights in layers.values() for w in weights}, {np.dtype("f4")}
        )


class HeadTest(tf.test.TestCase):
    def test_two_layers(self):
        head = numpy_resnet.random_head(4)
        pairs = [(head[f"{i}.weight"], head[f"{i}.bias"]) for i in (0, 2)]
        weights = torch_weights.head_to_keras(pairs)
        self.assertEqual([w.shape for w in weights], [(4, 4), (4,), (4, 5), (5,)])
        self.assertAllEqual(weights[2], head["2.weight"].T)
        back = torch_weights.head_to_torch(weights)
        self.assertEqual([*back], [f"fc.{name}" for name in head])
        for name, array in head.items():
            self.assertEqual(back[f"fc.{name}"].tobytes(), array.tobytes())

    def test_one_layer(self):
        back = torch_weights.head_to_torch([np.ones([3, 2]), np.ones([2])])
        self.assertEqual(
            {n: a.shape for n, a in back.items()}, {"fc.weight": (2, 3), "fc.bias": (2,)}
        )


if __name__ == "__main__":
    tf.test.main()
