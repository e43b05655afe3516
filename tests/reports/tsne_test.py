import numpy as np
from absl.testing import absltest
from sklearn import manifold

from csml_tf.reports import tsne

NUM_POINTS = 24


def make_points(dim, seed=0):
    return np.random.default_rng(seed).normal(size=[NUM_POINTS, dim])


def loop_affinities(points, precisions):
    """[n, n], row i is p[. | i] by its definition."""
    rows = np.zeros([len(points)] * 2)
    for i, point in enumerate(points):
        for j, other in enumerate(points):
            if i != j:
                rows[i, j] = np.exp(-precisions[i] * np.sum((point - other) ** 2))
        rows[i] /= rows[i].sum()
    return rows


def divergence(positions, joint):
    total = sum(
        1 / (1 + np.sum((a - b) ** 2))
        for i, a in enumerate(positions)
        for j, b in enumerate(positions)
        if i != j
    )
    return sum(
        joint[i, j] * np.log(joint[i, j] * total * (1 + np.sum((a - b) ** 2)))
        for i, a in enumerate(positions)
        for j, b in enumerate(positions)
        if i != j
    )


class TsneTest(absltest.TestCase):
    def test_affinities_have_the_perplexity(self):
        points = make_points(5)
        joint = tsne.joint_affinities(points, 6.0)
        # The precisions by a search of their own, between the values of a fine grid.
        grid = np.linspace(-4, 2, 101)
        tables = np.stack([loop_affinities(points, np.full(NUM_POINTS, np.exp(b))) for b in grid])
        entropies = -(tables * np.log(np.maximum(tables, 1e-300))).sum(axis=2)
        precisions = [
            np.exp(np.interp(-np.log(6.0), -entropies[:, i], grid)) for i in range(NUM_POINTS)
        ]
        rows = loop_affinities(points, precisions)
        np.testing.assert_allclose(joint, (rows + rows.T) / (2 * NUM_POINTS), atol=2e-5)
        self.assertAlmostEqual(float(joint.sum()), 1, places=5)

    def test_gradient(self):
        positions, joint = make_points(2, 1), tsne.joint_affinities(make_points(5), 6.0)
        joint = joint.astype(np.float64)
        slope = tsne.gradient(positions, joint)
        for i, axis in ((0, 0), (7, 1), (23, 0)):
            step = np.zeros_like(positions)
            step[i, axis] = 1e-5
            expected = divergence(positions + step, joint) - divergence(positions - step, joint)
            self.assertAlmostEqual(slope[i, axis], expected / 2e-5, places=6)

    def test_as_good_as_that_of_scikit_learn(self):
        points = np.float32(make_points(5) + 4 * np.eye(3, 5)[np.arange(NUM_POINTS) % 3])
        start = np.float32(1e-4 * make_points(2, 1))
        positions, done = tsne.embed(points, start, 6.0, 1000, seconds=600)
        self.assertEqual(done, 1000)
        joint = tsne.joint_affinities(points, 6.0).astype(np.float64)
        other = manifold.TSNE(perplexity=6, init=start, method="exact", learning_rate=50.0)
        expected = divergence(np.float64(other.fit_transform(points)), joint)
        self.assertLess(divergence(np.float64(positions), joint), 1.1 * expected)

    def test_stops_when_its_time_is_up(self):
        counts = []
        _, done = tsne.embed(make_points(5), make_points(2), 6.0, 10**9, 0.2, counts.append)
        self.assertLess(done, 10**6)
        self.assertEqual(counts, [1] * done)
        self.assertEqual(tsne.embed(make_points(5), make_points(2), 6.0, 9, seconds=0)[1], 1)


if __name__ == "__main__":
    absltest.main()
