import os

import numpy as np
import tensorflow as tf

from csml_tf.data.sources import folder, memory
from csml_tf.errors import InputError
from csml_tf.evaluation.retrieval import nearest_images, protocol
from tests.data.sources import image_files
from tests.evaluation.pixel_encoder import PixelEncoder


class LookUpTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        root = image_files.make_temp_dir(self.addCleanup)
        self.root = root
        self.images = np.stack([image_files.noise(i, 8, 8) for i in range(7)])
        for i, image in enumerate(self.images):
            part = "a" if i < 5 else "b"
            image_files.write(image_files.encode(image, "PNG"), root, part, f"{i}.png")
        self.sources = folder.FolderSource(f"{root}/a"), folder.FolderSource(f"{root}/b")

    def look_up(self, queries, sources=None, **options):
        outcome = nearest_images.look_up(
            PixelEncoder(), sources or self.sources, queries, **options
        )
        return outcome.result["nearest"]

    def cosines(self, query, cut=slice(None)):
        images = [image[cut][..., 0].ravel().astype(float) for image in [*self.images, query]]
        query = images.pop()
        norms = [np.linalg.norm(image) * np.linalg.norm(query) for image in images]
        return np.array([image @ query for image in images]) / norms

    def test_a_folder_of_new_images(self):
        queries = [image_files.noise(seed, 8, 8) for seed in (20, 21)]
        for i, image in enumerate(queries):
            image_files.write(image_files.encode(image, "PNG"), self.root, "new", f"{i}.png")
        rows = self.look_up(f"{self.root}/new", layer=["features", "upper"], k=[1, 3])
        self.assertLen(rows, 2 * 2 * 3)
        for layer, cut in (("features", slice(None)), ("upper", slice(4))):
            for i, query in enumerate(queries):
                cosines = self.cosines(query, cut)
                own = [
                    row
                    for row in rows
                    if row["layer"] == layer and row["query"] == f"{self.root}/new/{i}.png"
                ]
                self.assertEqual([row["rank"] for row in own], [1, 2, 3])
                order = np.argsort(-cosines)[:3]
                self.assertEqual(
                    [os.path.basename(row["image"]) for row in own], [f"{n}.png" for n in order]
                )
                self.assertAllClose([row["similarity"] for row in own], cosines[order], atol=1e-4)

    def test_one_file_of_the_data_set_is_not_its_own_neighbor(self):
        path = os.path.relpath(f"{self.root}/b/5.png")
        rows = self.look_up(path, k=[6])
        expected = np.argsort(-self.cosines(self.images[5]))
        self.assertEqual(expected[0], 5)
        names = [int(os.path.basename(row["image"])[0]) for row in rows]
        self.assertAllEqual(names, expected[1:])
        self.assertEqual({row["query"] for row in rows}, {path})

    def test_a_copy_elsewhere_is_a_neighbor(self):
        path = image_files.write(image_files.encode(self.images[2], "PNG"), self.root, "copy.png")
        first, *others = self.look_up(path)
        self.assertEqual(first["image"], f"{self.root}/a/2.png")
        self.assertAlmostEqual(first["similarity"], 1.0, places=5)
        self.assertLen(others, 4)  # 5 by default.

    def test_images_without_files_go_by_index(self):
        sources = (
            memory.MemorySource(self.images[:4], name="x"),
            memory.MemorySource(self.images[4:], name="y"),
        )
        path = image_files.write(image_files.encode(self.images[5], "PNG"), self.root, "copy.png")
        self.assertEqual(self.look_up(path, sources)[0]["image"], "y[1]")

    def test_as_a_setting_of_the_protocol(self):
        outcome = protocol.measure(
            PixelEncoder(), *self.sources, queries=f"{self.root}/a/0.png", k=[2]
        )
        self.assertLen(outcome.result["nearest"], 2)

    def test_rejects(self):
        text = image_files.write(b"no image", self.root, "text.jpg")
        image_files.write(b"no image", self.root, "broken", "text.jpg")
        os.makedirs(f"{self.root}/empty")
        for queries, k, message in (
            (f"{self.root}/no.png", None, "no file or folder .*/no.png to read"),
            (text, None, "text.jpg is no readable image"),
            (f"{self.root}/empty", None, "No image in "),
            (f"{self.root}/broken", None, "1 of 1 files .* no readable images"),
            (f"{self.root}/a/0.png", [7], "from 1 to the 6 images to find in .* got 7"),
            (f"{self.root}/a/0.png", [0], "got 0"),
        ):
            with self.assertRaisesRegex(InputError, message):
                self.look_up(queries, k=k)


if __name__ == "__main__":
    tf.test.main()
