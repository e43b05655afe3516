"""Features and thumbnails as TensorBoard's projector reads them."""

import numpy as np

from csml_tf import places, whole_files
from csml_tf.reports import canvas, map_images

_CONFIG = "projector_config.pbtxt"  # TensorBoard looks for this name.
_VECTORS, _METADATA, _SPRITE = "vectors.tsv", "metadata.tsv", "sprite.png"


def write(images, directory):
    """Writes the four files that `tensorboard --logdir=DIRECTORY` shows under "Projector".

    Args:
        images: `map_images.MapImages`.
        directory: made when missing.

    Raises:
        InputError: if a file cannot be written.
    """
    canvas.prepare(directory)
    size = images.thumbnails.shape[1]
    config = (
        "embeddings {\n"
        '  tensor_name: "features"\n'
        f'  tensor_path: "{_VECTORS}"\n'
        f"  tensor_shape: {images.values.shape[0]}\n"
        f"  tensor_shape: {images.values.shape[1]}\n"
        f'  metadata_path: "{_METADATA}"\n'
        "  sprite {\n"
        f'    image_path: "{_SPRITE}"\n'
        f"    single_image_dim: {size}\n"
        f"    single_image_dim: {size}\n"
        "  }\n"
        "}\n"
    )
    vectors = "".join("\t".join(f"{x:.6g}" for x in row) + "\n" for row in images.values)
    rows = [("class", "set", "image")]
    rows += [
        (images.class_name(i), kind, name)
        for i, (kind, name) in enumerate(zip(images.sets, images.names))
    ]
    metadata = "".join("\t".join(map(_one_cell, row)) + "\n" for row in rows)
    sprite = map_images.make_sprite(images.thumbnails)
    contents = {
        _VECTORS: vectors,
        _METADATA: metadata,
        _SPRITE: map_images.encode_png(np.ascontiguousarray(sprite)),
        _CONFIG: config,
    }
    for name, content in contents.items():
        whole_files.write(places.at(directory, name), content, canvas.ADVICE)


def _one_cell(text):
    """Tabs and line breaks, which file names may have, would begin another cell."""
    return " ".join(text.split()) or "-"
