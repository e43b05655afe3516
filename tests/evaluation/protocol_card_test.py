import dataclasses
import json

import numpy as np
import tensorflow as tf

from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import protocol_card
from tests.training import tiny_run


def make_card(result):
    return protocol_card.ProtocolCard(
        protocol="knn",
        encoder={"id": "tiny", "directory": "runs/tiny", "sha256": "ab12"},
        data={"train": {"name": "digits:train", "images": 7, "classes": 3, "fingerprint": "f0"}},
        settings={"k": [5, 20], "layer": "features"},
        result=result,
        seconds=1.25,
        hardware="2 CPU cores",
    )


class ProtocolCardTest(tf.test.TestCase):
    def test_headline(self):
        self.assertEqual(
            make_card({"top1": 0.5, "untrained_top1": 0.25}).headline(),
            "knn top1 50.00%, untrained top1 25.00% (k=5+20, layer=features; "
            "train: digits:train, 7 images; 3 classes; 1.2 s)",
        )

    def test_classes_are_named_where_they_are_few(self):
        images = np.zeros([26, 2, 2], np.uint8)
        names = [f"c{number}" for number in range(13)]
        for count, expected in ((12, f"classes 12: {', '.join(names[:12])}"), (13, "13 classes")):
            source = memory.MemorySource(images, np.arange(26) % count, names, name="s")
            data = dict.fromkeys(["train", "test"], protocol_card.describe_source(source))
            card = dataclasses.replace(make_card({"top1": 0.5}), data=data)
            self.assertEndsWith(
                card.headline(),
                f"; train: s, 26 images; test: s, 26 images; {expected}; 1.2 s)",
            )
            self.assertIn(expected if count == 12 else "classes 13,", card.text())

    def test_notes(self):
        card = dataclasses.replace(make_card({"top1": 0.5}), notes=("One.", "Two."))
        self.assertEqual(card.summary(), f"One.\nTwo.\n{card.headline()}")
        self.assertIn("\nOne.\nTwo.\n1.2 s on", card.text())

    def test_text_has_all_facts_and_aligned_tables(self):
        rows = [{"k": 5, "top1": 0.5}, {"k": 20, "top1": 0.25}]
        lines = make_card({"grid": rows, "images": 3}).text().splitlines()
        table = lines[lines.index("grid") + 1 :][:3]
        self.assertEqual(table, ["   k    top1", "   5  50.00%", "  20  25.00%"])
        for fact in ("encoder     tiny", "weights     ab12", "  k = 5+20", "images: 3"):
            self.assertIn(fact, lines)
        self.assertIn("train       digits:train (images 7, classes 3, fingerprint f0)", lines)
        self.assertEqual(lines[-1], f"1.2 s on 2 CPU cores, TensorFlow {tf.__version__}")

    def test_save(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "card.json"
        card = make_card({"top1": np.float32(0.5)})
        card.save(path)
        saved = json.loads(path.read_text())
        self.assertEqual(saved["result"], {"top1": 0.5})
        self.assertEqual(saved["encoder"]["sha256"], "ab12")
        self.assertEqual(path.with_suffix(".txt").read_text(), card.text())

    def test_save_writes_files_beside(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "card.json"
        files = {"labels.json": "[1]", "guesses.csv": "a,b"}
        dataclasses.replace(make_card({}), files=files).save(path)
        self.assertEqual(path.with_name("card.labels.json").read_text(), "[1]")
        self.assertEqual(path.with_name("card.guesses.csv").read_text(), "a,b")
        named = json.loads(path.read_text())["files"]
        self.assertEqual(named, ["card.labels.json", "card.guesses.csv"])

    def test_summary_is_the_tables_and_the_headline(self):
        rows = [{"k": 5, "top1": 0.5}]
        card = make_card({"map": 0.5, "best_rows": rows})
        tables = ["best rows", "  k    top1", "  5  50.00%"]
        self.assertEqual(card.summary().splitlines(), [*tables, card.headline()])
        self.assertIn("knn map 50.00% (k=", card.headline())
        self.assertEqual(make_card({"top1": 0.5}).summary(), make_card({"top1": 0.5}).headline())

    def test_figure(self):
        rows = [{"k": 5}, {"k": 6}]
        for result, expected in (
            ({"images": 3, "grid": rows, "top1": 0.5, "map": 0.1}, "50.00%"),
            ({"loss": 0.123456}, "0.1235"),
            ({"grid": rows}, "grid of 2"),
            ({"grid": rows, "near_duplicates": 0, "pixels_top1": 0.9}, "grid of 2"),
        ):
            self.assertEqual(make_card(result).figure(), expected)

    def test_save_all(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "cards.json"
        cards = [make_card({"top1": 0.5}), make_card({"top1": 0.25})]
        protocol_card.save_all(cards, path)
        saved = json.loads(path.read_text())
        self.assertEqual([card["result"]["top1"] for card in saved], [0.5, 0.25])
        texts = path.with_suffix(".txt").read_text().split("\n\n")
        self.assertEqual([text.strip() for text in texts], [c.text().strip() for c in cards])

    def test_check_path(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        protocol_card.check_path(directory / "card.json")
        for path in (directory, directory / "no" / "card.json"):
            with self.assertRaisesRegex(InputError, "cannot be written: name a file in a folder"):
                protocol_card.check_path(path)

    def test_save_rejects_a_missing_folder(self):
        path = tiny_run.make_temp_dir(self.addCleanup) / "missing" / "card.json"
        with self.assertRaisesRegex(InputError, "card.json cannot be written .No such file"):
            make_card({}).save(path)

    def test_describe_source(self):
        source = memory.MemorySource(np.zeros([4, 2, 2], np.uint8), [0, 2, 2, 0], name="four")
        described = protocol_card.describe_source(source)
        expected = {"name": "four", "images": 4, "classes": 2, "fingerprint": source.fingerprint}
        self.assertEqual(described, expected)

    def test_hardware(self):
        self.assertRegex(protocol_card.describe_hardware(), r"\d+ CPU cores")


if __name__ == "__main__":
    tf.test.main()
