import json
import os
import sys
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.extraction import files
from tests.training import tiny_run

CARD = {"model": "tiny", "layer": "features"}

try:
    files.ParquetFile()
    FORMATS = tuple(files.FORMATS)
except InputError:  # pyarrow is an extra.
    FORMATS = ("npz",)


def make_rows(seed, count, names="image{}.png", bad=()):
    features = np.random.default_rng(seed).normal(size=[count, 3]).astype(np.float32)
    paths = [names.format(i) for i in range(count)]
    return files.Rows(np.array(paths, str), features, np.array(bad, str))


# Texts of several lengths, a part without images, parts with and without bad files.
PARTS = (
    make_rows(0, 4, bad=["é.png", "b.png"]),
    make_rows(1, 0, bad=["a much longer name.png"]),
    make_rows(2, 2, "folder/{}.jpg"),
)


class FilesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)

    def write_parts(self, file_format):
        paths = [self.folder / f"{i}{file_format.suffix}" for i in range(len(PARTS))]
        for path, rows in zip(paths, PARTS):
            file_format.write(path, rows, CARD)
        return paths

    def check(self, rows, expected):
        self.assertEqual(rows.paths.tolist(), expected.paths.tolist())
        self.assertAllEqual(rows.features, expected.features)
        self.assertEqual(rows.features.dtype, np.float32)
        self.assertEqual(rows.bad_paths.tolist(), expected.bad_paths.tolist())

    @parameterized.parameters(*[(name,) for name in FORMATS])
    def test_round_trip(self, name):
        file_format = files.FORMATS[name]()
        for path, rows in zip(self.write_parts(file_format), PARTS):
            self.check(file_format.read(path), rows)
            bad_paths = rows.bad_paths.tolist()
            self.assertEqual(file_format.read_bad_paths(path), (len(rows.paths), bad_paths))
            self.assertEqual(file_format.read_card(path), CARD)

    @parameterized.parameters(*[(name,) for name in FORMATS])
    def test_merge(self, name):
        file_format = files.FORMATS[name]()
        parts = self.write_parts(file_format)
        merged = self.folder / f"merged{file_format.suffix}"
        file_format.merge(parts, merged, {"of": "all"})
        arrays = zip(*((r.paths, r.features, r.bad_paths) for r in PARTS))
        self.check(file_format.read(merged), files.Rows(*(np.concatenate(a) for a in arrays)))
        self.assertEqual(file_format.read_card(merged), {"of": "all"})

    @parameterized.product(
        name=FORMATS, content=[b"", b"PK", b"PAR1", b"\x93NUMPY", b"x" * 99, b"[]"]
    )
    def test_file_from_elsewhere_has_no_card(self, name, content):
        path = self.folder / f"x.{name}"
        path.write_bytes(content)
        self.assertEqual(files.FORMATS[name]().read_card(path), {})

    def test_card_of_another_kind(self):
        for card in ("[]", "3", "null", "{"):
            np.savez(self.folder / "x.npz", card=np.array(card))
            self.assertEqual(files.NpzFile().read_card(self.folder / "x.npz"), {})

    def test_others_read_them(self):
        for name in FORMATS:
            file_format = files.FORMATS[name]()
            file_format.merge(self.write_parts(file_format), self.folder / f"all.{name}", CARD)
        with np.load(self.folder / "all.npz", allow_pickle=False) as arrays:
            self.assertEqual({*arrays}, {"paths", "features", "bad_paths", "card"})
            self.assertEqual(json.loads(str(arrays["card"])), CARD)
            paths, features = arrays["paths"].tolist(), arrays["features"]
        if "parquet" not in FORMATS:
            return
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(self.folder / "all.parquet").to_pydict()
        self.assertEqual({*table}, {"path", "features"})
        self.assertEqual(table["path"], paths)
        self.assertAllEqual(np.array(table["features"], np.float32), features)

    @parameterized.parameters(*[(name,) for name in FORMATS])
    def test_whole_or_not_at_all(self, name):
        file_format = files.FORMATS[name]()
        parts = self.write_parts(file_format)
        before = sorted(os.listdir(self.folder))
        parts[-1].write_bytes(b"damaged")
        with self.assertRaises(Exception):  # noqa: B017 (each library has its own)
            file_format.merge(parts, self.folder / f"merged{file_format.suffix}", CARD)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    @parameterized.parameters(*[(name,) for name in FORMATS])
    def test_card_of_something_else(self, name):
        path = self.folder / "other"
        path.write_bytes(b"something")
        self.assertEqual(files.FORMATS[name]().read_card(path), {})
        np.savez(self.folder / "other.npz", a=1)
        self.assertEqual(files.NpzFile().read_card(self.folder / "other.npz"), {})

    def test_names_that_are_no_utf8(self):
        rows = make_rows(0, 2, os.fsdecode(b"bee\xff{}.png"))
        path = self.folder / "a.npz"
        files.NpzFile().write(path, rows, CARD)
        self.check(files.NpzFile().read(path), rows)
        if "parquet" not in FORMATS:
            return
        files.ParquetFile().write(path, rows, CARD)
        self.assertEqual(files.ParquetFile().read(path).paths.tolist(), ["bee?0.png", "bee?1.png"])

    def test_without_pyarrow(self):
        with (
            mock.patch.dict(sys.modules, {"pyarrow": None}),
            self.assertRaisesRegex(InputError, "pyarrow, which cannot be imported"),
        ):
            files.ParquetFile()


if __name__ == "__main__":
    tf.test.main()
