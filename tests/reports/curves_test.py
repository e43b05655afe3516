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


def drawn(figure):
    """{title of each panel: {label of each curve, or "": its points}}."""
    return {
        axes.get_title(loc="left"): {
            "" if line.get_label().startswith("_") else line.get_label(): [
                *zip(*map(list, line.get_data()))
            ]
            for line in axes.lines
        }
        for axes in figure.axes
    }


class CurvesTest(absltest.TestCase):
    def test_beside_references(self):
        band = reference_runs.Band(2, {1: (2.0, 4.0), 2: (1.0, 3.0)}, {2: (0.5, 0.75)}, "k=5")
        figure = curves.beside_references(ROWS, band)
        self.assertEqual(
            drawn(figure),
            {
                "loss": {"": [(1, 3.0), (2, 2.0), (3, 1.0)]},
                "kNN top-1, %": {"": [(2, 25.0)]},
            },
        )
        loss, knn = ({*map(tuple, a.collections[0].get_paths()[0].vertices)} for a in figure.axes)
        self.assertContainsSubset({(1, 2.0), (1, 4.0), (2, 1.0), (2, 3.0)}, loss)
        self.assertContainsSubset({(2, 50.0), (2, 75.0)}, knn)

    def test_losses(self):
        self.assertEqual(
            drawn(curves.losses(ROWS)),
            {
                "loss, all levels": {"": [(1, 3.0), (2, 2.0), (3, 1.0)]},
                "stage3": {
                    "image": [(1, 1.0), (2, 2.0), (3, 3.0)],
                    "mixed": [(1, 2.0), (2, 4.0), (3, 6.0)],
                },
                "stage4": {"image": [(1, 3.0), (2, 6.0), (3, 9.0)]},
            },
        )

    def test_line_where_neighbors_begin(self):
        for first, count in ((3, 2), (4, 1), (None, 1)):
            with self.subTest(first):
                figure = curves.losses(ROWS, first)
                self.assertLen(figure.axes[0].lines, count)
        line = curves.losses(ROWS, 3).axes[0].lines[1]
        self.assertEqual([*line.get_xdata()], [3, 3])

    def test_speed_leaves_out_what_was_not_measured(self):
        panels = drawn(curves.speed(ROWS))
        self.assertEqual(panels["images per second"], {"": [(2, 200.0), (3, 300.0)]})
        self.assertEqual(
            panels["waiting for input, % of the time"], {"": [(1, 50.0), (2, 50.0), (3, 50.0)]}
        )
        panels = drawn(curves.speed(ROWS[:1]))
        self.assertEqual(panels["images per second"], {})
        self.assertEqual(panels["learning rate"], {"": [(1, 0.1)]})

    def test_accuracy(self):
        self.assertEqual(drawn(curves.accuracy(ROWS)), {"kNN top-1, %": {"": [(2, 25.0)]}})
        rows = [{"epoch": 1, "linear_top1": 0.5}]
        self.assertEqual(drawn(curves.accuracy(rows)), {"linear probe top-1, %": {"": [(1, 50.0)]}})
        with self.assertRaisesRegex(LeftOut, "No accuracy .*labels, .*MONITOR_EVERY_EPOCHS"):
            curves.accuracy(ROWS[:1])

    def test_neighbors(self):
        self.assertEqual(
            drawn(curves.neighbors(ROWS)),
            {"purity, %": {"": [(2, 75.0)]}, "seconds of mining": {"": [(2, 2.0)]}},
        )
        with self.assertRaisesRegex(LeftOut, "mines no neighbors"):
            curves.neighbors(ROWS[:1])

    def test_no_finite_number(self):
        rows = [*ROWS, {"epoch": 4, "loss": math.nan, "learning_rate": 0.4}]
        self.assertLen(drawn(curves.losses(rows))["loss, all levels"][""], 3)

    def test_marks_of_few_epochs(self):
        self.assertEqual(curves.losses(ROWS).axes[0].lines[0].get_marker(), "o")


if __name__ == "__main__":
    absltest.main()
