"""Folders on `ram://`, TensorFlow's file system in the memory of the process."""

import contextlib
import pathlib
import uuid

import tensorflow as tf

from csml_tf import places


def make_folder(add_cleanup):
    """A folder that no other test has, as `places.at` gives it."""
    folder = places.at(f"ram://{uuid.uuid4().hex}/tests")
    folder.mkdir()
    add_cleanup(places.remove_folder, folder)
    return folder


def write(path, content=b""):
    """Writes a file, without what is tested."""
    # Else its folder is there and no listing has it.
    tf.io.gfile.makedirs(str(path).rpartition("/")[0])
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(str(path))  # Else it would be written behind what is there.
    with tf.io.gfile.GFile(str(path), "wb") as file:
        file.write(content)


def read(path):
    """A file's content, without what is tested."""
    with tf.io.gfile.GFile(str(path), "rb") as file:
        return file.read()


def copy(local, folder):
    """Copies a local folder with all in it."""
    for file in pathlib.Path(local).rglob("*"):
        if file.is_file():
            write(f"{folder}/{file.relative_to(local).as_posix()}", file.read_bytes())


def files(folder):
    """{path below the folder: content}, by TensorFlow's own walk."""
    found = {}
    for root, _, names in tf.io.gfile.walk(str(folder)):
        for name in names:
            found[f"{root}/{name}".removeprefix(f"{folder}/")] = read(f"{root}/{name}")
    return found
