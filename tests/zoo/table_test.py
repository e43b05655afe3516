import pathlib
import tempfile

from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.zoo import table
from csml_tf.zoo.entry import Archive, Entry
from csml_tf.zoo.results import Result

ROOT = pathlib.Path(__file__).parents[2]
SHA256 = "0123456789abcdef" * 4
ARCHIVE = Archive(
    "r18.zip", SHA256, 44_700_000, "0123456789abcdef", "1 GPU", 2.5, "CC-BY-4.0", ("WIDTH = 16",)
)
ENTRIES = (
    Entry("r18", "CsMl", "ResNet-18", "CIFAR-10", "none", ARCHIVE),
    Entry("r50", "CsMl", "ResNet-50", "ImageNet-1k", "linear top-1 76.6 % (the paper)"),
    Entry("tiny", "MoCo", "ResNet-18", "digits", "none"),
)
MEASURED = (
    Result("r18", ("WIDTH = 16",), "knn", "k 200", (0.8,), (0.3,), (0.25,)),
    Result("r18", ("WIDTH = 16",), "linear", "100 epochs", (0.81, 0.83, 0.85)),
    Result("r18", ("WIDTH = 16", "EPOCHS = 3"), "knn", "k 200", (0.44,)),
    Result("tiny", (), "knn", "k 20", (0.9,)),
)
PAGE = "".join(
    f"before {name}\n<!-- {name}: written -->\nold\ntext\n<!-- end of {name} -->\nafter\n"
    for name in ("recipes", "encoders", "measurements")
)


def cells(table):
    """Rows of a table in Markdown as lists of cells, without the line below the head."""
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    return [[cell.strip() for cell in line] for line in lines if set(line) != {" --- "}]


class PageTest(absltest.TestCase):
    def test_page_of_the_project_is_up_to_date(self):
        page = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
        self.assertEqual(page, table.fill_in(page), "Run python tools/report.py --zoo --output=.")


class TablesTest(absltest.TestCase):
    def test_recipes(self):
        head, *rows = cells(table.recipes_table(ENTRIES, MEASURED))
        self.assertEqual(head[-2:], ["published result", "with this code"])
        rows = {row[0]: row[1:] for row in rows}
        self.assertEqual(
            rows["[`r50`](gin_configs/r50.gin)"][-2:],
            ["linear top-1 76.6 % (the paper)", "recipe, not trained yet"],
        )
        self.assertEqual(
            rows["[`r18`](gin_configs/r18.gin)"][-1],
            '`load_model("r18")` (`WIDTH = 16`); kNN top-1 80.00 % (1 run); linear top-1 '
            "83.00 ± 2.00 % (3 runs); with `WIDTH = 16`, `EPOCHS = 3`: see below",
        )
        self.assertEqual(rows["[`tiny`](gin_configs/tiny.gin)"][-1], "kNN top-1 90.00 % (1 run)")

    def test_encoders(self):
        head, row = cells(table.encoders_table(ENTRIES, MEASURED))
        self.assertEqual(
            dict(zip(head, row)),
            {
                "id": "`r18`",
                "recipe": "[`r18`](gin_configs/r18.gin), `WIDTH = 16`",
                "hardware and hours": "1 GPU, 2.5 h",
                "kNN top-1": "80.00 % (1 run): k 200",
                "linear top-1": "83.00 ± 2.00 % (3 runs): 100 epochs",
                "commit": "`0123456789`",
                "sha256 and size of the file": f"`{SHA256}`, 44.7 MB",
                "licence": "CC-BY-4.0",
            },
        )

    def test_encoder_that_nobody_measured(self):
        _, row = cells(table.encoders_table(ENTRIES, MEASURED[2:]))
        self.assertEqual(row[3:5], ["not measured", "not measured"])

    def test_no_encoders(self):
        self.assertEqual(
            table.encoders_table(ENTRIES[1:], MEASURED),
            "No pretrained encoder is distributed yet.\n",
        )

    def test_measurements(self):
        _, *rows = cells(table.measurements_table(MEASURED))
        self.assertEqual(
            rows[0],
            [
                "[`r18`](gin_configs/r18.gin), `WIDTH = 16`",
                *("k 200", "80.00 % (1 run)", "30.00 % (1 run)", "25.00 % (1 run)"),
            ],
        )
        self.assertEqual(rows[3][2:], ["90.00 % (1 run)", "not measured", "not measured"])


class FillInTest(parameterized.TestCase):
    def test_leaves_all_else(self):
        page = table.fill_in(PAGE, ENTRIES, MEASURED)
        self.assertNotIn("old\ntext", page)
        for expected in (
            table.recipes_table(ENTRIES, MEASURED),
            table.encoders_table(ENTRIES, MEASURED),
            table.measurements_table(MEASURED),
        ):
            self.assertEqual(page.count(f" written -->\n{expected}<!-- end of "), 1)
        self.assertEqual(page.count("before "), 3)
        self.assertEqual(page.count("-->\nafter\n"), 3)
        self.assertEqual(table.fill_in(page, ENTRIES, MEASURED), page)

    @parameterized.parameters((PAGE.replace("<!-- encoders:", "<!-- "), 0), (PAGE + PAGE, 2))
    def test_rejects_a_page_without_a_place(self, page, places):
        with self.assertRaisesRegex(InputError, f"has {places} places for the table"):
            table.fill_in(page, ENTRIES, MEASURED)


class UpdateTest(absltest.TestCase):
    def test_writes_once(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "MODEL_ZOO.md")
            path.write_text(PAGE, encoding="utf-8")
            self.assertEqual(table.update(folder), f"{path}: the tables are written anew")
            self.assertIn("ResNet-50", path.read_text(encoding="utf-8"))
            self.assertEqual(table.update(folder), f"{path}: the tables are as they were")

    def test_no_page(self):
        with (
            tempfile.TemporaryDirectory() as folder,
            self.assertRaisesRegex(InputError, "MODEL_ZOO.md cannot be read .*--output is its"),
        ):
            table.update(folder)


if __name__ == "__main__":
    absltest.main()
