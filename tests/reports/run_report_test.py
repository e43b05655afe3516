import re
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest

from csml_tf.data import catalog
from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.evaluation import protocol_card
from csml_tf.export import saved_model
from csml_tf.reports import embedding, explorer, measurements, reference_runs, run_report
from tests.data.sources import image_files
from tests.evaluation.protocol_card_test import make_card
from tests.reports import browser, few_labels_test, tiny_record
from tests.reports.page_reader import PageReader
from tests.training import tiny_run
from tests.training.saved_neighbors_test import write_checkpoint

PARTS = ("Curves", "Accuracy", "Health", "Neighbors", "Nearest to unseen images")
PARTS += ("Map of the features", "Confusion", "Few labels", "Measurements", "Settings")
PICTURES = (
    "losses",
    "speed",
    "accuracy",
    "health",
    "neighbors",
    "neighbor_sheet",
    "held_out_sheet",
    "query_sheet",
)
PICTURES += ("map", "confusion")
# What the text of the page says of a part that is not there.
LEFT_OUT = re.compile(r"Left out(?:, the neighbors' images)?: (.+)")


class FewDigits:
    """Stands in for `catalog.open_dataset`: few of the digits, and two draws of them."""

    def __init__(self, *_):
        pass

    def split(self, split):
        chosen = range(100, 130) if split == "test" else range(100)
        return memory.load_digits().subset(chosen, f"few digits, {split}")


class WriteTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.run_path, cls.output = folder / "tiny", folder / "report"
        pretrain = FewDigits().split("pretrain")
        directory = tiny_record.write(
            cls.run_path, tiny_record.make_rows(3), fingerprint=pretrain.fingerprint
        )
        table = NeighborTable(100, 5)
        table.assign((np.arange(100)[:, None] + np.arange(1, 6)) % 100, 0)
        write_checkpoint(directory.checkpoints, 1, neighbor_table=table)
        saved_model.export(
            tiny_run.make_encoder(),
            directory.saved_model,
            (0.5,) * 3,
            (0.5,) * 3,
            {"image_size": 16},
        )
        cards = cls.run_path / measurements.FOLDER
        cards.mkdir()
        make_card({"top1": 0.5}).save(cards / "knn.json")
        protocol_card.save_all([each.card for each in few_labels_test.make_all()], cards / "l.json")
        queries = folder / "queries"
        image_files.write_pngs(queries, 2)
        with (
            mock.patch.object(catalog, "open_dataset", FewDigits),
            mock.patch.object(embedding, "MAX_IMAGES", 50),
        ):
            cls.line = run_report.write(
                cls.run_path, cls.output, with_explorer=True, queries=str(queries)
            )
        cls.text = (cls.output / run_report.PAGE).read_text()
        cls.page = PageReader(cls.text)

    def test_all_parts(self):
        self.assertEqual(
            self.line,
            f"{self.output}/report.html: 11 parts about tiny, finished after 3 epochs, and "
            f"{self.output}/explorer.html",
        )
        titles = re.findall("<h2>(.*?)</h2>", self.text)
        self.assertEqual(titles, [*PARTS[:5], "Looked up", *PARTS[5:]])
        self.assertIsNone(LEFT_OUT.search(self.page.text))

    def test_asks_for_nothing_outside(self):
        for tag, name, value in self.page.references:
            with self.subTest(f"{tag} {name} {value[:40]}"):
                inside = "^data:image/" if tag in ("img", "div") else "^(#|data:,$|explorer.html$)"
                self.assertRegex(value, inside)
        # Two images may be alike; of the charts none is there twice.
        charts = [
            attrs["alt"]
            for tag, attrs in self.page.elements
            if tag == "img" and attrs["alt"].endswith("by epoch")
        ]
        self.assertLen(set(charts), len(charts))
        self.assertLen(set(self.page.ids), len(self.page.ids))
        self.assertNotRegex(self.text, r"(?i)@import|url\((?!data:)|<script[^>]+src|https?://[^w]")

    def test_says_how_it_was_measured(self):
        for words in (
            "50.00%kNN top-1 after epoch 2k=20, temperature=0.1, layer=features",
            "8 images of few digits, pretrain, drawn with seed 0",
            "the 5 nearest of 100 images, few digits, train, by the cosine",
            "2 images of " + str(self.run_path.parent / "queries"),
            'layer "features", 4 numbers each, unit length; seed 0): t-SNE of 50 images, perplex',
            "features of 100 images of few digits, train, tested on 30 of few digits, test",
            "of other weights than the run's encoder has now",
            "Dotted: from epoch 3 on",
        ):
            self.assertIn(words, self.page.text)

    def test_pictures_beside_the_page(self):
        for name in PICTURES:
            content = (self.output / f"{name}.png").read_bytes()
            self.assertStartsWith(content, b"\x89PNG")
        self.assertTrue((self.output / "projector" / "projector_config.pbtxt").is_file())

    def test_explorer(self):
        text = (self.output / explorer.FILE).read_text()
        page = PageReader(text)
        self.assertIn("30 held-out and 100 training images", page.text)
        self.assertIn("80 more lie where the 5 nearest of these do", page.text)
        self.assertIn(("a", "href", explorer.FILE), self.page.references)

    def test_browser(self):
        browser.need(self)
        point = """
          const dot = document.querySelector("use[data-i='9']");
          dot.dispatchEvent(new Event("pointerover", { bubbles: true }));
          const lens = document.querySelector(".lens");
          return { hidden: lens.hidden, text: lens.textContent,
                   place: lens.querySelector(".thumbnail").style.backgroundPosition };
        """
        answer = self.ask(point, browser.WIDE)
        self.assertFalse(answer["hidden"])
        self.assertRegex(answer["text"], r"^\d, (held-out|training) image #\d+$")
        self.assertEqual(answer["place"], "-112px -112px")  # 50 images: 8 x 8.

    def test_fits_the_window(self):
        browser.need(self)
        for width in (browser.WIDE, browser.NARROW):
            answer = self.ask(browser.OVERFLOWING, width)
            self.assertEqual(answer, {"width": width, "fits": True, "beyond": []})

    def ask(self, script, width):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        answer, complaints = browser.ask(self.text, script, folder, width)
        self.assertEqual(complaints, [])
        return answer


class LeftOutTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.run_path, self.output = self.folder / "tiny", self.folder / "report"
        self.enter(mock.patch.object(catalog, "open_dataset", FewDigits))

    def enter(self, context):
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def report(self, rows, **options):
        """{title: what the page says of a part that was left out}."""
        fingerprint = FewDigits().split("pretrain").fingerprint
        tiny_record.write(self.run_path, rows, fingerprint=fingerprint)
        run_report.write(self.run_path, self.output, **options)
        text = (self.output / run_report.PAGE).read_text()
        PageReader(text)
        sections = re.findall(r"<section.*?</section>", text, re.DOTALL)
        reasons = {}
        for section in sections:
            read = PageReader(section)
            found = LEFT_OUT.search(read.text)
            if found:
                reasons[re.search("<h2>(.*?)</h2>", section)[1]] = found[1]
        for reason in reasons.values():
            self.assertRegex(reason, r"[.\w]$")
        return reasons

    def test_run_in_progress(self):
        reasons = self.report(tiny_record.make_rows(1))
        self.assertEqual([*reasons], [*PARTS[3:7], "Measurements"])
        self.assertIn("no neighbor table", reasons["Neighbors"])
        self.assertIn("normal. From epoch 3 on", (self.output / run_report.PAGE).read_text())
        for title in PARTS[4:7]:
            self.assertIn("exported no encoder yet: let csml-tf train finish", reasons[title])

    def test_moco_without_labels(self):
        reasons = self.report(tiny_record.make_rows(3, neighbors=False, knn=False))
        self.assertIn("labels", reasons["Accuracy"])
        self.assertIn("mines no neighbors", reasons["Neighbors"])

    def test_without_images(self):
        self.enter(mock.patch.object(catalog, "open_dataset", None))
        reasons = self.report(tiny_record.make_rows(3), images=False, draw_map=False)
        self.assertIn("--noimages was given", reasons["Neighbors"])
        self.assertIn("--nomap was given", reasons["Map of the features"])
        self.assertIn("--noimages was given", reasons["Confusion"])

    def test_beside_reference_runs(self):
        band = reference_runs.Band(2, {1: (3.9, 4.1), 2: (2.9, 3.1)}, {2: (0.6, 0.7)}, "k=5")
        self.enter(mock.patch.object(reference_runs, "find", lambda record: band))
        tiny_record.write(self.run_path, tiny_record.make_rows(2))
        line = run_report.write(self.run_path, self.output, images=False, draw_map=False)
        verdict = "Goes as the reference runs went: after epoch 2 the loss is 3.000, theirs 2.900"
        self.assertIn(verdict, line)
        text = PageReader((self.output / run_report.PAGE).read_text()).text
        self.assertIn(verdict, text)
        self.assertEqual(text.count("The band is the range of 2 runs of the same recipe"), 2)

    def test_damaged_encoder(self):
        (self.run_path / "saved_model").mkdir(parents=True)
        reasons = self.report(tiny_record.make_rows(3))
        self.assertIn("cannot be read", reasons["Confusion"])

    def test_bad_input(self):
        rows = tiny_record.make_rows(1)
        with self.assertRaisesRegex(InputError, "--train_images must be at least 5, got 4"):
            self.report(rows, max_train_images=4)
        with (
            mock.patch.object(catalog, "open_dataset", side_effect=InputError("No x: give y.")),
            self.assertRaisesRegex(InputError, "^No x: give y; --noimages makes .* images.$"),
        ):
            self.report(rows)
        self.output = self.folder / "file"
        self.output.write_text("")
        with self.assertRaisesRegex(InputError, "file cannot be written .*another --output"):
            self.report(rows)


@pytest.mark.slow
class UnlabelledFolderTest(absltest.TestCase):
    def test_photographs(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        image_files.write_pngs(folder / "photos", 40)
        dataset = f"folder:{folder}/photos"
        config = tiny_record.CONFIG.replace("'digits'", repr(dataset))
        rows = tiny_record.make_rows(3, knn=False)
        directory = tiny_record.write(folder / "run", rows, config=config)
        model = tiny_run.make_encoder()
        saved_model.export(model, directory.saved_model, (0.5,) * 3, (0.5,) * 3, {"image_size": 16})
        run_report.write(folder / "run", folder / "report")
        page = PageReader((folder / "report" / run_report.PAGE).read_text())
        self.assertIn("trained on all images of this folder", page.text)
        self.assertIn("needs labels", page.text)
        self.assertIn("8 held-out and 32 training images by their features", page.text)


if __name__ == "__main__":
    absltest.main()
