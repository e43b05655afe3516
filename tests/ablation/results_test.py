import json

from absl.testing import absltest

from csml_tf.ablation import results
from csml_tf.ablation.results import Results, Settings
from csml_tf.errors import InputError
from tests.training import tiny_run

SETTINGS = Settings(("EPOCHS = 2",), "digits")


def make_entry(recipe="a.gin", seed=0, **others):
    entry = {"recipe": recipe, "seed": seed, "model_dir": "a/seed0", "curve": [], "protocols": {}}
    return {**entry, **others}


class ResultsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)

    def test_is_there_the_next_time(self):
        Results(self.folder, SETTINGS).put(make_entry())
        changed = Results(self.folder, SETTINGS)
        changed.put(make_entry(protocols={"knn": {"result": {"top1": 0.5}}}))
        changed.put(make_entry(seed=1, failed="why"))
        for found in (Results(self.folder, SETTINGS), Results(self.folder)):
            self.assertEqual(found.settings, SETTINGS)
            self.assertEqual([*found.entries], [("a.gin", 0), ("a.gin", 1)])
            self.assertEqual(found.lacks("a.gin", 0, ["knn", "linear"]), ["linear"])
            self.assertEqual(found.lacks("a.gin", 1, ["knn"]), ["knn"])
            self.assertEqual(found.lacks("b.gin", 0, ["knn"]), ["knn"])
            self.assertEqual(found.exit_code(), 1)
        changed.put(make_entry(seed=1))
        self.assertEqual(Results(self.folder).exit_code(), 0)

    def test_rejects(self):
        with self.assertRaisesRegex(InputError, "no ablation in .* give --output"):
            Results(self.folder)
        Results(self.folder, SETTINGS).put(make_entry())
        with self.assertRaisesRegex(InputError, r"\['EPOCHS = 2'\] .* not .*\[\] and dataset None"):
            Results(self.folder, Settings())
        (self.folder / "results.json").write_text('{"runs": ')
        with self.assertRaisesRegex(InputError, "results.json is damaged"):
            Results(self.folder)

    def test_curve(self):
        rows = [
            {
                **{"epoch": 1, "seconds": 12.0, "knn_seconds": 2.0, "knn_baselines_seconds": 3.0},
                **{"mined_images": 48, "knn_top1": 0.25},
            },
            {"epoch": 2, "seconds": 5.0},
        ]
        common = {"anchors": 40, "forward_units": 440.0, "images_per_sec": 8.0}
        (self.folder / "metrics.jsonl").write_text(
            "".join(json.dumps({**common, **row}) + "\n" for row in rows)
        )
        first, second = results.read_curve(self.folder)
        self.assertEqual(
            first,
            {
                "epoch": 1,
                "knn_top1": 0.25,
                "seconds": 7.0,
                "forward_units": 488.0,
                "step_units": 440.0,
                "anchors": 40,
                "images_per_sec": 8.0,
            },
        )
        self.assertEqual(
            second,
            {
                "epoch": 2,
                "knn_top1": None,
                "seconds": 12.0,
                "forward_units": 928.0,
                "step_units": 880.0,
                "anchors": 80,
                "images_per_sec": 8.0,
            },
        )


if __name__ == "__main__":
    absltest.main()
