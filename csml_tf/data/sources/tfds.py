"""TensorFlow Datasets, by index: held in memory, or read from array_record files."""

import contextlib
import difflib
import functools
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from csml_tf import places, progress
from csml_tf.augment import geometric, image_kinds
from csml_tf.data import parallel
from csml_tf.data.sources import memory, records
from csml_tf.data.sources.splits import Splits
from csml_tf.errors import InputError
from csml_tf.quiet import quiet

MAX_DECODED_BYTES = 2**30
_LOAD_BATCH = 1024
_FILES_LOOKED_AT = 64
_MEMORY_SHARE = 0.9
_TESTS = ("test", "validation")
_URLS = ("gs://", "s3://")  # Those that TFDS opens.
_UNLABELLED = ("unlabelled", "unlabeled")


def open_splits(dataset, data_dir=None, download=False):
    """Finds the splits of a data set of TFDS; none is read yet.

    Args:
        dataset: str, as TFDS writes it: "cifar10", "cifar10:3.0.2", "imagenet2012_subset/1pct".
        data_dir: str, where prepared data sets live; None for TFDS's own place.
        download: bool, whether to download and prepare the data set if it is missing.

    Returns:
        `Splits`. Validation images are the test images where no labelled test images exist;
        images that the data set lists as unlabelled are for pretraining.

    Raises:
        InputError: if the data set is unknown or missing.
    """
    builder = make_builder(dataset, data_dir, download)
    names = list(builder.info.splits)
    open_split = functools.partial(load_split, builder, dataset)
    if "train" not in names:
        open_all = functools.partial(open_split, "+".join(names))
        return Splits(open_all, test=None, pretrain=open_all)
    open_train = open_pretrain = functools.partial(open_split, "train")
    unlabelled = [name for name in _UNLABELLED if name in names]
    if unlabelled:
        open_pretrain = functools.partial(open_split, "+".join(["train", *unlabelled]))
    tests = [name for name in _TESTS if name in names]

    def open_test():
        # Labels of test images are often secret; without any labels the first will do.
        labelled = [name for name in tests if len(tests) > 1 and is_labelled(builder, name)]
        return open_split((labelled or tests)[0])

    return Splits(open_train, open_test if tests else None, open_pretrain)


def load_split(builder, name, split):
    """Opens one split of a data set.

    Images of one size that take at most 1 GiB are decoded once and kept in memory.
    Others stay encoded, as they are on disk: there, and read by index, if the files
    are array_record; in memory if they are not, since nothing else can be read by
    index.

    Args:
        builder: a `tfds.core.DatasetBuilder` whose files are on disk.
        name: str, of the data set, as the user wrote it.
        split: str, as TFDS writes it: "train", "train[:10%]", "train+unlabelled".

    Returns:
        A `MemorySource`, a `RecordSource` or an `EncodedSource`.

    Raises:
        InputError: if the data set is damaged, without images, too big for the memory, or
            has no such split.
    """
    try:
        info = builder.info.splits[split]
    except (KeyError, ValueError) as error:
        splits = ", ".join(sorted(builder.info.splits))
        raise InputError(f"{name} has no split {split!r}: it has {splits}.") from error
    image_key, label_key = _find_keys(builder)
    source_name = f"{name}:{split}"
    shape = builder.info.features[image_key].shape
    is_small = (
        None not in shape[:2] and info.num_examples * shape[0] * shape[1] * 3 <= MAX_DECODED_BYTES
    )
    if _has_records(builder):
        if places.is_url(builder.data_path):
            raise InputError(
                f"{name} lies as array_record in {builder.data_path}, and such files are read from "
                "a disk only: copy that folder to one, or prepare the data set as tfrecord."
            )
        if not is_small:
            source = records.RecordSource(builder, split, image_key, label_key, source_name)
            _check_kinds(source_name, source.read_some(_FILES_LOOKED_AT))
            return source
    else:
        _check_memory(source_name, info.num_bytes)
    try:
        with quiet():
            encoded, labels = _read_records(builder, split, image_key, label_key, info.num_examples)
    except (OSError, ImportError, tf.errors.OpError) as error:
        raise InputError(
            f"{name}:{split} cannot be read from {builder.data_path} ({_first_line(error)}): "
            f"delete that folder and prepare the data set anew."
        ) from error
    _check_kinds(source_name, encoded)
    labels = labels if label_key else None
    class_names = builder.info.features[label_key].names if label_key else None
    if is_small:
        try:
            images = _decode(encoded, shape[0], shape[1])
        except tf.errors.OpError as error:
            raise InputError(
                f"An image of {source_name} cannot be decoded ({_first_line(error)}): delete "
                f"{builder.data_path} and prepare the data set anew."
            ) from error
        return memory.MemorySource(images, labels, class_names, source_name)
    note_broken = records.make_note_broken(len(encoded), source_name, os.fspath(builder.data_path))
    return memory.EncodedSource(encoded, labels, class_names, source_name, note_broken=note_broken)


