import types

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from csml_tf.training import health
from csml_tf.training.health import Health


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class FiguresTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.spread = unit(rng.normal(size=[400, 8]))
        self.narrow = unit(1.0 + 1e-3 * rng.normal(size=[400, 8]))

    def test_effective_rank(self):
        axes = np.repeat(np.concatenate([np.eye(5), -np.eye(5)]), 3, axis=0)
        self.assertAlmostEqual(health.effective_rank(axes), 5.0)
        line = np.linspace(-1, 1, 9)[:, None] * np.ones([1, 4])
        self.assertAlmostEqual(health.effective_rank(line), 1.0)
        self.assertEqual(health.effective_rank(np.ones([6, 3])), 1.0)
        # Variances of 3 to 1: the entropy of (0.75, 0.25).
        uneven = np.array([[3**0.5, 0], [-(3**0.5), 0], [0, 1], [0, -1]])
        expected = np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
        self.assertAlmostEqual(health.effective_rank(uneven), expected)

    def test_stranger_cosine(self):
        cosines = self.spread.astype(np.float64) @ self.spread.T
        strangers = cosines[~np.eye(400, dtype=bool)]
        self.assertAlmostEqual(health.stranger_cosine(self.spread), strangers.mean(), places=6)
        self.assertAlmostEqual(health.stranger_cosine(np.ones([5, 1])), 1.0)

    def test_queue_entropy_share(self):
        few = self.spread[:5]
        shares = []
        for i in range(5):
            weights = np.exp([few[i] @ few[j] / 0.5 for j in range(5) if j != i])
            weights /= weights.sum()
            shares.append(-(weights * np.log(weights)).sum() / np.log(4))
        self.assertAlmostEqual(health.queue_entropy_share(few, 0.5), np.mean(shares), places=5)
        self.assertAlmostEqual(health.queue_entropy_share(np.ones([9, 1]), 0.1), 1.0, places=5)

    def measure(self, keys, epoch=2, **row):
        base = types.SimpleNamespace(
            query_encoder=types.SimpleNamespace(levels=("stage3", "stage4")),
            recent_embeddings={"stage4": tf.constant(keys)},
            temperature=0.1,
            chance_loss=6.0,
        )
        assembled = types.SimpleNamespace(model=types.SimpleNamespace(base=base))
        return Health(assembled).measure(epoch, row)

    def test_warns_of_collapse(self):
        with self.assertLogs(level="WARNING") as logs:
            figures = self.measure(self.narrow, loss_stage4_image=1.0)
        self.assertIn("embeddings collapse: after epoch 3 strangers have", logs.output[0])
        self.assertGreater(figures["stranger_cosine"], 0.99)
        self.assertCountEqual(figures, health.FIGURES)

    def test_warns_of_a_loss_at_chance(self):
        with self.assertLogs(level="WARNING") as logs:
            self.measure(self.spread, loss_stage4_image=5.99, loss_stage3_image=1.0)
        (line,) = logs.output
        self.assertIn("loss stays at chance: loss_stage4_image is 5.990 after epoch 3", line)

    def test_no_warning(self):
        with self.assertNoLogs(level="WARNING"):
            self.measure(self.spread, loss_stage4_image=3.0)
            self.measure(self.narrow, epoch=0, loss_stage4_image=6.0)  # The queue is new.


if __name__ == "__main__":
    absltest.main()
