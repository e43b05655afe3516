import json

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import comparison, frozen_encoder
from csml_tf.evaluation.protocol_card import ProtocolCard
from csml_tf.export import saved_model
from tests.data.sources import image_files
from tests.training import tiny_run


def make_card(encoder_id, result):
    return ProtocolCard("knn", {"id": encoder_id}, {}, {}, result, seconds=0.0, hardware="x")


class MeasureTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.root = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.models = []
        for name in ("one", "two"):
            view = CenterView(16)
            card = {"id": name, "image_size": 16, "resize_size": 16}
            tf.keras.utils.set_random_seed(len(cls.models))
            saved_model.export(tiny_run.make_encoder(), cls.root / name, view.mean, view.std, card)
            cls.models.append(cls.root / name)
        cls.datasets = []
        for seed, name in enumerate(("ab", "cd")):
            for i in range(40):
                image = image_files.noise(100 * seed + i, 16, 16)
                image[..., i % 2] //= 2  # Two classes, by their colour.
                encoded = image_files.encode(image, "PNG")
                image_files.write(encoded, str(cls.root), name, name[i % 2], f"{i}.png")
            cls.datasets.append(f"folder:{cls.root}/{name}")

    def setUp(self):
        super().setUp()
        self.path = tiny_run.make_temp_dir(self.addCleanup) / "cards.json"
        self.shown = []

    def measure(self, *arguments, **options):
        return comparison.measure(
            *arguments, json_path=self.path, show=self.shown.append, **options
        )

    @pytest.mark.slow
    def test_every_combination_once(self):
        cards = self.measure(
            self.models,
            [*self.datasets, self.datasets[0]],
            ["knn", "retrieval"],
            k=[3],
            temperature=[0.2],
        )
        self.assertLen(cards, 8)
        for (model, dataset, name), card in cards.items():
            self.assertEqual((card.encoder["directory"], card.protocol), (model, name))
            self.assertStartsWith(card.data["train"]["name"], f"{dataset}:train")
            self.assertEqual(card.settings["k"], [3])
            # To those only who know it.
            self.assertEqual(card.settings.get("temperature"), [0.2] if name == "knn" else None)
        # Pixels and colors are those of the data set, untrained weights those of the network.
        for dataset in self.datasets:
            of_knn = [cards[str(model), dataset, "knn"].result for model in self.models]
            for name in ("pixels_top1", "color_histogram_top1", "untrained_top1"):
                self.assertEqual(of_knn[0][name], of_knn[1][name])
        # Each is what it is when measured alone.
        (alone,) = comparison.measure(
            self.models[1:], self.datasets[1:], ["knn"], k=[3], temperature=[0.2], show=len
        ).values()
        together = cards[str(self.models[1]), self.datasets[1], "knn"]
        self.assertEqual(together.result, alone.result)
        self.assertEqual(
            {card.encoder["sha256"] for card in cards.values()},
            {frozen_encoder.FrozenEncoder(model).digest() for model in self.models},
        )
        saved = json.loads(self.path.read_text())
        self.assertEqual([row["result"] for row in saved], [c.result for c in cards.values()])
        text = self.path.with_suffix(".txt").read_text()
        self.assertEqual(text, "\n".join(card.text() for card in cards.values()))
        self.assertEqual(self.shown[:-1], [card.summary() for card in cards.values()])
        self.assertEqual(self.shown[-1], comparison.tabulate(cards))

    def test_one_card_is_saved_as_itself_and_has_no_table(self):
        twice = [self.datasets[0]] * 2, ["knn", "knn"]
        (card,) = self.measure(self.models[:1], *twice).values()
        self.assertEqual(json.loads(self.path.read_text())["result"], card.result)
        self.assertEqual(self.path.with_suffix(".txt").read_text(), card.text())
        self.assertEqual(self.shown, [card.summary()])

    def test_one_that_fails_does_not_end_the_others(self):
        missing = self.root / "missing"
        missing.mkdir(exist_ok=True)
        (missing / "saved_model.pb").write_bytes(b"no protocol buffer")
        nowhere, readable = "folder:/no/such", self.datasets[0]
        with self.assertRaisesRegex(
            InputError, "^7 of 8 measurements have failed, the first for this reason: The model in"
        ):
            # 32 images vote, too few for this k; the linear classifier knows no k.
            self.measure(
                [missing, self.models[0]], [nowhere, readable], ["knn", "linear_cached"], k=[33]
            )
        no_model, no_data, no_k, summary, table = self.shown
        self.assertStartsWith(no_model, f"{missing} has failed: The model in {missing} cannot be")
        self.assertStartsWith(no_data, f"{nowhere} has failed: There is no folder")
        self.assertStartsWith(
            no_k, f"knn of {self.models[0]} on {readable} has failed: k must be from 1 to the 32"
        )
        (saved,) = json.loads(self.path.read_text())
        self.assertEqual(saved["protocol"], "linear_cached")
        self.assertIn(f"linear_cached top1 {saved['result']['top1']:.2%}", summary)
        cells = [line.split() for line in table.splitlines()]
        self.assertEqual(cells[0], ["encoder", "protocol", nowhere, readable])
        self.assertEqual([row[2:] for row in cells[1:4]], [["failed", "failed"]] * 3)
        self.assertEqual(
            cells[4], ["one", "linear_cached", "failed", f"{saved['result']['top1']:.2%}"]
        )

    def test_a_single_one_fails_as_it_is(self):
        with self.assertRaisesRegex(InputError, "^There is no folder"):
            self.measure(self.models[:1], ["folder:/no/such"], ["knn"])
        self.assertEmpty(self.shown)

    def test_rejects_before_it_measures(self):
        for options, message in (
            ({"queries": "x.png"}, "--queries means nothing to --protocol=knn"),
            ({"json_path": self.root / "no" / "x.json"}, "x.json cannot be written"),
            ({"json_path": self.root}, "cannot be written: name a file"),
        ):
            with self.assertRaisesRegex(InputError, message):
                comparison.measure(
                    self.models, self.datasets, ["knn"], show=self.shown.append, **options
                )
        self.assertEmpty(self.shown)

    @parameterized.parameters("knn", "retrieval")
    @pytest.mark.slow
    def test_two_replicas_measure_what_one_does(self, name):
        results = []
        for replicas in (1, 2):
            strategy = tf.distribute.MirroredStrategy(
                [f"CPU:{i}" for i in range(replicas)], tf.distribute.ReductionToOneDevice()
            )
            with strategy.scope():
                cards = comparison.measure(
                    self.models[:1],
                    ["digits"],
                    [name],
                    layer=["features", "embedding", "stage3"],
                    show=len,
                )
            ((key, card),) = cards.items()
            results.append((key, card.result["grid"], card.encoder["sha256"]))
        self.assertEqual(results[0][::2], results[1][::2])
        for one, two in zip(results[0][1], results[1][1]):
            self.assertEqual(one["layer"], two["layer"])
            numbers = [[row[n] for n in row if n != "layer"] for row in (one, two)]
            self.assertAllClose(*numbers, atol=0.003)  # One of 359 images, by rounding.
            self.assertGreater(np.min(numbers[0][-1]), 0.15)