def make_builder(name, data_dir=None, download=False):
    """The TFDS builder of a prepared data set; nothing touches the network unless `download`.

    Args:
        name: str, as TFDS writes it.
        data_dir: str, where prepared data sets live; None for TFDS's own place.
        download: bool, whether to download and prepare the data set if it is missing.

    Returns:
        A `tfds.core.DatasetBuilder` whose files are on disk.

    Raises:
        InputError: if the data set is unknown or missing.
    """
    data_dir = data_dir and places.find(data_dir)
    if data_dir and places.is_url(data_dir):
        places.at(data_dir)  # Makes sure that TensorFlow knows such URLs.
        if not data_dir.startswith(_URLS):
            raise InputError(
                f"TFDS keeps no data sets at {data_dir}: give --data_dir a path, or a URL with "
                f"{' or '.join(_URLS)}."
            )
    try:
        with quiet():
            builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name.split("/")[0].split(":")[0], _list_names(), n=3)
        hint = f", nearest are {', '.join(near)}" if near else ""
        raise InputError(
            f"TensorFlow Datasets has no {name!r}{hint}; a data set is one of its names, "
            f"`folder:DIR`, `csv:FILE`, `digits` or `patches`."
        ) from error
    except (AssertionError, ValueError) as error:  # A version or a config that is not there.
        raise InputError(f"{name!r} is not a TFDS data set: {_first_line(error)}") from error
    except (ImportError, OSError) as error:
        raise InputError(f"{name} cannot be opened by TFDS: {_first_line(error)}") from error
    with quiet():
        is_prepared = builder.is_prepared()
    if not is_prepared:
        if not download:
            raise InputError(
                f"{name} is not prepared in {builder.data_path}: give --data_dir if it lies "
                f"elsewhere, or --download to fetch it; nothing is downloaded without it."
            )
        try:
            builder.download_and_prepare()
        # The network, the disk, a package that is missing, a page that has moved: every data
        # set has a script of its own, which may raise anything.
        except Exception as error:
            raise InputError(f"{name} cannot be downloaded: {_first_line(error)}") from error
    return builder


def is_labelled(builder, split, num_examples=64):
    """Whether a split's first images have labels; hidden test labels are -1.

    Args:
        builder: a `tfds.core.DatasetBuilder` whose files are on disk.
        split: str, a plain split name.
        num_examples: int, how many examples to look at.

    Returns:
        bool.
    """
    image_key, label_key = _find_keys(builder)
    if label_key is None:
        return False
    num_examples = min(num_examples, builder.info.splits[split].num_examples)
    head = f"{split}[:{num_examples}]"
    with quiet():
        _, labels = _read_records(builder, head, image_key, label_key, num_examples)
    return bool((labels >= 0).any())


