import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.evaluation import folded_graph
from csml_tf.models.backbones import contract, resnet

_BATCH_NORM = "FusedBatchNormV3"


def randomize(model):
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + rng.uniform(0.05, 0.3, variable.shape))
    return model


def make_signature(call, size=None):
    """A concrete function with named outputs, as the signatures of a SavedModel are."""
    spec = tf.TensorSpec([None, size, size, 3], tf.float32, name="images")
    return tf.function(call, input_signature=[spec]).get_concrete_function()


def count_ops(folded, name):
    graph = folded.__closure__[0].cell_contents.graph
    return [operation.type for operation in graph.get_operations()].count(name)


class FoldTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = np.random.default_rng(1).uniform(size=[3, 32, 32, 3]).astype(np.float32)

    @parameterized.parameters((18, "cifar"), (50, "imagenet"))
    def test_same_as_the_model(self, depth, stem):
        model = randomize(resnet.make_resnet(depth, 2, stem))
        signature = make_signature(functools.partial(model, training=False))
        outputs = folded_graph.fold(signature)(tf.constant(self.images))
        expected = model(self.images, training=False)
        self.assertEqual({*outputs}, {*contract.STAGES})
        for stage, maps in expected.items():
            self.assertAllClose(outputs[stage] / tf.reduce_max(maps), maps / tf.reduce_max(maps))

    def test_nothing_is_left_of_batch_norm(self):
        model = randomize(resnet.make_resnet(18, 2))
        signature = make_signature(functools.partial(model, training=False))
        folded = folded_graph.fold(signature)
        self.assertEqual(count_ops(folded, _BATCH_NORM), 0)
        self.assertEqual(count_ops(folded, "Conv2D"), count_ops(folded, "BiasAdd"))
        self.assertEqual(count_ops(folded, "ReadVariableOp"), 0)

    def make_parts(self):
        convolution = tf.keras.layers.Conv2D(4, 3, use_bias=False)
        norm = tf.keras.layers.BatchNormalization()
        randomize(tf.keras.Sequential([tf.keras.Input([None, None, 3]), convolution, norm]))
        return convolution, norm

    def check_kept(self, call, norms=1):
        folded = folded_graph.fold(make_signature(call))
        self.assertEqual(count_ops(folded, _BATCH_NORM), norms)
        found = folded(tf.constant(self.images))
        for name, tensor in call(self.images).items():
            self.assertAllClose(found[name], tensor, rtol=1e-5, atol=1e-5)

    def test_keeps_what_somebody_else_looks_at(self):
        convolution, norm = self.make_parts()

        def call(images):
            maps = convolution(images)
            return {"a": norm(maps, training=False), "b": maps}

        self.check_kept(call)

    def test_keeps_batch_statistics(self):
        convolution, norm = self.make_parts()

        def call(images):
            maps = convolution(images)
            mean, variance = tf.nn.moments(maps, [0, 1, 2])
            output, *_ = tf.compat.v1.nn.fused_batch_norm(
                maps, norm.gamma, norm.beta, mean, variance, epsilon=0.1, is_training=False
            )
            return {"a": output}

        self.check_kept(call)

    def test_float16_kernels(self):
        _, norm = self.make_parts()
        kernel = tf.Variable(tf.random.normal([3, 3, 3, 4], dtype=tf.float16))

        def call(images):
            maps = tf.nn.conv2d(images, tf.cast(kernel, tf.float32), 1, "SAME")
            return {"a": norm(maps, training=False)}

        self.check_kept(call, norms=0)

    def test_leaves_a_function_that_changes_its_weights(self):
        calls = tf.Variable(0.0)

        @tf.function
        def inner(images):
            calls.assign_add(1.0)
            return images + calls

        signature = make_signature(lambda images: {"a": inner(images)})
        self.assertIs(folded_graph.fold(signature), signature)

    def test_leaves_a_function_that_does_more_with_its_weights_than_read_them(self):
        table = tf.Variable([1.0, 2.0])
        # Looks numbers up in the variable itself.
        signature = make_signature(lambda images: {"a": images + tf.gather(table, [0])})
        self.assertIs(folded_graph.fold(signature), signature)

    def test_weights_are_as_they_were(self):
        convolution, norm = self.make_parts()
        bias, shift = tf.Variable(1.0), tf.constant([1.0, 2.0, 3.0, 4.0])

        def call(images):
            return {"a": norm(convolution(images), training=False) + bias + shift}

        expected = call(self.images)["a"]
        folded = folded_graph.fold(make_signature(call))
        for variable in (convolution.kernel, norm.gamma, bias):
            variable.assign(variable + 1.0)
        found = folded(tf.constant(self.images))["a"]
        self.assertAllClose(found, expected, rtol=1e-5, atol=1e-5)

    def test_order_of_outputs(self):
        self.check_kept(lambda images: {"b": images + 1.0, "a": images * 2.0}, norms=0)

    def test_inside_another_function(self):
        convolution, norm = self.make_parts()
        call = functools.partial(lambda images: {"a": norm(convolution(images), training=False)})
        folded = folded_graph.fold(make_signature(call))
        outer = tf.function(lambda images: folded(images)["a"] + 1.0)
        expected = norm(convolution(self.images), training=False) + 1.0
        self.assertAllClose(outer(tf.constant(self.images)), expected, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
