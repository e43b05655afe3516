from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn.metrics import average_precision_score

from csml_tf import similarity
from csml_tf.evaluation.retrieval import average_precision


def make_gallery(seed, count, num_classes=4, dim=3):
    """Small integers: products without rounding, many of them equal."""
    rng = np.random.default_rng(seed)
    features = rng.integers(-1, 2, [count, dim]).astype("float32")
    return features, rng.integers(0, num_classes, count)


class AveragePrecisionsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(block_pairs=[1, 130, 2**26], dim=[3, 16])
    def test_matches_scikit_learn(self, block_pairs, dim):
        gallery, labels = make_gallery(0, 60, dim=dim)
        queries, query_labels = make_gallery(1, 20, dim=dim)
        expected = [
            average_precision_score(labels == label, gallery @ query)
            for query, label in zip(queries, query_labels)
        ]
        with mock.patch.object(average_precision, "_BLOCK_PAIRS", block_pairs):
            actual = average_precision.average_precisions(queries, query_labels, gallery, labels)
        self.assertAllClose(actual, expected, atol=1e-9)

    @parameterized.parameters(3, 16)
    def test_leaves_out_the_query_itself(self, dim):
        gallery, labels = make_gallery(0, 40, dim=dim)
        own = np.array([7, 3, 39, 0])
        actual = average_precision.average_precisions(
            gallery[own], labels[own], gallery, labels, own
        )
        for query, precision in zip(own, actual):
            others = np.arange(len(gallery)) != query
            expected = average_precision_score(
                labels[others] == labels[query], gallery[others] @ gallery[query]
            )
            self.assertAlmostEqual(precision, expected)

    def test_matches_the_definition_in_loops(self):
        rng = np.random.default_rng(2)
        gallery = similarity.l2_normalize(rng.normal(size=[30, 8]))
        labels = rng.integers(0, 3, 30)
        query, label = similarity.l2_normalize(rng.normal(size=[1, 8])), 1
        ranking = np.argsort(-(gallery @ query[0]), kind="stable")
        hits, precisions = 0, []
        for rank, image in enumerate(ranking, 1):
            if labels[image] == label:
                hits += 1
                precisions.append(hits / rank)
        actual = average_precision.average_precisions(query, [label], gallery, labels)
        self.assertAllClose(actual, [np.mean(precisions)])

    def test_collapsed_features_are_at_chance(self):
        gallery = np.ones([10, 1], np.float32)
        labels = np.array([0] * 3 + [1] * 7)
        actual = average_precision.average_precisions(gallery[:2], [0, 1], gallery, labels)
        self.assertAllClose(actual, [0.3, 0.7])

    def test_a_perfect_ranking_and_the_worst(self):
        gallery = similarity.l2_normalize([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]])
        query = np.float32([[1, 0]])
        for labels, expected in (([1, 1, 0, 0], 1.0), ([0, 0, 0, 1], 0.25), ([0, 0, 0, 0], np.nan)):
            actual = average_precision.average_precisions(query, [1], gallery, labels)
            self.assertAllClose(actual, [expected])


if __name__ == "__main__":
    tf.test.main()
