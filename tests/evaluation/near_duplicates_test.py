import io

import numpy as np
import tensorflow as tf
from PIL import Image

from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory
from csml_tf.evaluation import near_duplicates

VIEW = CenterView(32, mean=(0.0,) * 3, std=(1.0,) * 3)


def make_scenes(count, seed=0):
    """[count, 32, 32, 3] uint8: smooth noise, as photographs are smooth."""
    noise = np.random.default_rng(seed).uniform(size=[count, 6, 6, 3])
    smooth = tf.image.resize(noise, [32, 32], "bicubic").numpy()
    return np.clip(255 * smooth, 0, 255).astype(np.uint8)


def recompress(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


class FindTest(tf.test.TestCase):
    def find(self, train, test, cosines, indices):
        sources = memory.MemorySource(train, name="train"), memory.MemorySource(test, name="test")
        return near_duplicates.find(np.array(cosines), np.array(indices), *sources, VIEW), sources

    def test_copies_are_found_and_others_are_not(self):
        train = make_scenes(8)
        brighter = (train[2] * 0.7 + 60).astype(np.uint8)
        half_another = (train[3] // 2 + make_scenes(1, seed=9)[0] // 2).astype(np.uint8)
        test = np.stack(
            [train[0], recompress(train[1]), brighter, half_another, train[4][:, ::-1], train[5]]
        )
        # The fifth nearest are at 0.2: all are nearer than 0.01, but for the last one.
        cosines = [[0.991] + [0.8] * 5] * 5 + [[0.989] + [0.8] * 5]
        indices = [[i, 6, 7, 6, 7, 6] for i in range(6)]
        found, sources = self.find(train, test, cosines, indices)
        self.assertAllEqual(found.test_indices, [0, 1, 2, 4])
        self.assertAllEqual(found.train_indices, [0, 1, 2, 4])
        self.assertAllClose(found.cosines, [0.991] * 4)
        pixels = [np.corrcoef(train[i].ravel(), test[i].ravel())[0, 1] for i in range(6)]
        self.assertAllClose(found.correlations[:3], pixels[:3], atol=1e-4)
        self.assertBetween(pixels[3], 0.5, 0.9)  # Alike, and no copy.
        self.assertEqual(
            found.to_csv(*sources).splitlines()[:2],
            [
                "test_image,train_image,cosine,pixel_correlation",
                "test[0],train[0],0.991000,1.000000",
            ],
        )
        self.assertEqual(
            str(found), "1 - cosine, and that of pixels, at most 0.05 of an ordinary neighbor's"
        )

    def test_where_all_images_are_alike_a_copy_is_closer_still(self):
        scene, details = make_scenes(1)[0] / 2, make_scenes(9, seed=1)
        train = (scene + details[:8] / 8).astype(np.uint8)
        alike = (scene + details[0] / 11 + details[8] / 32).astype(np.uint8)
        test = np.stack([train[3], alike])
        found, _ = self.find(train, test, [[1.0] + [0.8] * 4] * 2, [[3, 5, 6, 7, 7], [0] + [7] * 4])
        self.assertAllEqual(found.test_indices, [0])
        correlation = np.corrcoef(alike.ravel(), train[0].ravel())[0, 1]
        self.assertGreater(correlation, 0.99)

    def test_a_test_set_of_copies_only(self):
        """The fifth nearest image says what is ordinary, whatever the nearest is."""
        train = make_scenes(10)
        found, _ = self.find(
            train, train[:4], [[1.0] + [0.5] * 4] * 4, [[i, 6, 7, 8, 9] for i in range(4)]
        )
        self.assertLen(found, 4)

    def test_images_of_one_color_are_no_copies(self):
        plain = np.full([6, 32, 32, 3], 90, np.uint8)
        found, _ = self.find(plain, plain[:2] + 1, [[1.0] * 5] * 2, [[0, 1, 2, 3, 4]] * 2)
        self.assertEmpty(found)

    def test_fewer_images_than_neighbors(self):
        scenes = make_scenes(2)
        found, _ = self.find(scenes, scenes[:1], [[1.0, 0.5]], [[0, 1]])
        self.assertLen(found, 1)


if __name__ == "__main__":
    tf.test.main()
