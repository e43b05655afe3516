import base64
import io

import numpy as np
from absl.testing import absltest
from PIL import Image

from csml_tf.reports import feature_map, map_images, palette
from csml_tf.reports.map_images import MapImages
from tests.reports.page_reader import PageReader


def make_images(num_images=30, num_classes=3, known=True, size=8):
    labels = np.arange(num_images) % num_classes
    thumbnails = np.zeros([num_images, size, size, 3], np.uint8)
    thumbnails[:] = np.arange(num_images)[:, None, None, None]
    rng = np.random.default_rng(0)
    values = 9 * np.eye(num_classes)[labels] + rng.normal(size=[num_images, num_classes])
    return MapImages(
        values=np.float32(values),
        thumbnails=thumbnails,
        labels=labels if known else np.full(num_images, -1),
        class_names=tuple(f"<{i}>" for i in range(num_classes)),
        sets=["held-out"] * num_images,
        names=[f"#{i} <b>&amp;" for i in range(num_images)],
        paths=[f'/a folder/"{i}", <b>&amp;.png' for i in range(num_images)],
    )


class ToHtmlTest(absltest.TestCase):
    def test_a_dot_for_each_image(self):
        images = make_images()
        positions = np.random.default_rng(1).uniform(size=[30, 2])
        page = PageReader(feature_map.to_html(positions, images))
        dots = [attrs for tag, attrs in page.elements if tag == "use" and "data-i" in attrs]
        self.assertLen(dots, 30)
        for i, dot in enumerate(dots):
            color, shape = palette.look(images.labels[i])
            self.assertEqual(
                (dot["data-i"], dot["fill"], dot["href"]), (str(i), color, "#" + shape)
            )
            self.assertAlmostEqual(float(dot["x"]), 20 + 1000 * positions[i, 0], delta=0.06)
            self.assertAlmostEqual(float(dot["y"]), 20 + 1000 * positions[i, 1], delta=0.06)
            self.assertIn(f"<{i % 3}>, held-out image #{i} <b>&amp;", page.text)
        self.assertContainsSubset({"circle", "square"}, page.ids)

    def test_sprite(self):
        images = make_images(5)
        page = PageReader(feature_map.to_html(np.zeros([5, 2]), images))
        (uri,) = [value for _, name, value in page.references if name == "style"]
        kind, _, content = uri.partition(",")
        self.assertEqual(kind, "data:image/png;base64")
        content = base64.b64decode(content.split(")")[0])
        sprite = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(sprite, map_images.make_sprite(images.thumbnails))
        (attrs,) = [attrs for tag, attrs in page.elements if attrs.get("class") == "map"]
        self.assertEqual(attrs["data-columns"], "3")

    def test_legend(self):
        for images, entries in (
            (make_images(), 3),
            (make_images(known=False), 0),
            (make_images(60, palette.NUM_LOOKS), palette.NUM_LOOKS),
            (make_images(60, palette.NUM_LOOKS + 1), 0),
        ):
            page = PageReader(feature_map.to_html(np.zeros([len(images), 2]), images))
            self.assertLen([tag for tag, _ in page.elements if tag == "li"], entries)

    def test_figure(self):
        images = make_images()
        positions = np.random.default_rng(1).uniform(size=[30, 2])
        axes = feature_map.draw(positions, images).axes[0]
        for label, dots in enumerate(axes.collections):
            np.testing.assert_allclose(dots.get_offsets(), positions[label::3])


if __name__ == "__main__":
    absltest.main()