def _find_keys(builder):
    """Names of the image and the label among the features; the label's may be None."""
    features = builder.info.features
    if not hasattr(features, "items"):
        features = {}
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [
        key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)
    ]
    if not images:
        raise InputError(f"{builder.name} holds no images: choose an image data set.")
    # Where there are several, TFDS itself names the pair of a supervised task first.
    supervised = [key for key in builder.info.supervised_keys or () if isinstance(key, str)]
    images.sort(key=lambda key: key not in supervised)
    labels.sort(key=lambda key: key not in supervised)
    return images[0], labels[0] if labels else None


def _has_records(builder):
    """Whether the files of a data set can be read by index."""
    return builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD


def _read_records(builder, split, image_key, label_key, num_examples):
    """All encoded images and labels of a split, in the order of the files."""
    if _has_records(builder):
        source = records.RecordSource(builder, split, image_key, label_key, builder.name)
        dataset = tf.data.Dataset.range(num_examples).map(source.read_example, parallel.CALLS)
    else:
        decoders = records.select_features(image_key, label_key)
        config = tfds.ReadConfig(try_autocache=False)
        dataset = builder.as_dataset(split, decoders=decoders, read_config=config)
    # A variable is filled in place: the files are never in memory twice.
    with tf.device("/CPU:0"):
        encoded = tf.Variable(tf.fill([num_examples], b""), trainable=False)
    labels = np.full([num_examples], -1, np.int64)
    start = 0
    with progress.bar(num_examples, f"Loading {builder.name}:{split}", unit="images") as advance:
        for batch in parallel.prefetch(dataset.batch(_LOAD_BATCH)):
            stop = start + len(batch[image_key])
            encoded.scatter_nd_update(tf.range(start, stop)[:, tf.newaxis], batch[image_key])
            if label_key:
                labels[start:stop] = batch[label_key]
            advance(stop - start)
            start = stop
    return encoded.read_value(), labels


def _decode(encoded, height, width):
    def decode(index):
        image = geometric.decode_image(tf.gather(encoded, index))
        return tf.ensure_shape(image, [height, width, 3])

    images = np.empty([len(encoded), height, width, 3], np.uint8)
    dataset = tf.data.Dataset.range(len(encoded)).map(decode, num_parallel_calls=parallel.CALLS)
    start = 0
    with progress.bar(len(images), "Decoding images", unit="images") as advance:
        for batch in parallel.prefetch(dataset.batch(_LOAD_BATCH)).as_numpy_iterator():
            images[start : start + len(batch)] = batch
            start += len(batch)
            advance(len(batch))
    return images


def _check_kinds(source_name, encoded):
    """Refuses images of a kind that cannot be decoded; a data set has few kinds, mostly one."""
    sample = encoded[:: max(1, len(encoded) // _FILES_LOOKED_AT)]
    heads = [tf.strings.substr(file, 0, image_kinds.HEAD_BYTES).numpy() for file in sample]
    kinds = [image_kinds.find_kind(head) for head in heads]
    unknown = [kind for kind in kinds if not image_kinds.can_decode(kind)]
    # A few that are no images are found, and counted, when they are read.
    if any(unknown) or 2 * len(unknown) > len(kinds):
        kind = next(filter(None, unknown), None)
        advice = image_kinds.ADVICE.get(kind, "choose another data set, or convert it")
        raise InputError(
            f"{source_name} has images of a kind that cannot be decoded here "
            f"({kind or 'neither JPEG, PNG, GIF nor BMP'}): {advice}."
        )


def _check_memory(source_name, num_bytes):
    available = _available_bytes()
    if available is not None and num_bytes > _MEMORY_SHARE * available:
        raise InputError(
            f"{source_name} needs {num_bytes / 1e9:.0f} GB of memory and "
            f"{available / 1e9:.0f} GB are free: prepare it as array_record, which is read from "
            f"disk (docs/data.md says how), or write its images to a folder and use `folder:DIR`."
        )


def _available_bytes():
    """Memory that can be had without swapping, in bytes; None where nobody says."""
    with contextlib.suppress(OSError), open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _list_names():
    return tfds.list_builders(with_community_datasets=False)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
