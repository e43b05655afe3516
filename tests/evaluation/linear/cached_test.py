import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from csml_tf.data import labelled_batches
from csml_tf.errors import InputError
from csml_tf.evaluation import protocol_card
from csml_tf.evaluation.linear import cached, held_out
from tests.evaluation import pixel_encoder

STRENGTHS = [1e-3, 3.0]


def scikit_learn_scores(train, test, l2):
    """Class scores of converged logistic regression; `train` may be a part to fit to."""
    scaler = StandardScaler().fit(pixel_encoder.pixels(pixel_encoder.make_sources()[0]))
    model = LogisticRegression(C=1 / (l2 * len(train)), tol=1e-8, max_iter=10_000)
    model.fit(scaler.transform(pixel_encoder.pixels(train)), train.labels)
    return model.predict_proba(scaler.transform(pixel_encoder.pixels(test)))


def read_crops(train, passes):
    """[n, 64] pixels of random crops, and the [n] training images they are of."""
    blocks = []
    for number in range(passes):
        batches = labelled_batches.make_labelled_epoch(
            *(train, labelled_batches.make_crop_and_flip(8), len(train), 0, number),
            labels=np.arange(len(train)),
        )
        for images, rows in batches.as_numpy_iterator():
            blocks.append((images[..., 0].reshape([-1, 64]), rows))
    return [np.concatenate(parts) for parts in zip(*blocks)]


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    def measure(self, **options):
        encoder = pixel_encoder.PixelEncoder()
        return cached.measure(encoder, *pixel_encoder.make_sources(), **options)

    def test_matches_scikit_learn(self):
        train, test = pixel_encoder.make_sources()
        result = self.measure(l2=STRENGTHS).result
        hidden = held_out.draw(train.labels)
        hidden_source = train.subset(np.flatnonzero(hidden))
        seen = train.subset(np.flatnonzero(~hidden))
        rows = result["grid"]
        self.assertEqual([row["l2"] for row in rows], [3.0, 1e-3])
        for row in rows:
            scores = scikit_learn_scores(train, test, row["l2"])
            for k in (1, 5):
                expected = metrics.top_k_accuracy_score(test.labels, scores, k=k)
                self.assertAlmostEqual(row[f"top{k}"], expected)
            scores = scikit_learn_scores(seen, hidden_source, row["l2"])
            expected = metrics.top_k_accuracy_score(hidden_source.labels, scores, k=1)
            self.assertAlmostEqual(row["held_out_top1"], expected)
            self.assertTrue(row["converged"])
        best = rows[np.argmax([row["held_out_top1"] for row in rows])]
        self.assertEqual([row for row in rows if row["chosen"]], [best])
        for figure in ("top1", "top5", "l2"):
            self.assertEqual(result[figure], best[figure])
        scores = scikit_learn_scores(train, test, best["l2"])
        confusion = metrics.confusion_matrix(test.labels, scores.argmax(axis=1))
        self.assertEqual(result["confusion"], confusion.tolist())

    def test_crops_match_scikit_learn(self):
        train, test = pixel_encoder.make_sources()
        outcome = self.measure(l2=STRENGTHS, crops=3)
        crops, rows = read_crops(train, 3)
        self.assertLen(rows, 300)
        scaler = StandardScaler().fit(crops)
        hidden = held_out.draw(train.labels)

        def scores(seen, tested, l2):
            model = LogisticRegression(C=1 / (l2 * seen.sum()), tol=1e-8, max_iter=10_000)
            model.fit(scaler.transform(crops[seen]), train.labels[rows[seen]])
            return model.predict_proba(scaler.transform(pixel_encoder.pixels(tested)))

        hidden_source = train.subset(np.flatnonzero(hidden))
        for row in outcome.result["grid"]:
            found = scores(np.ones(300, bool), test, row["l2"])
            for k in (1, 5):
                expected = metrics.top_k_accuracy_score(test.labels, found, k=k)
                self.assertAlmostEqual(row[f"top{k}"], expected)
            found = scores(~hidden[rows], hidden_source, row["l2"])
            expected = metrics.top_k_accuracy_score(hidden_source.labels, found, k=1)
            self.assertAlmostEqual(row["held_out_top1"], expected)
        self.assertEqual(
            outcome.settings["train_view"], "3 of random resized crop 0.08..1, flip 0.5"
        )

    def test_rejects_no_crops(self):
        with self.assertRaisesRegex(InputError, "--crops must be a whole number from 1, got 0"):
            self.measure(crops=0)

    def test_one_strength_needs_no_choice(self):
        outcome = self.measure(l2=[1e-3])
        self.assertEqual(outcome.settings["choice"], held_out.NO_CHOICE)
        (row,) = outcome.result["grid"]
        self.assertNotIn("held_out_top1", row)
        self.assertEqual(row["top1"], self.measure(l2=STRENGTHS).result["grid"][1]["top1"])

    def test_several_layers(self):
        result = self.measure(layer=["features", "stage1"], stage_features=12, l2=[1e-3]).result
        alone = self.measure(layer=["stage1"], stage_features=12, l2=[1e-3])
        self.assertEqual(alone.settings["layer"], ["stage1:2x2x3"])
        for figure in ("top1", "top5", "l2", "confusion"):
            self.assertEqual(result[f"stage1_{figure}"], alone.result[figure])

    def test_headline_leaves_the_confusion_out(self):
        outcome = self.measure(l2=[1e-3])
        card = protocol_card.ProtocolCard(
            "linear_cached", {"id": "x", "sha256": "y"}, {}, outcome.settings, outcome.result, 1.0
        )
        self.assertNotIn("[", card.headline())
        self.assertRegex(card.headline(), r"^linear_cached top1 [\d.]+%, top5 [\d.]+%, l2 0.001 \(")
        self.assertIn("\nconfusion: 10 rows, in the JSON file\n", card.text())

    @parameterized.parameters(0.0, -1.0, float("nan"), float("inf"))
    def test_rejects_strength(self, l2):
        with self.assertRaisesRegex(InputError, f"--l2 must be a number above 0, got {l2}"):
            self.measure(l2=[1.0, l2])

    def test_rejects_features_that_are_not_finite(self):
        class Broken(pixel_encoder.PixelEncoder):
            def all_maps(self, layers):
                return lambda images: {layer: images[:, 0, :, 0] / 0.0 for layer in layers}

        sources = pixel_encoder.make_sources()
        with self.assertRaisesRegex(InputError, "features of train are not all finite numbers"):
            cached.measure(Broken(), *sources)


if __name__ == "__main__":
    tf.test.main()
