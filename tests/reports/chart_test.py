from absl.testing import absltest

from csml_tf.reports import chart
from csml_tf.reports.chart import Chart, Curve
from tests.reports.page_reader import PageReader

POINTS = [(1, 3.0), (2, 1.0)]


def axes_of(**options):
    return chart.draw([Chart("a title", [Curve(POINTS)], 2, **options)]).axes[0]


class DrawTest(absltest.TestCase):
    def test_curves(self):
        figure = chart.draw([Chart(f"title {n}", [Curve(POINTS)] * n, 5) for n in (1, 2)])
        self.assertEqual([a.get_title(loc="left") for a in figure.axes], ["title 1", "title 2"])
        for count, axes in enumerate(figure.axes, start=1):
            self.assertLen(axes.lines, count)
            for line in axes.lines:
                self.assertEqual([*zip(*line.get_data())], POINTS)
                self.assertEqual(line.get_marker(), "o")
            self.assertEqual(axes.get_xlim(), (0, 5.1))

    def test_numbers_of_ticks_are_whole(self):
        points = [(1, 5.5746), (2, 5.5131), (3, 5.4601)]
        figure = chart.draw([Chart("5$^{", [Curve(points, label=n) for n in "abc$"], 3)])
        figure.draw_without_rendering()
        for label in figure.axes[0].get_yticklabels():
            self.assertGreaterEqual(label.get_window_extent().x0, 0, label)

    def test_marks_of_few_points_only(self):
        many = Curve([(x, x) for x in range(41)])
        self.assertNotEqual(chart.draw([Chart("", [many], 41)]).axes[0].lines[0].get_marker(), "o")

    def test_levels_are_dashed_lines_with_words(self):
        axes = axes_of(levels={"raw pixels": 2.0, "untrained": 2.01, "third": 2.02})
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        self.assertEqual([line.get_ydata()[0] for line in dashed], [2.0, 2.01, 2.02])
        places = {text.get_text(): text.get_position()[1] for text in axes.texts}
        self.assertEqual([*places], ["third 2.0", "untrained 2.0", "raw pixels 2.0"])
        # Lines that nearly coincide: their words lie below each other, and inside of the chart.
        heights = [*places.values()]
        for upper, lower in zip(heights, heights[1:]):
            self.assertGreater(upper - lower, 0.08)
        self.assertGreater(heights[-1], 0.03)

    def test_words_of_low_levels_lie_inside(self):
        axes = axes_of(levels={"a": 1.0, "b": 1.0, "c": 1.0})
        self.assertGreater(min(text.get_position()[1] for text in axes.texts), 0.0)

    def test_band(self):
        axes = axes_of(band={1: (2.0, 4.0), 4: (1.0, 3.0)})
        corners = {*map(tuple, axes.collections[0].get_paths()[0].vertices)}
        self.assertContainsSubset({(1, 2.0), (1, 4.0), (4, 1.0), (4, 3.0)}, corners)
        self.assertGreater(axes.get_xlim()[1], 4)

    def test_mark(self):
        self.assertEqual([*axes_of(mark=2).lines[-1].get_xdata()], [2, 2])

    def test_legend(self):
        curves = [Curve(POINTS, label=name) for name in ("one", "two")]
        shown, hidden = (Chart("", curves, 2, legend=legend) for legend in (True, False))
        axes = chart.draw([shown]).axes[0]
        self.assertEqual([text.get_text() for text in axes.get_legend().texts], ["one", "two"])
        self.assertIsNone(chart.draw([hidden]).axes[0].get_legend())
        self.assertIsNone(axes_of().get_legend())


class ToHtmlTest(absltest.TestCase):
    def test_a_picture_for_each(self):
        charts = [Chart(f"<{n}>", [Curve(POINTS)], 2) for n in (1, 2)]
        page = PageReader(chart.to_html(charts, "caption & more"))
        shown = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
        self.assertEqual(shown, ["<1>, by epoch", "<2>, by epoch"])
        self.assertEqual(page.text, "caption & more")


if __name__ == "__main__":
    absltest.main()
