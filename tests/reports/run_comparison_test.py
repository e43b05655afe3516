from absl.testing import absltest

from csml_tf.errors import InputError
from csml_tf.reports import run_comparison, run_record
from tests.reports import browser, tiny_record
from tests.reports.page_reader import PageReader
from tests.training import tiny_run


class RunComparisonTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.first, cls.second = cls.folder / "a" / "run", cls.folder / "b" / "run"
        rows = tiny_record.make_rows(3)
        rows[1]["knn_baselines"] = {"pixels": 0.375}
        tiny_record.write(cls.first, rows)
        config = tiny_record.CONFIG.replace("global_batch_size = 16", "global_batch_size = 32")
        config = config.replace("EPOCHS = 3\n", "EPOCHS = 2\n") + "WIDTH = 8\n"
        tiny_record.write(cls.second, tiny_record.make_rows(2, neighbors=False), config=config)
        cls.records = {
            "one": run_record.read(cls.first),
            "<two>": run_record.read(cls.second),
        }
        cls.output = cls.folder / "report"
        cls.line = run_comparison.write([cls.first, cls.second], cls.output)
        cls.text = (cls.output / run_comparison.PAGE).read_text()

    def test_page(self):
        self.assertEqual(
            self.line,
            f"{self.output}/comparison.html: 2 runs side by side, a/run, b/run",
        )
        page = PageReader(self.text)
        for tag, name, value in page.references:
            self.assertRegex(value, "^(data:|#)", f"{tag} {name}")
        for words in ("tiny.gin with EPOCHS = 3", "2 min 0 s", "finished after 2 epochs"):
            self.assertIn(words, page.text)
        shown = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
        self.assertEqual(
            shown[:3],
            [
                *("loss, all levels, by epoch", "kNN top-1, %, by epoch"),
                "kNN top-1, %, by hours of the run",
            ],
        )
        self.assertLen(set(shown), len(shown))
        self.assertTrue((self.output / "comparison_1.png").exists())

    def test_settings_that_differ(self):
        self.assertEqual(
            run_comparison.differing_settings(self.records),
            {
                "EPOCHS": ["3", "2"],
                "WIDTH": ["–", "8"],
                "pretrain.global_batch_size": ["16", "32"],
            },
        )

    def test_final_figures(self):
        figures = run_comparison.final_figures(self.records)
        self.assertEqual(figures["epochs"], ["3", "2"])
        self.assertEqual(figures["loss"], ["2.000", "3.000"])
        self.assertEqual(figures["kNN top-1, newest"], ["50.00% after epoch 2"] * 2)
        self.assertEqual(figures["kNN of pixels"], ["37.50%", "–"])
        self.assertEqual(figures["time, all"], ["2 min 0 s", "1 min 20 s"])
        self.assertEqual(figures["time, an epoch"], ["40 s", "40 s"])
        self.assertEqual(figures["images per second"], ["300", "200"])

    def test_one_chart_with_a_curve_for_each_run(self):
        charts = {
            (chart.title, chart.across): chart for chart in run_comparison.charts(self.records)
        }
        loss = charts["loss, all levels", "epoch"]
        self.assertEqual([curve.label for curve in loss.curves], ["one", "<two>"])
        self.assertEqual(
            [curve.points for curve in loss.curves],
            [[(1, 4.0), (2, 3.0), (3, 2.0)], [(1, 4.0), (2, 3.0)]],
        )
        self.assertLen({curve.color for curve in loss.curves}, 2)
        self.assertEqual(loss.end, 3)
        by_hours = charts["kNN top-1, %", "hours of the run"]
        self.assertEqual(by_hours.curves[0].points, [(40 / 3600, 25.0), (80 / 3600, 50.0)])
        self.assertNotIn(("linear probe top-1, %", "epoch"), charts)

    def test_alike(self):
        records = {"one": self.records["one"], "again": self.records["one"]}
        self.assertEqual(run_comparison.differing_settings(records), {})

    def test_bad_input(self):
        with self.assertRaisesRegex(InputError, "run and .* are the same run: give each"):
            run_comparison.write([self.first, f"{self.second}/../../a/run"], self.output)
        empty = self.folder / "empty"
        tiny_record.write(empty, [])
        with self.assertRaisesRegex(InputError, "empty has no finished epoch yet, its metrics"):
            run_comparison.write([self.first, empty], self.output)
        with self.assertRaisesRegex(InputError, "At most 40 runs .*, got 41: give"):
            run_comparison.write(range(41), self.output)

    def test_fits_the_window(self):
        browser.need(self)
        for width in (browser.WIDE, browser.NARROW):
            folder = tiny_run.make_temp_dir(self.addCleanup)
            answer, complaints = browser.ask(self.text, browser.OVERFLOWING, folder, width)
            self.assertEqual(complaints, [])
            self.assertEqual(answer, {"width": width, "fits": True, "beyond": []})


if __name__ == "__main__":
    absltest.main()
