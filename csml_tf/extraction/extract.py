"""The features of all images of a folder, into files: what happens when."""

import numpy as np
from absl import logging

from csml_tf import amounts, features, places, progress, setting_rules, whole_files
from csml_tf.data.sources import left_out, unchecked_folder
from csml_tf.errors import InputError
from csml_tf.evaluation import bfloat16
from csml_tf.extraction import files
from csml_tf.extraction.part_folder import PartFolder, refuse_another


def run(
    encoder,
    images,
    output,
    layer="features",
    format_=None,
    batch_size=64,
    part_images=8192,
    precision="float32",
):
    """Writes the features of every image below a folder, in the order of `FolderSource`.

    Parts of `part_images` images are written on the way, each at once, so that memory does
    not grow with the folder and a repeated call goes on after the last part. Files that
    are no readable images are left out, logged and listed in the output.

    Args:
        encoder: `evaluation.frozen_encoder.FrozenEncoder`.
        images: folder.
        output: a file "NAME.npz" or "NAME.parquet", whose parts lie in "NAME.npz.parts/" until
            it is complete; any other name is a folder, and the parts are the result.
        layer: one of `frozen_encoder.LAYERS`; maps are average-pooled.
        format_: one of `files.FORMATS`; None takes that of `output`, "npz" for a folder.
        batch_size: images per call of the encoder.
        part_images: files of a part; a multiple of `batch_size` makes no smaller batches.
        precision: one of `choices.COMPUTE_PRECISIONS`; what bfloat16 changes is logged.

    Returns:
        One line about the result.

    Raises:
        InputError: if there are no images, or none that can be read, the output cannot be
            written or holds features of something else.
    """
    setting_rules.check({"batch": batch_size, "part_images": part_images})
    output = places.at(output)
    file_format, is_file = _choose_format(output, format_)
    encode = bfloat16.choose(encoder.encode(layer), precision)
    source = unchecked_folder.UncheckedFolder(str(images))
    logging.info("%s: %s", source.name, amounts.count(len(source), "file"))
    view = encoder.center_view
    card = {
        "model": encoder.id,
        "model_sha256": encoder.digest(),
        "layer": layer,
        "precision": precision,
        "view": f"shorter side {view.resize_size} px, centre {view.image_size} px",
        "images": source.name,
        "images_fingerprint": source.fingerprint,
        "num_images": len(source),
        "part_images": part_images,
        "format": file_format.suffix[1:],
    }
    if is_file and output.exists():
        there = file_format.read_card(output)
        refuse_another(there, card, output)
        if not {"num_features", "feature_dim", "bad_paths"} <= {*there}:
            raise InputError(f"{output} is damaged: delete it, and repeat the command.")
        return f"{output} is there already: {_describe(there)}"
    parts = PartFolder(f"{output}.parts" if is_file else output, file_format, card)
    with whole_files.hold(parts.path, "--output"):
        parts.claim()
        card["feature_dim"] = encoder.dim(layer)
        _fill(parts, encode, source, encoder.dim(layer), view, batch_size)
        with parts.on_disk() as part_files:
            card.update(_sum_up(part_files, file_format))
            if not card["num_features"]:
                places.remove_folder(parts.path)
                raise InputError(
                    f"None of the {len(source)} files in {images} is a readable image: "
                    f"{left_out.shorten(card['bad_paths'])}."
                )
            parts.finish(card)
            if is_file:
                file_format.merge(part_files, output, card)
    if is_file:
        places.remove_folder(parts.path)
    return f"{output}: {_describe(card)}"


def _fill(parts, encode, source, dim, view, batch_size):
    """Makes the parts that are missing, of rows of `dim` numbers."""
    number = parts.count_finished()
    start = number * parts.part_images
    if number:
        logging.info("Going on after part %d of %d.", number, parts.num_parts)
    nothing = (np.empty([0], np.int64), np.empty([0, dim], np.float32))
    pending = [nothing]
    with progress.bar(len(source) - min(start, len(source)), "features", "images") as advance:
        for indices, found in features.extract_readable(encode, source, view, batch_size, start):
            advance(int(indices[-1]) + 1 - start)
            start = int(indices[-1]) + 1
            while indices[-1] // parts.part_images > number:
                end = np.searchsorted(indices, (number + 1) * parts.part_images)
                pending.append((indices[:end], found[:end]))
                _save(parts, number, source, pending)
                indices, found, pending = indices[end:], found[end:], [nothing]
                number += 1
            pending.append((indices, found))
    while number < parts.num_parts:
        _save(parts, number, source, pending)
        pending = [nothing]
        number += 1


def _save(parts, number, source, pending):
    """Writes a part: all of its images that are not pending are broken."""
    indices, found = (np.concatenate(arrays) for arrays in zip(*pending))
    start = number * parts.part_images
    names = source.files.slice(start, min(start + parts.part_images, len(source)))
    names = np.array(names)
    is_good = np.zeros(len(names), bool)
    is_good[indices - start] = True
    if not is_good.all():
        bad_names = names[~is_good].tolist()
        logging.warning(
            "%s cannot be decoded: %s.",
            amounts.count(len(bad_names), "file"),
            left_out.name_unreadable(source.directory, bad_names),
        )
    parts.save(number, files.Rows(names[is_good], found, names[~is_good]))


def _sum_up(part_files, file_format):
    """{"num_features", "bad_paths"} of all parts."""

    def read(file):
        try:
            return file_format.read_bad_paths(file)
        except files.NO_FILE_OF_OURS as error:
            raise InputError(f"{file} is damaged: delete it, and repeat the command.") from error

    counts, bad_paths = zip(*map(read, part_files))
    return {
        "num_features": sum(counts),
        "bad_paths": [name for names in bad_paths for name in names],
    }


def _describe(card):
    """What an extraction has found, in a line."""
    text = (
        f"{card['num_features']} features of {card['feature_dim']} numbers "
        f"({card['layer']} of {card['model']}, {card['view']}; {card['images']})"
    )
    bad_paths = card["bad_paths"]
    if bad_paths:
        what = amounts.count(len(bad_paths), "file")
        text += f"; {what} cannot be decoded: {left_out.shorten(bad_paths)}"
    return text


def _choose_format(output, format_):
    """-> (the format's object, whether `output` is one file of it)."""
    known = {file_format.suffix: name for name, file_format in files.FORMATS.items()}
    of_output = known.get(output.suffix)
    if of_output and format_ not in (None, of_output):
        raise InputError(
            f"--format={format_} does not fit --output={output}: leave one of the two out."
        )
    return files.FORMATS[of_output or format_ or "npz"](), of_output is not None
