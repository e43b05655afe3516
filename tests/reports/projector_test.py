import io
import json
import warnings

import numpy as np
from absl.testing import absltest
from PIL import Image

from csml_tf.errors import InputError
from csml_tf.reports import map_images, projector
from tests.reports.feature_map_test import make_images
from tests.training import tiny_run


def open_projector(directory):
    """A client of TensorBoard's own plugin, over HTTP but without a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It imports modules that Python will drop.
        from tensorboard.plugins import base_plugin
        from tensorboard.plugins.projector import projector_plugin
    from werkzeug import routing, test, wrappers

    context = base_plugin.TBContext(logdir=str(directory))
    plugin = projector_plugin.ProjectorPlugin(context)
    apps = plugin.get_plugin_apps()
    urls = routing.Map([routing.Rule(path, endpoint=path) for path in apps if "*" not in path])

    def serve(environ, start_response):
        path = urls.bind_to_environ(environ).match()[0]
        return apps[path](environ, start_response)

    return test.Client(serve, wrappers.Response)


class WriteTest(absltest.TestCase):
    def test_tensorboard_reads_it(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        images = make_images(10)
        projector.write(images, directory / "new")
        client = open_projector(directory / "new")
        self.assertEqual(json.loads(client.get("/runs").data), ["."])
        (embedding,) = json.loads(client.get("/info?run=.").data)["embeddings"]
        self.assertEqual(embedding["tensorShape"], [10, 3])
        self.assertEqual(embedding["sprite"]["singleImageDim"], [8, 8])
        name = embedding["tensorName"]
        vectors = np.frombuffer(client.get(f"/tensor?run=.&name={name}").data, np.float32)
        np.testing.assert_allclose(vectors.reshape(10, 3), images.values, rtol=1e-5)
        metadata = client.get(f"/metadata?run=.&name={name}").data.decode().splitlines()
        self.assertEqual(metadata[0], "class\tset\timage")
        self.assertEqual(metadata[5], "<1>\theld-out\t#4 <b>&amp;")
        self.assertLen(metadata, 11)
        sprite = Image.open(io.BytesIO(client.get(f"/sprite_image?run=.&name={name}").data))
        np.testing.assert_array_equal(np.asarray(sprite), map_images.make_sprite(images.thumbnails))

    def test_names_cannot_break_the_table(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        images = make_images(3)
        images.names[1] = "#1 a\tb\nc.png"
        projector.write(images, directory)
        lines = (directory / "metadata.tsv").read_text().splitlines()
        self.assertEqual(lines[2], "<1>\theld-out\t#1 a b c.png")

    def test_not_writable(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        (directory / "file").touch()
        with self.assertRaisesRegex(InputError, "cannot be written .*--output"):
            projector.write(make_images(3), directory / "file")


if __name__ == "__main__":
    absltest.main()
