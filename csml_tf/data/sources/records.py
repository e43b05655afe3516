"""TensorFlow Datasets stored as array_record, read from disk by index."""

import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from csml_tf import progress
from csml_tf.data import parallel
from csml_tf.data.sources import base, left_out
from csml_tf.data.sources.broken_images import BrokenImages, StandIns
from csml_tf.errors import InputError
from csml_tf.quiet import quiet

_LABEL_BATCH = 1024
_FINGERPRINT_RECORDS = 64


class RecordSource(base.ImageSource):
    """One split of a TFDS data set whose files are array_record.

    Nothing is kept in memory but the files' indices. Opening reads one record of
    each file, so that one which is missing or cut off is found before a run starts.

    An image in them that cannot be decoded is replaced by the next one, see `broken_images`.
    Labels lie in the same records as the images: the first use of `labels` reads
    the whole split, with a progress bar, and keeps them.

    Args:
        builder: a `tfds.core.DatasetBuilder` whose files are on disk.
        split: str, as TFDS writes it: "train", "train[:10%]", "train+unlabelled".
        image_key: str, name of the image among the features.
        label_key: str, name of the label, or None if there are none.
        name: str, how the source is called in logs.

    Raises:
        InputError: if the package array_record or a file is missing or broken.
    """

    def __init__(self, builder, split, image_key, label_key, name):
        self.name = name
        self._directory = os.fspath(builder.data_path)
        self._image_key = image_key
        self._label_key = label_key
        if label_key:
            self.class_names = tuple(builder.info.features[label_key].names)
        try:
            self._records = builder.as_data_source(split).data_source
        except ImportError as error:
            raise InputError(
                f"{name} is stored as array_record, which cannot be read here ({error}): "
                f"`pip install array_record`, or prepare the data set as tfrecord."
            ) from error
        files = builder.info.splits[split].file_instructions
        counts = np.array([file.take for file in files])
        for first in np.cumsum(counts) - counts:
            self._read_record(first)
        self._sizes = np.array([tf.io.gfile.stat(file.filename).length for file in files])
        self._labels = None
        self._fingerprint = None
        self._decoders = select_features(image_key, label_key)
        with quiet():
            self._selected = self._decoders.extract_features(builder.info.features)
        # Called eagerly, too, it raises TensorFlow's errors: those of a run.
        signature = [tf.TensorSpec([], tf.int64)]
        self._read_serialized = tf.function(
            self._read_in_graph, autograph=False, input_signature=signature
        )
        self._stand_ins = StandIns(
            len(self), self._read_encoded, make_note_broken(len(self), name, self._directory)
        )

    def __len__(self):
        return len(self._records)

    @property
    def fingerprint(self):
        # Sizes of the files and some whole records, as for encoded images in memory.
        if self._fingerprint is None:
            indices = np.linspace(0, len(self) - 1, min(len(self), _FINGERPRINT_RECORDS))
            sample = [self._read_record(index) for index in indices.astype(np.int64)]
            self._fingerprint = base.digest(self._sizes, *sample)
        return self._fingerprint

    @property
    def labels(self):
        if self._labels is None and self._label_key:
            self._labels = self._read_labels()
        return self._labels

    def read_with(self, index, decode):
        return decode(self._read_encoded(self._stand_ins.find(tf.cast(index, tf.int64))))

    def read_example(self, index):
        """One record; usable inside a tf.data map.

        Args:
            index: scalar int64 in [0, len).

        Returns:
            {image key: scalar string, the bytes of the image file; label key: scalar int64}.
        """
        serialized = self._read_serialized(tf.cast(index, tf.int64))
        return self._selected.deserialize_example(serialized, decoders=self._decoders.decoders)

    def read_some(self, count):
        """The bytes of about so many images, spread evenly: a list of scalar strings."""
        indices = np.unique(np.linspace(0, len(self) - 1, count).astype(np.int64))
        return [self._read_encoded(tf.constant(index)) for index in indices]

    def _read_encoded(self, index):
        return self.read_example(index)[self._image_key]

    def _read_in_graph(self, index):
        # Through Python, but without its lock while the disk is read.
        serialized = tf.numpy_function(self._read_record, [index], tf.string, stateful=False)
        return tf.ensure_shape(serialized, [])

    def _read_record(self, index):
        try:
            return self._records[int(index)]
        except RuntimeError as error:  # Of array_record, whatever the matter is.
            raise InputError(
                f"Record {index} of {self.name} cannot be read from {self._directory} "
                f"({str(error).splitlines()[0]}): delete that folder and prepare it anew."
            ) from error

    def _read_labels(self):
        def read_label(index):
            return self.read_example(index)[self._label_key]

        labels = tf.data.Dataset.range(len(self)).map(read_label, parallel.CALLS)
        batches = []
        with progress.bar(len(self), f"Labels of {self.name}", unit="images") as advance:
            for batch in parallel.prefetch(labels.batch(_LABEL_BATCH)).as_numpy_iterator():
                batches.append(batch)
                advance(len(batch))
        return np.concatenate(batches).astype(np.int64)


def make_note_broken(num_images, name, directory):
    """What counts and names the broken images of a split, see `broken_images`.

    Args:
        num_images: of the split.
        name: str, how its source is called.
        directory: str, where its files lie.

    Returns:
        function of an int, the index of such an image.
    """
    broken = BrokenImages(
        num_images,
        f"images of {name}",
        left_out.shorten,
        f"they are numbers in its order; delete {directory} and prepare the data set anew",
    )
    return lambda index: broken.replace(str(index), f"Image {index} of {name}")


def select_features(image_key, label_key):
    """What TFDS is to read of a record: the image, still encoded, and the label if it has one."""
    return tfds.decode.PartialDecoding(
        {key: True for key in (image_key, label_key) if key},
        decoders={image_key: tfds.decode.SkipDecoding()},
    )
