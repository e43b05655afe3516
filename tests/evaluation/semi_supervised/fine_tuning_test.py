import dataclasses
import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import labelled_batches
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation.semi_supervised import fine_tuning
from tests.methods import replicas_test

CLASSES = 3
SIZE = 4


def make_source(num_images=24):
    images = np.random.default_rng(0).integers(0, 256, [num_images, SIZE, SIZE, 3], np.uint8)
    return memory.MemorySource(images, np.arange(num_images) % CLASSES)


def make_plan(**changes):
    plan = fine_tuning.TrainingPlan(
        epochs=1,
        batch_size=24,
        backbone_learning_rate=0.01,
        head_learning_rate=0.5,
        schedule="cosine",
        # The whole image, not flipped: what a step sees is known.
        augmentation=labelled_batches.make_crop_and_flip(SIZE, (1.0, 1.0), 0.0),
    )
    return dataclasses.replace(plan, **changes)


def make_network(batch_norm=False):
    """Features = the pixels' mean, as one linear layer with weights; batch norm on request."""
    images = tf.keras.Input([SIZE, SIZE, 3])
    pixels = tf.keras.layers.GlobalAveragePooling2D()(images)
    features = tf.keras.layers.Dense(5, use_bias=False)(pixels)
    if batch_norm:
        features = tf.keras.layers.BatchNormalization(momentum=0.9)(features)
    return tf.keras.Model(images, features)


def make_classifier(weight_decay=0.0, batch_norm=False):
    tf.keras.utils.set_random_seed(0)
    network = make_network(batch_norm)
    return fine_tuning.Classifier(network, CLASSES, weight_decay), network


def loop_sgd(source, w, kernel, rates, steps, weight_decay):
    """Softmax regression on features = pixels @ w, both trained, every sum written out."""
    pixels = source.read(np.arange(len(source))).numpy().mean(axis=(1, 2)) / 255
    bias = np.zeros(CLASSES)
    parameters = [w.astype(float), kernel.astype(float), bias]
    buffers = [np.zeros_like(p) for p in parameters]
    for step in range(steps):
        w, kernel, bias = parameters
        gradients = [weight_decay * p for p in parameters]
        for x, label in zip(pixels, source.labels):
            features = x @ w
            scores = np.exp(features @ kernel + bias)
            error = (scores / scores.sum() - np.eye(CLASSES)[label]) / len(pixels)
            gradients[0] = gradients[0] + np.outer(x, kernel @ error)
            gradients[1] = gradients[1] + np.outer(features, error)
            gradients[2] = gradients[2] + error
        buffers = [0.9 * b + g for b, g in zip(buffers, gradients)]
        backbone_rate, head_rate = rates(step)
        parameters = [
            p - rate * b
            for p, b, rate in zip(parameters, buffers, (backbone_rate, head_rate, head_rate))
        ]
    return parameters


class ClassifierTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        rates=[(0.01, 0.5), (0.3, 0.02), (0.0, 0.5), (0.2, 0.0)], weight_decay=[0.0, 0.1]
    )
    def test_two_rates_as_loops(self, rates, weight_decay):
        source = make_source()
        classifier, network = make_classifier(weight_decay)
        weights = network.get_weights()
        classifier.start(weights, seed=3)
        kernel = classifier._head.kernel.numpy()
        plan = make_plan(
            epochs=3, backbone_learning_rate=rates[0], head_learning_rate=rates[1], schedule="step"
        )
        steps = classifier.train(source, source.labels, plan, 0, "test")
        self.assertEqual(steps, 3)

        def drop(epoch):  # At 60 % and 80 % of 3 epochs, rounded: both before epoch 2.
            return [rate * (1, 1, 0.01)[epoch] for rate in rates]

        expected = loop_sgd(source, weights[0], kernel, drop, 3, weight_decay)
        actual = [*network.get_weights(), *classifier._head.get_weights()]
        for ours, theirs in zip(actual, expected):
            self.assertAllClose(ours, theirs, rtol=1e-4, atol=1e-6)
        images = tf.cast(source.read([0, 1]), tf.float32) / 255
        scores = tf.reduce_mean(images, [1, 2]) @ expected[0] @ expected[1] + expected[2]
        self.assertAllClose(classifier.logits(images), scores, rtol=1e-3, atol=1e-5)

    def test_a_second_run_begins_anew(self):
        source = make_source()
        classifier, network = make_classifier(batch_norm=True)
        weights = network.get_weights()
        results = []
        for seed in (0, 0, 1):
            classifier.start(weights, seed)
            classifier.train(source, source.labels, make_plan(epochs=3, batch_size=8), seed, "x")
            results.append([*network.get_weights(), *classifier._head.get_weights()])
        self.assertAllEqual(results[0][0], results[1][0])
        for first, again in zip(*results[:2]):
            self.assertAllEqual(first, again)
        self.assertNotAllClose(results[0][-2], results[2][-2])

    def test_batch_norm_trains(self):
        source = make_source()
        classifier, network = make_classifier(batch_norm=True)
        mean = network.layers[-1].moving_mean
        weights = network.get_weights()
        classifier.start(weights, 0)
        plan = make_plan(backbone_learning_rate=0.0)
        classifier.train(source, source.labels, plan, 0, "test")
        pixels = source.read(np.arange(24)).numpy().mean(axis=(1, 2)) / 255
        self.assertAllClose(mean, 0.1 * (pixels @ weights[0]).mean(axis=0), rtol=1e-4)

    def test_labels_are_those_given(self):
        """All of class 2: after enough steps it is what every image is."""
        source = make_source()
        classifier, network = make_classifier()
        classifier.start(network.get_weights(), 0)
        classifier.train(source, np.full(24, 2), make_plan(epochs=30), 0, "test")
        images = tf.cast(source.read(tf.range(24)), tf.float32) / 255
        self.assertAllEqual(tf.argmax(classifier.logits(images), axis=1), np.full(24, 2))

    def test_epochs_differ_in_order(self):
        """The epochs of one dataset are those of `make_labelled_epoch`, one after the other."""
        source = make_source()
        classifier, network = make_classifier()
        classifier.start(network.get_weights(), 0)
        seen = []
        classifier._step = lambda images, labels: seen.append(images) or tf.zeros([])
        plan = make_plan(epochs=3, batch_size=10)
        self.assertEqual(classifier.train(source, source.labels, plan, 4, "test"), 6)
        expected = [
            images
            for epoch in range(3)
            for images, _ in labelled_batches.make_labelled_epoch(
                source, plan.augmentation, 10, 4, epoch
            )
        ]
        self.assertAllEqual(seen, expected)

    def test_replicas_are_one_device(self):
        source = make_source()
        results = []
        for replicas in (1, 2):
            with replicas_test.make_strategy(replicas).scope():
                classifier, network = make_classifier(weight_decay=0.1)
                classifier.start(network.get_weights(), 0)
                plan = make_plan(epochs=2, batch_size=8, head_learning_rate=0.3)
                classifier.train(source, source.labels, plan, 0, "test")
                results.append([*network.get_weights(), *classifier._head.get_weights()])
        for one, two in zip(*results):
            self.assertAllClose(one, two, rtol=1e-4, atol=1e-6)

    def test_rejects_rates_that_diverge(self):
        source = make_source()
        classifier, network = make_classifier()
        classifier.start(network.get_weights(), 0)
        plan = make_plan(epochs=50, backbone_learning_rate=1e20, head_learning_rate=1e20)
        with self.assertRaisesRegex(InputError, "no number any more in epoch .* lower the learn"):
            classifier.train(source, source.labels, plan, 0, "test")


class TrainingPlanTest(tf.test.TestCase):
    def test_learning_rates(self):
        plan = make_plan(epochs=10)
        for epoch in range(10):
            factor = (1 + math.cos(math.pi * epoch / 10)) / 2
            self.assertAllClose(plan.learning_rates(epoch), (0.01 * factor, 0.5 * factor))


if __name__ == "__main__":
    tf.test.main()
