import json
import pathlib
import struct

import numpy as np
from absl.testing import absltest, parameterized

from csml_tf.conversion import safetensors_files
from csml_tf.errors import InputError
from tests.training import tiny_run

TENSORS = {
    "a": np.arange(6, dtype="float32").reshape(2, 3),
    "b.c": np.array(7, "int64"),
    "d": np.zeros([0, 2], "float16"),
    "e": np.array([True, False]),
}


def file_bytes(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class SafetensorsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.path = tiny_run.make_temp_dir(self.addCleanup) / "x.safetensors"

    def test_reads_bytes_by_the_definition(self):
        header = {
            "__metadata__": {"format": "pt"},
            "weights": entry("F32", [2, 1], 2, 10),
            "count": entry("U8", [], 1, 2),
            "upper": entry("BF16", [2], 10, 14),
        }
        data = (
            b"?" + bytes([200]) + struct.pack("<ff", 1.5, -2.0) + struct.pack("<HH", 0x3F80, 0xC040)
        )
        self.path.write_bytes(file_bytes(header, data))
        self.assertTrue(safetensors_files.looks_like(self.path))
        found = safetensors_files.read(self.path)
        self.assertEqual([*found], ["weights", "count", "upper"])
        np.testing.assert_array_equal(found["weights"], [[1.5], [-2.0]])
        self.assertEqual(found["count"], 200)
        np.testing.assert_array_equal(found["upper"], [1.0, -3.0])
        self.assertEqual(found["upper"].dtype, np.float32)

    def test_writes_what_the_definition_says(self):
        safetensors_files.write(self.path, TENSORS)
        content = self.path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        self.assertEqual(length % 8, 0)
        self.assertEqual(header.pop("__metadata__"), {"format": "pt"})
        self.assertEqual(header["a"], entry("F32", [2, 3], 0, 24))
        self.assertEqual(header["b.c"], entry("I64", [], 24, 32))
        self.assertEqual(data[:24], struct.pack("<6f", *range(6)))
        self.assertEqual(data[24:32], struct.pack("<q", 7))
        self.assertLen(data, 34)

    def test_there_and_back(self):
        safetensors_files.write(self.path, TENSORS)
        found = safetensors_files.read(self.path)
        self.assertEqual([*found], [*TENSORS])
        for name, array in TENSORS.items():
            self.assertEqual((found[name].dtype, found[name].shape), (array.dtype, array.shape))
            np.testing.assert_array_equal(found[name], array)

    def test_as_the_safetensors_package(self):
        try:
            from safetensors import numpy as package
        except ImportError:
            self.skipTest("safetensors is not installed: pip install safetensors")
        safetensors_files.write(self.path, TENSORS)
        theirs = package.load_file(self.path)
        package.save_file(TENSORS, self.path)
        ours = safetensors_files.read(self.path)
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(theirs[name], array)
            np.testing.assert_array_equal(ours[name], array)

    @parameterized.parameters(
        (b"", "longer than the file"),
        (struct.pack("<Q", 50) + b"{}", "longer than the file"),
        (file_bytes({"a": entry("F32", [2], 0, 8)}, b"1234567"), "a does not lie in it"),
        (file_bytes({"a": entry("F32", [2], 0, 4)}, b"12345678"), "a does not lie in it"),
        (file_bytes({"a": entry("F32", [1], -4, 0)}, b"1234"), "a does not lie in it"),
        (struct.pack("<Q", 3) + b"{ab", "header cannot be read"),
        (file_bytes({"a": {"dtype": "F32"}}), "header cannot be read"),
        (file_bytes(["a"]), "header cannot be read"),
        (file_bytes({"a": entry("F8_E4M3", [1], 0, 1)}, b"1"), "holds a as F8_E4M3: only F64,"),
    )
    def test_refuses(self, content, message):
        self.path.write_bytes(content)
        with self.assertRaisesRegex(InputError, message):
            safetensors_files.read(self.path)

    @parameterized.parameters(b"", b"PK\x03\x04 a zip archive", b"12345678{", b"\x02" + b"\0" * 7)
    def test_looks_like_another(self, content):
        pathlib.Path(self.path).write_bytes(content)
        self.assertFalse(safetensors_files.looks_like(self.path))


if __name__ == "__main__":
    absltest.main()
