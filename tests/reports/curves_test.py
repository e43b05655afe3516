import math

from absl.testing import absltest

from csml_tf.reports import curves, reference_runs
from csml_tf.reports.part import LeftOut

ROWS = [
    {
        "epoch": epoch,
        "loss": 4.0 - epoch,
        "loss_stage3_image": 1.0 * epoch,
        "loss_stage3_mixed": 2.0 * epoch,
        "loss_stage4_image": 3.0 * epoch,
        "learning_rate": 0.1 * epoch,
        "images_per_sec": None if epoch == 1 else 100.0 * epoch,
        "input_wait_fraction": 0.5,
        "knn_protocol": "k=5",
        **(
            {"knn_top1": 0.25, "neighbor_purity": 0.75, "mining_seconds": 2.0} if epoch == 2 else {}
        ),
    }
    for epoch in (1, 2, 3)
]
BAND = reference_runs.Band(2, {1: (2.0, 4.0), 2: (1.0, 3.0)}, {2: (0.5, 0.75)}, "k=5")


def read(charts):
    """{title of each chart: {label of each curve: its points}}."""
    return {chart.title: {curve.label: curve.points for curve in chart.curves} for chart in charts}


class CurvesTest(absltest.TestCase):
    def test_losses(self):
        charts = curves.losses(ROWS)
        self.assertEqual(
            read(charts),
            {
                "loss, all levels": {"": [(1, 3.0), (2, 2.0), (3, 1.0)]},
                "loss, stage3": {
                    "image": [(1, 1.0), (2, 2.0), (3, 3.0)],
                    "mixed": [(1, 2.0), (2, 4.0), (3, 6.0)],
                },
                "loss, stage4, image": {"": [(1, 3.0), (2, 6.0), (3, 9.0)]},
            },
        )
        self.assertEqual({chart.end for chart in charts}, {3})

    def test_a_part_that_is_the_whole_is_not_drawn_again(self):
        rows = [{"epoch": 1, "loss": 2.0, "loss_stage4_image": 2.0}]
        self.assertEqual(read(curves.losses(rows)), {"loss, all levels": {"": [(1, 2.0)]}})

    def test_line_where_neighbors_begin(self):
        for first, mark in ((3, 3), (4, None), (None, None)):
            with self.subTest(first):
                charts = curves.losses(ROWS, first)
                self.assertEqual({chart.mark for chart in charts}, {mark})

    def test_band_of_reference_runs(self):
        whole, *parts = curves.losses(ROWS, band=BAND)
        self.assertEqual(whole.band, {1: (2.0, 4.0), 2: (1.0, 3.0)})
        self.assertEqual([chart.band for chart in parts], [{}, {}])
        (knn,) = curves.accuracy(ROWS, BAND)
        self.assertEqual(knn.band, {2: (50.0, 75.0)})

    def test_speed_leaves_out_what_was_not_measured(self):
        charts = read(curves.speed(ROWS))
        self.assertEqual(charts["images per second"], {"": [(2, 200.0), (3, 300.0)]})
        self.assertEqual(
            charts["waiting for input, % of the time"], {"": [(1, 50.0), (2, 50.0), (3, 50.0)]}
        )
        charts = read(curves.speed(ROWS[:1]))
        self.assertNotIn("images per second", charts)
        self.assertEqual(charts["learning rate"], {"": [(1, 0.1)]})

    def test_accuracy(self):
        self.assertEqual(read(curves.accuracy(ROWS)), {"kNN top-1, %": {"": [(2, 25.0)]}})
        rows = [{"epoch": 1, "linear_top1": 0.5}]
        self.assertEqual(read(curves.accuracy(rows)), {"linear probe top-1, %": {"": [(1, 50.0)]}})
        with self.assertRaisesRegex(LeftOut, "No accuracy .*labels, .*MONITOR_EVERY_EPOCHS"):
            curves.accuracy(ROWS[:1])

    def test_newest_baselines(self):
        first = {"pixels": 0.25, "color_histogram": 0.125, "untrained": 0.375}
        rows = [{**ROWS[1], "knn_baselines": first}, {**ROWS[1], "epoch": 3}]
        (knn,) = curves.accuracy(rows)
        self.assertEqual(
            knn.levels, {"raw pixels": 25.0, "color histogram": 12.5, "untrained": 37.5}
        )
        rows.append({**ROWS[1], "epoch": 4, "knn_baselines": {"pixels": 0.5, "untrained": None}})
        self.assertEqual(curves.accuracy(rows)[0].levels, {"raw pixels": 50.0})
        self.assertEqual(curves.accuracy(ROWS)[0].levels, {})

    def test_neighbors(self):
        self.assertEqual(
            read(curves.neighbors(ROWS)),
            {
                "purity of the neighbors, %": {"": [(2, 75.0)]},
                "seconds of mining": {"": [(2, 2.0)]},
            },
        )
        with self.assertRaisesRegex(LeftOut, "mines no neighbors"):
            curves.neighbors(ROWS[:1])

    def test_no_finite_number(self):
        rows = [*ROWS, {"epoch": 4, "loss": math.nan, "learning_rate": 0.4}]
        self.assertLen(read(curves.losses(rows))["loss, all levels"][""], 3)


if __name__ == "__main__":
    absltest.main()
