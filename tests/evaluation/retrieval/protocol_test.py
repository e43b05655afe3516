import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation.retrieval import protocol
from tests.evaluation.pixel_encoder import PixelEncoder, make_noise


def read_pixels(source, cut=slice(None)):
    return np.stack([source.read(i).numpy()[cut].ravel() for i in range(len(source))]).astype(float)


def loop_recall(gallery, gallery_labels, queries, query_labels, k):
    model = NearestNeighbors(n_neighbors=k, metric="cosine").fit(gallery)
    nearest = model.kneighbors(queries, return_distance=False)
    return np.mean([label in gallery_labels[row] for row, label in zip(nearest, query_labels)])


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        digits = memory.load_digits()
        self.train, self.test = (
            digits.subset(range(60), "seen"),
            digits.subset(range(60, 90), "new"),
        )

    def check(self, row, ks, cut=slice(None)):
        gallery, queries = read_pixels(self.train, cut), read_pixels(self.test, cut)
        labels = self.train.labels, self.test.labels
        for k in ks:
            expected = loop_recall(gallery, labels[0], queries, labels[1], k)
            self.assertAlmostEqual(row[f"recall_at_{k}"], expected)
        gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
        precisions = [
            average_precision_score(labels[0] == label, gallery @ query)
            for query, label in zip(queries, labels[1])
        ]
        self.assertAllClose(row["map"], np.mean(precisions), atol=1e-4)
        figures = set(row) - {"layer", "near_duplicates"}
        self.assertEqual(figures, {"map", *(f"recall_at_{k}" for k in ks)})

    def test_by_default(self):
        outcome = protocol.measure(PixelEncoder(), self.train, self.test)
        self.check(outcome.result, [1, 5, 10])
        self.assertLess(outcome.result["recall_at_1"], 1.0)
        self.assertContainsSubset(
            {"k": [1, 5, 10], "layer": ["features"], "queries": "30 test images"}, outcome.settings
        )

    def test_without_near_duplicates(self):
        digits = memory.load_digits()
        queries = [60, 3, 61, 5, 62]
        outcome = protocol.measure(PixelEncoder(), self.train, digits.subset(queries, "some"))
        alone = protocol.measure(PixelEncoder(), self.train, digits.subset([60, 61, 62], "others"))
        self.assertEqual(outcome.result["near_duplicates"], 2)
        self.assertAllClose(
            outcome.result["map_without_near_duplicates"], alone.result["map"], atol=1e-6
        )
        self.assertStartsWith(outcome.notes[0], "2 of 5 test images are also training images")
        self.assertIn("near_duplicates.csv", outcome.files)
        blind = protocol.measure(
            PixelEncoder(), self.train, digits.subset(queries), near_duplicates=False
        )
        self.assertNotIn("near_duplicates", blind.result)

    def test_several_layers(self):
        outcome = protocol.measure(
            PixelEncoder(), self.train, self.test, layer=["upper", "features"], k=[3, 2, 3]
        )
        upper, whole = outcome.result["grid"]
        self.assertEqual((upper["layer"], whole["layer"]), ("upper", "features"))
        self.check(upper, [2, 3], slice(4))
        self.check(whole, [2, 3])

    def test_one_set_for_both_leaves_out_the_query(self):
        # Not the same object: the images count.
        digits = memory.load_digits()
        pair = [digits.subset(range(40)), digits.subset(range(40))]
        outcome = protocol.measure(PixelEncoder(), *pair, k=[1, 39])
        pixels, labels = read_pixels(pair[0]), pair[0].labels
        pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
        hits, precisions = [], []
        for query in range(40):
            others = np.arange(40) != query
            similarities, relevant = pixels[others] @ pixels[query], labels[others] == labels[query]
            hits.append(relevant[similarities.argmax()])
            precisions.append(average_precision_score(relevant, similarities))
        self.assertAlmostEqual(outcome.result["recall_at_1"], np.mean(hits))
        self.assertAllClose(outcome.result["map"], np.mean(precisions), atol=1e-4)
        self.assertEqual(outcome.result["recall_at_39"], 1.0)
        self.assertEqual(outcome.settings["gallery"], "the training images but the query itself")

    def test_images_alone_in_their_class_are_no_queries_in_one_set(self):
        images = np.random.default_rng(0).integers(0, 256, [5, 8, 8], np.uint8)
        images[1], images[3] = images[0], images[2]
        source = memory.MemorySource(images, [0, 0, 1, 1, 2])
        outcome = protocol.measure(PixelEncoder(), source, source, k=[1])
        self.assertEqual(outcome.settings["queries"], "4 test images")
        self.assertEqual(outcome.result, {"recall_at_1": 1.0, "map": 1.0})

    def test_chance_level_on_noise(self):
        sources = make_noise((500, 300), size=8, num_classes=5)
        result = protocol.measure(PixelEncoder(), *sources, k=[1, 4]).result
        self.assertBetween(result["recall_at_1"], 0.13, 0.27)
        self.assertBetween(result["recall_at_4"], 0.5, 0.68)  # 1 - 0.8^4 is 0.59.
        self.assertBetween(result["map"], 0.19, 0.22)

    def test_rejects(self):
        bare = memory.MemorySource(np.zeros([9, 8, 8], np.uint8), name="bare")
        loners = memory.MemorySource(np.zeros([4, 8, 8], np.uint8), range(4), name="loners")
        for pair, k, message in (
            ((self.train, bare), None, "needs labels, and bare has none"),
            ((self.train, self.test), [1, 61], "from 1 to the 60 images to find in seen, got 61"),
            ((self.train, self.test), [0], "got 0"),
            ((self.train, self.train), [60], "from 1 to the 59 images"),
            ((loners, loners), [1], "No two images of loners are of one class"),
        ):
            with self.assertRaisesRegex(InputError, message):
                protocol.measure(PixelEncoder(), *pair, k=k)


if __name__ == "__main__":
    tf.test.main()
