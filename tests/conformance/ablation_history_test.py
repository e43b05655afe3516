"""The table of docs/ablation.md beside the runs in docs/ablation_history.csv."""

import csv
import pathlib
import re
import statistics

from absl.testing import absltest

DOCS = pathlib.Path(__file__).parents[2] / "docs"
# In the order in which the table takes them, where a recipe was measured more than once.
SERIES = (
    "three seeds",
    "single seeds",
    "before the step rounded alike",
    "faster machine",
    "why the authors' settings lose in ten epochs",
)


def read_history():
    with open(DOCS / "ablation_history.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_table():
    """{recipe: (cost, kNN, linear, seeds)} as the document has them."""
    text = (DOCS / "ablation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+)`[^|]*\|(.*%) \| (\d) \|$", text, re.MULTILINE)
    return {name: (*(cell.strip() for cell in cells.split("|")), n) for name, cells, n in rows}


def describe(runs, column):
    values = [float(run[column]) for run in runs]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread} %"


class AblationHistoryTest(absltest.TestCase):
    def test_rows_are_whole(self):
        for row in read_history():
            with self.subTest(str(row)):
                self.assertNotIn(None, [*row, *row.values()])
                self.assertTrue(row["series"] and row["machine"] and row["recipe"])
                self.assertRegex(row["commit"], r"^[0-9a-f]{7,10}$")
                self.assertIn(row["commit_is"], ("trained by", "reported in"))
                for column in ("knn", "linear", "neighbor_purity"):
                    if row[column]:
                        self.assertBetween(float(row[column]), 0, 100)
                *_, last = row["knn_after_epochs"].split("; ")
                if last and row["knn"]:
                    self.assertStartsWith(row["knn"], last.split(": ")[1])

    def test_table(self):
        history, table = read_history(), read_table()
        self.assertLen(table, 12)
        for recipe, written in table.items():
            candidates = (
                [
                    row
                    for row in history
                    if row["series"] == series
                    and row["recipe"] == f"{recipe}.gin"
                    and row["bindings"] in ("", "MONITOR_EVERY_EPOCHS = 1")
                    and row["linear"]
                ]
                for series in SERIES
            )
            runs = next(rows for rows in candidates if rows)
            (cost,) = {run["forward_units"] for run in runs}
            expected = (cost, describe(runs, "knn"), describe(runs, "linear"), str(len(runs)))
            self.assertEqual(written, expected, recipe)


if __name__ == "__main__":
    absltest.main()
