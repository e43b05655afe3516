"""Tables of curves whose figures are easy to work out by hand."""

import types

from absl.testing import absltest

from csml_tf.ablation import table
from csml_tf.ablation.results import Settings


def make_entry(recipe, seed, knns, units, seconds, mined=0, **others):
    """A run with 10 anchors in each epoch, at so many units and seconds."""
    curve = [
        {
            "epoch": epoch,
            "knn_top1": knn,
            "seconds": seconds * epoch,
            "forward_units": 10.0 * units * epoch + mined,
            "step_units": 10.0 * units * epoch,
            "anchors": 10 * epoch,
            "images_per_sec": None if epoch == 1 else 10.0 / seconds,
        }
        for epoch, knn in enumerate(knns, start=1)
    ]
    return {
        "recipe": recipe,
        "seed": seed,
        "model_dir": f"{recipe}/{seed}",
        "curve": curve,
        "protocols": {"knn": {"result": {"top1": knns[-1]}}},
        **others,
    }


MOCO = "ablation/moco_v2.gin"
CSML = "ablation/csml.gin"
ENTRIES = [
    make_entry(MOCO, 0, [0.1, 0.2, 0.3, 0.4], units=4, seconds=2.0),
    make_entry(MOCO, 1, [0.1, 0.2, 0.3, 0.6], units=4, seconds=2.0),
    # After epoch 1 it has cost 110 + 10 units and 4 s of MoCo's 160 and 8: epoch 1 and 2.
    make_entry(CSML, 0, [0.3, 0.5, 0.7, 0.8], units=11, seconds=4.0, mined=10),
]


def make(entries, settings=Settings()):  # noqa: B008, it is frozen.
    results = types.SimpleNamespace(
        entries={(entry["recipe"], entry["seed"]): entry for entry in entries}, settings=settings
    )
    return table.make(results, "runs/ablation")


def cells(text, number, recipe):
    """{column: cell} of a recipe's row in one of the tables."""
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[number]]
    (row,) = [row for row in split if row[0] == recipe]
    return dict(zip(split[0], row))


class TableTest(absltest.TestCase):
    def test_whole_runs(self):
        text = make(ENTRIES)
        moco, csml = cells(text, 0, "ablation/moco_v2"), cells(text, 0, "ablation/csml")
        self.assertEqual(
            moco,
            {
                "recipe": "ablation/moco_v2",
                "seeds": "2",
                "epochs": "4",
                "units of a step": "4 (×1)",
                "units in all": "×1",
                "knn": "50.00% ± 14.14%",  # Of 0.4 and 0.6: 0.1 times the root of 2.
                "seconds of an epoch": "2.0 ± 0.0",
                "images/s": "5 ± 0",
                "command": "`csml-tf ablate --gin_file=ablation/moco_v2.gin --seeds=2 "
                "--output=runs/ablation`",
            },
        )
        self.assertEqual(csml["units of a step"], "11 (×2.75)")
        self.assertEqual(csml["units in all"], "×2.81")  # (440 + 10) / 160.
        self.assertEqual(csml["knn"], "80.00%")

    def test_equal_compute(self):
        text = make(ENTRIES)
        moco, csml = cells(text, 1, "ablation/moco_v2"), cells(text, 1, "ablation/csml")
        self.assertEqual(moco["kNN at its end"], "50.00% ± 14.14%")
        at_end = "50.00% ± 14.14% (epoch 4, 100% of the compute)"
        self.assertEqual(moco["kNN at equal units"], at_end)
        self.assertEqual(moco["kNN at equal seconds"], at_end)
        self.assertEqual(csml["kNN at its end"], "80.00%")
        self.assertEqual(csml["kNN at equal units"], "30.00% (epoch 1, 75% of the compute)")
        self.assertEqual(csml["kNN at equal seconds"], "50.00% (epoch 2, 100% of the compute)")
        self.assertIn("the whole of ablation/moco_v2 in units, of ablation/moco_v2 in sec", text)

    def test_the_cheapest_may_differ(self):
        slow = make_entry("few_units.gin", 0, [0.1], units=4, seconds=9.0)
        quick = make_entry("quick.gin", 0, [0.2], units=7, seconds=1.0)
        self.assertIn("of few_units in units, of quick in seconds", make([slow, quick]))

    def test_command_with_overrides(self):
        text = make(ENTRIES[:1], Settings(("EPOCHS = 4",), "digits"))
        self.assertIn("'--gin_bindings=EPOCHS = 4' --dataset=digits`", text)

    def test_what_is_not_there(self):
        unmeasured = make_entry(CSML, 0, [None, None], units=11, seconds=4.0, protocols={})
        text = make([ENTRIES[0], unmeasured])
        self.assertEqual(cells(text, 0, "ablation/csml")["knn"], "not measured")
        row = cells(text, 1, "ablation/csml")
        self.assertEqual(row["kNN at its end"], "not measured")
        self.assertEqual(row["kNN at equal units"], "not measured")

    def test_failed_runs_are_named(self):
        failed = make_entry(MOCO, 1, [0.9], units=4, seconds=2.0, failed="train.py: no space.")
        text = make([ENTRIES[0], failed])
        self.assertEqual(cells(text, 0, "ablation/moco_v2")["knn"], "40.00%")
        self.assertEndsWith(text, f"{MOCO}/1 has failed: train.py: no space.")
        self.assertIn("No run in runs/ablation has been trained", make([failed]))


if __name__ == "__main__":
    absltest.main()
