from absl.testing import absltest

from csml_tf.reports import page, part
from tests.reports import browser
from tests.reports.page_reader import PageReader
from tests.training import tiny_run

NASTY = "<script>alert('a')</script> & \"b\""
# What a page out of a file gets for a clipboard: one that works, one that refuses, none.
COPY = """
  const copied = [];
  Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => {
    if (copied.length) throw new Error("refused");
    copied.push(text);
  } } });
  const said = [];
  for (const button of document.querySelectorAll("pre.command button")) {
    button.click();
    await new Promise((go) => setTimeout(go, 50));
    said.push(button.textContent);
  }
  const marked = getSelection().toString();
  const width = document.querySelector("nav").scrollWidth;
  return { copied, said, marked, fits: width <= innerWidth };
"""


def read(*parts, head=""):
    return PageReader(page.render("a <b> & 'c'", "lead & lead", head, parts))


class RenderTest(absltest.TestCase):
    def test_sections_and_links(self):
        found = read(
            part.Part("Map of the features", part.paragraph("body")),
            ("Curves", part.LeftOut("No. Do so:", "a command")),
        )
        self.assertEqual(found.ids, ["map-of-the-features", "curves"])
        links = [value for tag, name, value in found.references if tag == "a"]
        self.assertEqual(links, ["#map-of-the-features", "#curves"])
        self.assertIn("Left out: No. Do so:a command", found.text)
        self.assertIn("lead & lead", found.text)
        tags = [tag for tag, _ in found.elements]
        self.assertLess(tags.index("nav"), tags.index("header"))

    def test_text_from_outside_is_text(self):
        head = page.tiles([(NASTY, NASTY, NASTY)]) + page.facts([(NASTY, NASTY)])
        found = read(
            part.Part("a", part.paragraph(NASTY) + part.picture("data:,", NASTY, NASTY)),
            ("b", part.LeftOut(NASTY, NASTY)),
            head=head,
        )
        self.assertEqual(found.text.count(NASTY), 9)
        self.assertLen([tag for tag, _ in found.elements if tag == "script"], 1)
        self.assertIn("a <b> & 'c'", found.text)
        self.assertIn(NASTY, [attrs.get("alt") for tag, attrs in found.elements if tag == "img"])

    def test_lets_nothing_be_loaded(self):
        (policy,) = [
            attrs["content"]
            for tag, attrs in read().elements
            if attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        self.assertStartsWith(policy, "default-src 'none'")
        self.assertNotIn("http", policy)


class BrowserTest(absltest.TestCase):
    def test_copies_commands_and_wraps_links(self):
        browser.need(self)
        commands = ("mkdir -p 'a b' && csml-tf evaluate --json=x", "tensorboard --logdir=a")
        parts = [
            part.Part(f"A part by the name of {n}", part.command(commands[n % 2])) for n in range(2)
        ]
        parts += [part.Part(f"A part by the name of {n}", "") for n in range(2, 12)]
        text = page.render("x", "", "", parts)
        folder = tiny_run.make_temp_dir(self.addCleanup)
        answer, complaints = browser.ask(text, COPY, folder, browser.NARROW)
        self.assertEqual(complaints, [])
        self.assertEqual(answer["copied"], [commands[0]])
        self.assertEqual(answer["marked"], commands[1])
        self.assertEqual(answer["said"][0], "Copied")
        self.assertIn(answer["said"][1], ("Copied", "Selected"))
        self.assertTrue(answer["fits"])


if __name__ == "__main__":
    absltest.main()
