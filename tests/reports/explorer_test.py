import csv
import dataclasses
import io
import json
import re

import numpy as np
from absl.testing import absltest

from csml_tf import similarity
from csml_tf.reports import explorer
from csml_tf.reports.embedding import Embedding
from tests.reports import browser
from tests.reports.feature_map_test import make_images
from tests.reports.page_reader import PageReader
from tests.training import tiny_run

SIDE = 6
# Of a map on a grid of 6 x 6 images: touch, draw, save.
TOUCH = """
  while (document.body.dataset.ready !== "yes") await new Promise((go) => setTimeout(go, 20));
  const canvas = document.getElementById("plane");
  const frame = canvas.getBoundingClientRect();
  const send = (kind, [x, y], buttons) => canvas.dispatchEvent(new PointerEvent(kind, {
    clientX: frame.x + x, clientY: frame.y + y, pointerId: 1, buttons, bubbles: true }));
  send("pointermove", plane.place(8), 0);
  const lens = document.getElementById("lens");
  const hovered = lens.hidden ? null : lens.textContent;
  send("pointerdown", plane.place(7), 1);
  send("pointerup", plane.place(7), 0);
  const side = document.getElementById("side");
  const near = [...side.querySelectorAll(".near button")].map((each) => Number(each.dataset.i));
  const words = side.textContent;
  side.querySelector(".near button").click();
  const next = plane.picked;

  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -200, cancelable: true }));
  const zoomed = plane.scale / plane.whole;
  document.getElementById("whole").click();
  const before = plane.place(0);
  send("pointerdown", [5, 5], 1); send("pointermove", [25, 35], 1); send("pointerup", [25, 35], 0);
  const moved = plane.place(0).map((place, axis) => place - before[axis]);
  document.getElementById("whole").click();

  document.getElementById("lasso").click();
  const [left, top] = plane.place(0), [right, bottom] = plane.place(35);
  const middle = (left + right) / 2;
  const corners = [[middle, top - 9], [right + 9, top - 9],
                   [right + 9, bottom + 9], [middle, bottom + 9]];
  send("pointerdown", corners[0], 1);
  for (const corner of corners.slice(1)) send("pointermove", corner, 1);
  send("pointerup", corners[3], 0);
  let saved = null, name = null;
  URL.createObjectURL = (blob) => { saved = blob; return "#"; };
  HTMLAnchorElement.prototype.click = function () { name = this.download; };
  document.getElementById("save").click();
  const text = await saved.text();
  const chosen = document.getElementById("count").textContent;
  dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  const after = document.getElementById("save").disabled;

  document.querySelector("#legend button").click();
  const hidden = plane.inside(corners).length;
  return { hovered, near, words, next, zoomed, moved, text, name, chosen, after, hidden };
"""


def make_grid():
    """36 images on a grid, row by row, and their page."""
    images = make_images(SIDE**2)
    images = dataclasses.replace(images, values=similarity.l2_normalize(images.values))
    rows, columns = np.divmod(np.arange(SIDE**2), SIDE)
    positions = np.stack([columns, rows], axis=1) / (SIDE - 1)
    return images, explorer.render("a <run>", images, Embedding(positions, np.arange(SIDE**2)))


class RenderTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.text = make_grid()

    def test_asks_for_nothing_outside(self):
        page = PageReader(self.text)
        for tag, name, value in page.references:
            self.assertRegex(value, "^data:", f"{tag} {name}")
        self.assertNotRegex(self.text, r"@import|url\(|<script[^>]+src|https?://[^w]")
        self.assertIn("a <run>", page.text)
        self.assertIn("t-SNE of 36 images", page.text)
        self.assertIn("36 held-out and 0 training images", page.text)

    def test_names_cannot_end_the_script(self):
        self.images.paths[0] = "</script><script>alert(1)</script><!--"
        where = Embedding(np.zeros([SIDE**2, 2]), np.arange(SIDE**2))
        text = explorer.render("x", self.images, where)
        data = re.search('id="data">(.*?)</script>', text, re.DOTALL)[1]
        self.assertEqual(json.loads(data)["paths"], self.images.paths)


class BrowserTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        browser.need(self)
        self.images, self.text = make_grid()

    def ask(self, script, width=browser.WIDE):
        answer, complaints = browser.ask(
            self.text, script, tiny_run.make_temp_dir(self.addCleanup), width
        )
        self.assertEqual(complaints, [])
        return answer

    def test_behavior(self):
        answer = self.ask(TOUCH)
        self.assertEqual(answer["hovered"], '<2>, held-out, "8", <b>&amp;.png')
        cosines = self.images.values @ self.images.values[7]
        cosines[7] = -2
        expected = np.argsort(-cosines, kind="stable")[:8].tolist()
        self.assertEqual(answer["near"], expected)
        self.assertEqual(answer["next"], expected[0])
        self.assertIn('/a folder/"7", <b>&amp;.png', answer["words"])
        self.assertIn(f"{cosines[expected[0]]:.3f}", answer["words"])
        self.assertAlmostEqual(answer["zoomed"], np.exp(0.5), places=4)
        np.testing.assert_allclose(answer["moved"], [20, 30], atol=0.01)
        rows = [*csv.reader(io.StringIO(answer["text"]))]
        self.assertEqual(rows[0], ["path", "class", "set"])
        inside = [i for i in range(SIDE**2) if i % SIDE >= SIDE / 2]
        self.assertEqual(
            rows[1:], [[self.images.paths[i], f"<{i % 3}>", "held-out"] for i in inside]
        )
        self.assertEqual(answer["name"], "chosen_images.csv")
        self.assertEqual(answer["chosen"], "18 chosen")
        self.assertTrue(answer["after"])
        self.assertEqual(answer["hidden"], len([i for i in inside if i % 3]))

    def test_fits_the_window(self):
        for width in (browser.WIDE, browser.NARROW):
            with self.subTest(width):
                answer = self.ask(browser.OVERFLOWING, width)
                self.assertEqual(answer, {"width": width, "fits": True, "beyond": []})


if __name__ == "__main__":
    absltest.main()
