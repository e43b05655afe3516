import itertools

import numpy as np
from absl.testing import absltest

from csml_tf.reports import palette

# Linear RGB as people without one kind of cone see it: Viénot, Brettel and Mollon, 1999.
DICHROMATS = {
    "protanope": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranope": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}
# Least distance in CIE Lab at which two dots are told apart; about 2 is just noticeable.
LEAST_DISTANCE = 5


def linear_rgb(color):
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.clip(matrix @ rgb, 0, None) / np.sum(matrix, axis=1)
    cube = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * cube[1] - 16, 500 * (cube[0] - cube[1]), 200 * (cube[1] - cube[2])])


class PaletteTest(absltest.TestCase):
    def test_told_apart_by_everyone(self):
        for who, matrix in {"everyone": np.eye(3), **DICHROMATS}.items():
            seen = {color: lab(matrix @ linear_rgb(color)) for color in palette.COLORS}
            for one, other in itertools.combinations(palette.COLORS, 2):
                with self.subTest(f"{who}: {one} {other}"):
                    self.assertGreater(np.linalg.norm(seen[one] - seen[other]), LEAST_DISTANCE)

    def test_frames_are_far_apart(self):
        for matrix in DICHROMATS.values():
            same, other = (
                lab(matrix @ linear_rgb(color)) for color in (palette.SAME, palette.OTHER)
            )
            self.assertGreater(np.linalg.norm(same - other), 40)

    def test_looks(self):
        looks = [palette.look(label) for label in range(palette.NUM_LOOKS)]
        self.assertLen(set(looks), palette.NUM_LOOKS)
        self.assertLen({color for color, _ in looks[:10]}, 10)
        self.assertLen({shape for _, shape in looks[:10]}, 1)
        self.assertEqual(palette.look(palette.NUM_LOOKS + 3), looks[3])
        self.assertNotIn(palette.look(-1), looks)


if __name__ == "__main__":
    absltest.main()
