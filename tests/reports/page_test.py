from absl.testing import absltest

from csml_tf.reports import page, part, run_record
from tests.reports import tiny_record
from tests.reports.page_reader import PageReader
from tests.training import tiny_run

NASTY = "<script>alert('a')</script> & \"b\""


class RenderTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        path = tiny_run.make_temp_dir(self.addCleanup) / "a <b> & 'c'"
        tiny_record.write(path, tiny_record.make_rows(2))
        self.record = run_record.read(path)

    def render(self, *parts, tiles=()):
        return PageReader(page.render(self.record, tiles, parts))

    def test_sections_and_links(self):
        read = self.render(
            part.Part("Map of the features", part.paragraph("body")), ("Curves", "No. Do so.")
        )
        self.assertEqual(read.ids, ["map-of-the-features", "curves"])
        links = [value for tag, name, value in read.references if tag == "a"]
        self.assertEqual(links, ["#map-of-the-features", "#curves"])
        self.assertIn("Left out: No. Do so.", read.text)
        self.assertIn("In progress or stopped: 2 of 3 epochs done, on digits.", read.text)

    def test_text_from_outside_is_text(self):
        read = self.render(
            part.Part("a", part.paragraph(NASTY) + part.picture("data:,", NASTY, NASTY)),
            ("b", NASTY),
            tiles=[(NASTY, NASTY, NASTY)],
        )
        self.assertEqual(read.text.count(NASTY), 6)
        self.assertNotIn("script", [tag for tag, _ in read.elements])
        self.assertIn("a <b> & 'c'", read.text)
        self.assertIn(NASTY, [attrs.get("alt") for tag, attrs in read.elements if tag == "img"])

    def test_lets_nothing_be_loaded(self):
        (policy,) = [
            attrs["content"]
            for tag, attrs in self.render().elements
            if attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        self.assertStartsWith(policy, "default-src 'none'")
        self.assertNotIn("http", policy)


if __name__ == "__main__":
    absltest.main()
