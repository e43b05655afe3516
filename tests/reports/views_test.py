import numpy as np
from absl.testing import absltest, parameterized
from PIL import Image

from csml_tf.data.originals import Original
from csml_tf.errors import InputError
from csml_tf.reports import views
from csml_tf.training.step_images import AnchorImages
from tests.training import tiny_run

NAMES = ("query", "key", "small_0", "neighbor_query", "neighbor_key")


def plain(color, size=16, dtype=np.float32):
    """A square of one of 4 x 4 x 4 colours."""
    channels = [color // 16, color // 4 % 4, color % 4]
    return np.broadcast_to(np.array(channels, dtype) / 3, [size, size, 3])


def make_original(color, names, path="folder/some.png"):
    pixels = (plain(color, 20) * 255).astype(np.uint8)
    windows = {name: np.array([2.0, 3.0, 10.0, 12.0]) for name in names}
    return Original(pixels, color, "a class", path, windows)


def make_anchor(names=NAMES):
    shown = {name: plain(10 + i, 8 if "small" in name else 16) for i, name in enumerate(names)}
    neighbor_names = [name for name in names if "neighbor" in name]
    anchor = make_original(1, [name for name in names if name not in neighbor_names])
    if not neighbor_names:
        return AnchorImages(anchor, None, shown, None, None)
    return AnchorImages(anchor, make_original(2, neighbor_names, None), shown, plain(3), 0.7)


def colors_of(path):
    """{colour number of `plain`: how many pixels of the page have it}."""
    page = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(page, axis=0, return_counts=True)
    numbers = {tuple(np.round(plain(n, 1)[0, 0] * 255).astype(int)): n for n in range(64)}
    return {
        numbers[tuple(color)]: count
        for color, count in zip(found, counts)
        if tuple(color) in numbers
    }


class SavePageTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)
        self.path = self.directory / "views.png"

    def test_shows_every_image(self):
        views.save_page([make_anchor()] * 2, "title\nsecond line", self.path)
        counts = colors_of(self.path)
        self.assertContainsSubset([1, 2, 3, 10, 11, 12, 13, 14], counts)
        for color in (1, 2, 3, 10, 11, 13, 14):
            self.assertGreater(counts[color], 2 * 100**2)
        self.assertLess(counts[12], 0.4 * counts[10])  # The small view.

    def test_without_neighbors(self):
        views.save_page([make_anchor(["query", "key"])], "title", self.path)
        counts = colors_of(self.path)
        self.assertContainsSubset([1, 10, 11], counts)
        self.assertNoCommonElements([2, 3, 12, 13], counts)

    def test_frames_of_views_and_windows(self):
        # tab:blue and tab:orange: on the view, around its window in the original.
        views.save_page([make_anchor(["query", "key"])], "title", self.path)
        page = np.asarray(Image.open(self.path).convert("RGB")).astype(int)
        for color in ([31, 119, 180], [255, 127, 14]):
            columns = np.flatnonzero((page == color).all(axis=-1).any(axis=0))
            self.assertGreater(columns.max() - columns.min(), page.shape[1] / 4)

    def test_unwritable_file(self):
        with self.assertRaisesRegex(InputError, "cannot be written .*choose another --output"):
            views.save_page([make_anchor()], "title", self.directory / "no" / "views.png")


if __name__ == "__main__":
    absltest.main()
