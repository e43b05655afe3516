import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.conversion import weight_files
from csml_tf.errors import InputError
from tests.training import tiny_run


class WeightFilesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)

    def test_contents_tell_the_format(self):
        weight_files.write(self.folder / "x.safetensors", {"a": np.ones([2])})
        (self.folder / "x.safetensors").rename(self.folder / "x.pth")
        np.testing.assert_array_equal(weight_files.read(self.folder / "x.pth")["a"], np.ones([2]))

    @parameterized.parameters(b"", b"<html>no such file</html>", b"\xff\xd8\xff\xe0 a photograph")
    def test_no_checkpoint(self, content):
        path = self.folder / "x.pth"
        path.write_bytes(content)
        with self.assertRaisesRegex(InputError, "x.pth is no checkpoint: neither a file by torch"):
            weight_files.read(path)

    def test_unreadable(self):
        for path in (self.folder, self.folder / "none.pth"):
            with self.assertRaisesRegex(InputError, r"cannot be read \(.+\): give --checkpoint a"):
                weight_files.read(path)

    @parameterized.parameters("x", "x.pkl", "x.tar", "x.pth.zip")
    def test_unknown_ending(self, name):
        with self.assertRaisesRegex(InputError, "should end in .pth or .safetensors"):
            weight_files.write(self.folder / name, {})

    def test_no_folder(self):
        with self.assertRaisesRegex(InputError, "cannot be written .*: choose another --output"):
            weight_files.write(self.folder / "no" / "x.safetensors", {"a": np.ones([2])})

    def test_failure_leaves_the_older_file(self):
        path = self.folder / "x.safetensors"
        weight_files.write(path, {"a": np.ones([2])})
        older = path.read_bytes()
        with self.assertRaises(KeyError):
            weight_files.write(path, {"a": np.ones([2], "complex64")})
        self.assertEqual(path.read_bytes(), older)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["x.safetensors"])


if __name__ == "__main__":
    absltest.main()
