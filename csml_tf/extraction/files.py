"""What features lie in: NumPy's `.npz`, or Parquet where pyarrow is installed."""

import contextlib
import dataclasses
import json
import zipfile
import zlib
from typing import Any

import numpy as np

from csml_tf import places, whole_files
from csml_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rows:
    """Features of some images.

    Attributes:
        paths: [count] str, below the folder of the images, with slashes.
        features: [count, dim] float32; row i belongs to `paths[i]`.
        bad_paths: [any] str, the files among them that are no readable images.
    """

    paths: np.ndarray
    features: np.ndarray
    bad_paths: np.ndarray


class NpzFile:
    """Arrays `paths`, `features`, `bad_paths`, and `card`, a text in JSON."""

    suffix = ".npz"

    def read(self, path):
        """`Rows` of a file."""
        with _open_arrays(path) as arrays:
            return Rows(*(arrays[field.name] for field in dataclasses.fields(Rows)))

    def read_bad_paths(self, path):
        """(number of rows, list of str) of a file; the features are not read."""
        with _open_arrays(path) as arrays:
            return len(arrays["paths"]), arrays["bad_paths"].tolist()

    def read_card(self, path):
        """The card that a file was written with; {} for one from elsewhere."""
        try:
            with _open_arrays(path) as arrays:
                return _as_card(arrays["card"])
        except NO_FILE_OF_OURS:
            return {}

    def write(self, path, rows, card):
        """Writes `Rows` to a `pathlib.Path`; the file appears whole or not at all."""
        arrays = {field.name: getattr(rows, field.name) for field in dataclasses.fields(Rows)}
        with whole_files.new_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, card=np.array(json.dumps(card)), **arrays)

    def merge(self, parts, path, card):
        """Writes the rows of several files as one, with one of them in memory at a time."""
        with whole_files.new_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for field in dataclasses.fields(Rows):
                _write_stacked(archive, field.name, parts)
            with archive.open("card.npy", "w") as file:
                np.lib.format.write_array(file, np.array(json.dumps(card)))


class ParquetFile:
    """Columns `path` (string) and `features` (list of floats, all of one length).

    The bad files and the card are texts in JSON in the schema's metadata, under
    "bad_paths" and "card".

    Raises:
        InputError: if pyarrow is not installed, or does not fit NumPy.
    """

    suffix = ".parquet"

    def __init__(self):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise InputError(
                f"Parquet files are written by pyarrow, which cannot be imported ({error}): "
                "`pip install 'csml_tf[parquet]'`, or write NAME.npz."
            ) from error
        self._arrow = pyarrow

    def read(self, path):
        """`Rows` of a file."""
        with places.at(path).open("rb") as file:
            table = self._arrow.parquet.read_table(file)
        dim = table.schema.field("features").type.list_size
        values = table.column("features").combine_chunks().flatten().to_numpy()
        bad_paths = json.loads(table.schema.metadata[b"bad_paths"])
        return Rows(
            _as_text(table.column("path").to_pylist()),
            values.reshape(-1, dim).astype(np.float32, copy=False),
            _as_text(bad_paths),
        )

    def read_bad_paths(self, path):
        """As `NpzFile.read_bad_paths`."""
        with self._arrow.parquet.ParquetFile(path) as file:
            bad_paths = file.schema_arrow.metadata[b"bad_paths"]
            return file.metadata.num_rows, json.loads(bad_paths)

    def read_card(self, path):
        """The card that a file was written with; {} for one from elsewhere."""
        try:
            with places.at(path).open("rb") as file:
                schema = self._arrow.parquet.read_schema(file)
            return _as_card(schema.metadata[b"card"].decode())
        except NO_FILE_OF_OURS:
            return {}

    def write(self, path, rows, card):
        """As `NpzFile.write`."""
        schema = self._make_schema(rows.features.shape[1], rows.bad_paths.tolist(), card)
        with (
            whole_files.new_file(path) as temporary,
            self._arrow.parquet.ParquetWriter(temporary, schema) as writer,
        ):
            writer.write_table(self._make_table(rows, schema))

    def merge(self, parts, path, card):
        """As `NpzFile.merge`; each of the files becomes a group of rows."""
        schemas = [self._arrow.parquet.read_schema(part) for part in parts]
        bad_paths = [name for s in schemas for name in json.loads(s.metadata[b"bad_paths"])]
        schema = self._make_schema(schemas[0].field("features").type.list_size, bad_paths, card)
        with (
            whole_files.new_file(path) as temporary,
            self._arrow.parquet.ParquetWriter(temporary, schema) as writer,
        ):
            for part in parts:
                writer.write_table(self._make_table(self.read(part), schema))

    def _make_schema(self, dim, bad_paths, card):
        arrow = self._arrow
        return arrow.schema(
            [("path", arrow.string()), ("features", arrow.list_(arrow.float32(), dim))],
            metadata={"bad_paths": json.dumps(bad_paths), "card": json.dumps(card)},
        )

    def _make_table(self, rows, schema):
        arrow = self._arrow
        # Names that are no UTF-8 cannot be kept to the byte.
        names = [name.encode(errors="replace").decode() for name in rows.paths.tolist()]
        flat = arrow.array(rows.features.ravel(), arrow.float32())
        columns = [
            arrow.array(names, arrow.string()),
            arrow.FixedSizeListArray.from_arrays(flat, rows.features.shape[1]),
        ]
        return arrow.Table.from_arrays(columns, schema=schema)


FORMATS: dict[str, Any] = {"npz": NpzFile, "parquet": ParquetFile}


# An empty file, an array alone, an archive that is cut off, other JSON, ...
NO_FILE_OF_OURS = (
    *(OSError, ValueError, KeyError, TypeError, IndexError, EOFError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, AttributeError),
)


@contextlib.contextmanager
def _open_arrays(path):
    """The arrays of an `.npz`; NumPy leaves a damaged one open."""
    with places.at(path).open("rb") as file, np.load(file) as arrays:
        yield arrays


def _as_card(text):
    card = json.loads(str(text))
    return card if isinstance(card, dict) else {}


def _write_stacked(archive, name, parts):
    """Writes the arrays of one name, end to end, as one array."""
    heads = [_read_header(part, name) for part in parts]
    # Texts of several lengths get the longest one's.
    dtype = np.result_type(*(dtype for _, dtype in heads))
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (sum(shape[0] for shape, _ in heads), *heads[0][0][1:]),
    }
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            with _open_arrays(part) as arrays:
                file.write(arrays[name].astype(dtype).tobytes())


def _read_header(path, name):
    """(shape, dtype) of an array in an `.npz`, without its content."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _as_text(names):
    return np.array(names, str) if names else np.empty([0], "<U1")
