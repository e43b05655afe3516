import types

import numpy as np
from absl import logging
from absl.testing import absltest

from csml_tf.data.sources import memory
from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.training import plan


def make_source(labels, names=None):
    images = np.zeros([len(labels), 8, 8], np.uint8)
    return memory.MemorySource(images, labels=labels, class_names=names, name="few")


def make_assembled(num_steps=20, epochs=10, batch=64, **options):
    parts = types.SimpleNamespace(epochs=epochs, global_batch_size=batch)
    model = types.SimpleNamespace(cross_samples=CrossSamples(**options))
    return types.SimpleNamespace(parts=parts, model=model, num_steps=num_steps)


class PlanTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(logging.INFO)

    def test_classes(self):
        self.assertEqual(
            plan.describe_classes(make_source([0, 1, 1], ["ant", "bee"])), ", 2 classes: ant, bee"
        )
        self.assertEqual(plan.describe_classes(make_source([1], ["ant", "bee"])), ", 1 class: bee")
        many = make_source(range(13), [str(number) for number in range(13)])
        self.assertEqual(plan.describe_classes(many), ", 13 classes")
        self.assertEqual(plan.describe_classes(make_source([0, 0, 2])), ", 2 classes")
        unknown = memory.MemorySource(np.zeros([3, 8, 8], np.uint8), name="few")
        self.assertEqual(plan.describe_classes(unknown), ", no labels")

    def test_data(self):
        source = make_source([0, 1, 1], ["ant", "bee"])
        with self.assertLogs("absl", "INFO") as logs:
            plan.log_data(source, (source, source))
        lines = [line.partition("absl:")[2] for line in logs.output]
        self.assertEqual(lines[0], "few: 3 images, 2 classes: ant, bee.")
        self.assertIn("labels of few, 3 images; tested on few, 3 images", lines[1])

    def test_training(self):
        assembled = make_assembled(num_steps=15)
        assembled.source = [None] * 1_000
        assembled.strategy = types.SimpleNamespace(num_replicas_in_sync=1)
        trained = [np.zeros([1_000, 300]), np.zeros([200_000])]  # An encoder, a predictor.
        kept = [np.zeros([1_000, 300])]
        assembled.model.base = types.SimpleNamespace(
            trained_variables=trained, variables=[*trained, *kept]
        )
        with self.assertLogs("absl", "INFO") as logs:
            plan.log_training(assembled)
        self.assertEndsWith(
            logs.output[0],
            "10 epochs of 15 steps of 64 images on 1 device: 150 steps; batches are whole, and "
            "40 images left of an epoch come in others.",
        )
        self.assertIn("0.5 million parameters are trained", logs.output[1])
        self.assertIn("take 5.2 MB on each device", logs.output[1])  # 4 * (0.5 + 0.3 + 0.5).

    def test_training_of_one_of_each(self):
        assembled = make_assembled(num_steps=1, epochs=1, batch=64)
        assembled.strategy = types.SimpleNamespace(num_replicas_in_sync=1)
        weights = [np.zeros([123])]
        assembled.model.base = types.SimpleNamespace(trained_variables=weights, variables=weights)
        for num_images, rest in (
            (64, ""),
            (65, "; batches are whole, and 1 image left of an epoch comes in others"),
        ):
            assembled.source = [None] * num_images
            with self.assertLogs("absl", "INFO") as logs:
                plan.log_training(assembled)
            self.assertEndsWith(
                logs.output[0], f"1 epoch of 1 step of 64 images on 1 device: 1 step{rest}."
            )
            self.assertIn("123 parameters are trained.", logs.output[1])
            self.assertIn("take 0.00098 MB on each device", logs.output[1])

    def test_finished(self):
        for epochs, said in ((1, "1 epoch is done"), (1200, "1,200 epochs are done")):
            with self.assertLogs("absl", "INFO") as logs:
                plan.log_finished("runs/a", epochs)
            self.assertIn(f"runs/a is finished: {said}.", logs.output[0])

    def test_warnings(self):
        counted = {"neighbor_warmup_epochs": 9}
        self.assertEmpty(plan.warnings(make_assembled(**counted)))
        (few,) = plan.warnings(make_assembled(num_steps=9, **counted))
        self.assertIn("9 steps only: lower GLOBAL_BATCH_SIZE, 64 now", few)
        (small,) = plan.warnings(make_assembled(num_steps=3, batch=16, **counted))
        self.assertIn("3 steps only: add images", small)
        (late,) = plan.warnings(make_assembled(neighbor_warmup_epochs=10))
        self.assertIn("Neighbors would never count: they wait 10 epochs of 10", late)
        alone = {"query_kinds": ("image",), "positive_weights": (1.0, 0.0)}
        self.assertEmpty(plan.warnings(make_assembled(neighbor_warmup_epochs=10, **alone)))


if __name__ == "__main__":
    absltest.main()
