import dataclasses
import pathlib

import numpy as np
from absl.testing import absltest

from csml_tf.reports import few_labels
from csml_tf.reports.measurements import Measurement
from tests.evaluation.protocol_card_test import make_card
from tests.reports.page_reader import PageReader
from tests.training import tiny_run

TUNED, SCRATCH = ("semi_supervised", "top1"), ("semi_supervised", "from_scratch_top1")


def make(protocol, labels, weights="ab12cd34ef", test="photos:val", **result):
    card = dataclasses.replace(
        make_card(result),
        protocol=protocol,
        encoder={"id": "tiny", "directory": "runs/tiny", "sha256": weights},
        data={"test": {"name": test, "images": 7, "classes": 3, "fingerprint": "f0"}},
        settings={"labels": labels},
    )
    return Measurement(pathlib.Path("card.json"), card)


def make_all():
    drawn = "{} of 900 images, {} of each class, drawn with seed {}"
    return [
        make("linear_cached", drawn.format(10, 1, 0), top1=0.2),
        make("linear_cached", drawn.format(10, 1, 1), top1=0.3),
        make("linear_cached", drawn.format(100, 10, 0), top1=0.5, untrained_top1=0.1),
        make("semi_supervised", drawn.format(10, 1, 0), top1=0.3, from_scratch_top1=0.2),
        make("semi_supervised", drawn.format(100, 10, 0), top1=0.6, from_scratch_top1=0.4),
        make("knn", "all there are", top1=0.9),
        make("linear", drawn.format(10, 1, 0), top1=0.9),
    ]


class FewLabelsTest(absltest.TestCase):
    def test_means_by_number_of_labels(self):
        cards = [*make_all(), make("knn", "10 of 900 images, listed in a", test="other", top1=0.7)]
        cards.append(make("linear_cached", "10 of 900 images, 0.01, ..", weights="ff", top1=0.7))
        found = few_labels.find(cards)
        self.assertEqual(list(found), [("photos:val", "ab12cd34")])
        expected = {
            TUNED: {10: 0.3, 100: 0.6},
            ("linear_cached", "top1"): {10: 0.25, 100: 0.5},
            SCRATCH: {10: 0.2, 100: 0.4},
            ("linear_cached", "untrained_top1"): {100: 0.1},
        }
        self.assertEqual(found["photos:val", "ab12cd34"], expected)

    def test_labels_for_an_accuracy(self):
        measured = {1: 0.1, 10: 0.2, 100: 0.15, 1000: 0.4}
        for accuracy in (0.12, 0.2, 0.3, 0.4):
            # Along a line through the two points around it, of the logarithms.
            few, many = (1, 10) if accuracy <= 0.2 else (100, 1000)
            expected = np.interp(accuracy, [measured[few], measured[many]], np.log([few, many]))
            self.assertAlmostEqual(few_labels.labels_for(measured, accuracy), np.exp(expected))
        for accuracy in (0.05, 0.1, 0.41):
            self.assertIsNone(few_labels.labels_for(measured, accuracy))
        self.assertIsNone(few_labels.labels_for({}, 0.5))

    def test_picture_and_words(self):
        output = tiny_run.make_temp_dir(self.addCleanup)
        found = few_labels.find(make_all())
        page = PageReader(few_labels.to_html(found, output))
        # 0.3 is in the middle between 0.2 and 0.4: sqrt(10 * 100) labels.
        self.assertIn(
            "With 10 labels it reaches 30.0% (fine-tuned), for which training from scratch needs "
            "about 32.",
            page.text,
        )
        self.assertNotIn("With 100 labels", page.text)  # Nothing that was measured reaches it.
        self.assertGreater((output / "few_labels.png").stat().st_size, 1000)
        better = make("linear_cached", "10 of 900 images, ..", test="folder:/a/b/val", top1=0.35)
        cards = [
            make(
                each.card.protocol,
                each.card.settings["labels"],
                test="folder:/a/b/val",
                **each.card.result,
            )
            for each in make_all()
        ]
        html = few_labels.to_html(few_labels.find([*cards[2:], better]), output)
        self.assertIn("With 10 labels it reaches 35.0% (linear classifier)", html)
        self.assertIn("b/val: top-1, %", html)
        self.assertNotIn("/a/b", html)

    def test_two_encoders_are_told_apart(self):
        others = [
            dataclasses.replace(each.card, encoder={**each.card.encoder, "sha256": "99aa"})
            for each in make_all()
        ]
        both = [*make_all(), *(Measurement(pathlib.Path("o.json"), card) for card in others)]
        output = tiny_run.make_temp_dir(self.addCleanup)
        html = few_labels.to_html(few_labels.find(both), output)
        for weights in ("ab12cd34", "99aa"):
            self.assertIn(f"photos:val, encoder {weights}: top-1, %", html)
            self.assertIn(f"encoder {weights}: With 10 labels", html)


if __name__ == "__main__":
    absltest.main()