class TabulateTest(tf.test.TestCase):
    def test_rows_and_columns(self):
        cards = {
            ("runs/a", "x", "knn"): make_card("a", {"top1": 0.5}),
            ("runs/a", "x", "retrieval"): make_card("a", {"map": 0.25, "recall_at_1": 0.75}),
            ("runs/a", "y", "knn"): make_card("a", {"grid": [{"k": 1}, {"k": 5}]}),
            ("runs/a", "y", "retrieval"): make_card("a", {"map": 1.0}),
            ("b", "x", "knn"): make_card("b", {"top1": 1 / 3}),
            ("b", "x", "retrieval"): make_card("b", {"map": 0.125}),
            ("b", "y", "knn"): make_card("b", {"top1": 0.1}),
            ("b", "y", "retrieval"): make_card("b", {"map": 0.2}),
        }
        self.assertEqual(
            comparison.tabulate(cards).splitlines(),
            [
                "  encoder   protocol       x          y",
                "        a        knn  50.00%  grid of 2",
                "        a  retrieval  25.00%    100.00%",
                "        b        knn  33.33%     10.00%",
                "        b  retrieval  12.50%     20.00%",
            ],
        )

    def test_baselines_and_gaps(self):
        same = {"pixels_top1": 0.25}
        cards = {
            ("a", "x", "knn"): make_card("a", {"top1": 0.5, **same, "untrained_top1": 0.125}),
            ("b", "x", "knn"): make_card("b", {"top1": 0.75, **same, "untrained_top1": 0.375}),
            ("b", "x", "retrieval"): make_card("b", {"map": 0.5, "pixels_map": 0.0}),
        }
        wanted = [*cards, ("a", "x", "retrieval")]
        self.assertEqual(
            comparison.tabulate(cards, wanted).splitlines(),
            [
                "                encoder   protocol       x",
                "                      a        knn  50.00%",
                "                      a  retrieval  failed",
                "                      b        knn  75.00%",
                "                      b  retrieval  50.00%",
                "             raw pixels        knn  25.00%",
                "             raw pixels  retrieval   0.00%",
                "  untrained weights (a)        knn  12.50%",
                "  untrained weights (b)        knn  37.50%",
            ],
        )

    def test_a_gap_makes_no_second_row_of_a_baseline(self):
        card = make_card("a", {"top1": 0.5, "pixels_top1": 0.25})
        other = make_card("b", {"top1": 0.5, "pixels_top1": 0.125})
        cards = {("a", "x", "knn"): card, ("b", "x", "knn"): card, ("b", "y", "knn"): other}
        lines = comparison.tabulate(cards, [*cards, ("a", "y", "knn")]).splitlines()
        self.assertLen(lines, 4)
        self.assertEqual(lines[-1].split(), ["raw", "pixels", "knn", "25.00%", "12.50%"])

    def test_encoders_of_one_id_go_by_their_folder(self):
        cards = {(f"runs/{n}", "x", "knn"): make_card("same", {"top1": 0.5}) for n in "ab"}
        lines = comparison.tabulate(cards).splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["encoder", "runs/a", "runs/b"])


if __name__ == "__main__":
    tf.test.main()
