import dataclasses
import shlex

from absl.testing import absltest

from csml_tf.evaluation import protocol_card
from csml_tf.reports import measurements
from csml_tf.reports.part import LeftOut
from tests.evaluation.protocol_card_test import make_card
from tests.reports.page_reader import PageReader
from tests.training import tiny_run


class MeasurementsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.run_path = tiny_run.make_temp_dir(self.addCleanup)
        (self.run_path / measurements.FOLDER).mkdir()

    def write(self, name="knn.json", top1=0.5):
        make_card({"top1": top1}).save(self.run_path / measurements.FOLDER / name)

    def html(self, weights="ab12"):
        return measurements.to_html(
            *measurements.read(self.run_path), self.run_path, "digits", weights
        )

    def test_cards_in_order(self):
        self.write("b.json", 0.5)
        self.write("a.json", 0.25)
        text = PageReader(self.html()).text
        self.assertRegex(text, "(?s)knn top1 25.00%.*a.json.*knn top1 50.00%.*b.json")
        self.assertIn(
            "k=5+20, layer=features; train: digits:train, 7 images; 3 classes; 1.2 s", text
        )
        self.assertIn("weights     ab12", text)

    def test_several_in_a_file(self):
        path = self.run_path / measurements.FOLDER / "two.json"
        cards = [make_card({"top1": 0.5}), make_card({"top1": 0.25})]
        cards[1] = dataclasses.replace(cards[1], files={"labels.json": "{}"})
        protocol_card.save_all(cards, path)
        self.assertTrue(path.with_name("two.2.labels.json").exists())
        found, faults = measurements.read(self.run_path)
        self.assertEqual([each.card.result["top1"] for each in found], [0.5, 0.25])
        self.assertEqual([each.path for each in found], [path] * 2)
        self.assertEmpty(faults)

    def test_best_of_a_grid(self):
        grid = [{"k": 5, "top1": 0.5}, {"k": 20, "top1": 0.75}, {"k": 200, "top1": 0.25}]
        card = make_card({"grid": grid, "confusion": [[1, 0], [0, 1]]})
        card.save(self.run_path / measurements.FOLDER / "knn.json")
        self.assertIn(
            "knn top1 75.00% at k 20, the best of 3 in its gridk=5+20", PageReader(self.html()).text
        )

    def test_other_weights(self):
        self.write()
        self.assertNotIn("other weights", self.html())
        self.assertNotIn("other weights", self.html(None))
        self.assertIn("of other weights than the run", self.html("cd34"))

    def test_no_cards(self):
        for name, content in (("a", "{"), ("b", "[]"), ("c", '{"protocol": "knn"}')):
            (self.run_path / measurements.FOLDER / f"{name}.json").write_text(content)
        found, faults = measurements.read(self.run_path)
        self.assertEmpty(found)
        self.assertLen(faults, 3)
        with self.assertRaisesRegex(LeftOut, "a.json is no protocol card .*this writes one:$"):
            self.html()
        self.write("d.json")
        self.assertIn("b.json is no protocol card", PageReader(self.html()).text)

    def test_nothing(self):
        with self.assertRaisesRegex(LeftOut, "no protocol card in .*/evaluations; this") as raised:
            measurements.to_html([], [], "my runs/a", "folder:it's", None)
        self.assertEqual(
            shlex.split(raised.exception.command)[4:],
            [
                *("csml-tf", "evaluate", "--protocol=knn", "--model=my runs/a"),
                *("--dataset=folder:it's", "--json=my runs/a/evaluations/knn.json"),
            ],
        )


if __name__ == "__main__":
    absltest.main()
