"""The report of a run: read this to see which parts it has, and in which order."""

from csml_tf import places, whole_files
from csml_tf.errors import InputError
from csml_tf.reports import (
    canvas,
    embedding,
    explorer,
    few_labels,
    image_parts,
    measurements,
    metric_parts,
    nearest,
    page,
    part,
    reference_runs,
    run_images,
    run_record,
)
from csml_tf.reports.part import LeftOut, Part

PAGE = "report.html"


def write(
    model_dir,
    output,
    dataset=None,
    data_dir=None,
    images=True,
    draw_map=True,
    max_train_images=50_000,
    seed=0,
    with_explorer=False,
    queries=None,
):
    """Writes the page of a run, `report.html`, and its pictures one by one beside it.

    Args:
        model_dir: the run's directory; the run may be in progress.
        output: folder of the report; made when missing.
        dataset: data set string; None takes that of the run.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        images: whether to draw the parts that need the images.
        draw_map: whether to make the map and the projector's files.
        max_train_images: how many training images are searched for the nearest ones.
        seed: of all draws.
        with_explorer: whether to write `explorer.html`, too, of up to 20,000 images.
        queries: image file, or folder of images, to look up; None for none.

    Returns:
        One line about the page.

    Raises:
        InputError: if there is no run, no finished epoch, or no data, or the report cannot be
            written.
    """
    if max_train_images < nearest.NUM_NEAREST:
        raise InputError(
            f"--train_images must be at least {nearest.NUM_NEAREST}, got {max_train_images}."
        )
    if with_explorer and not (images and draw_map):
        raise InputError("--explorer is made of the map: leave --noimages and --nomap away.")
    if queries is not None and not images:
        raise InputError("--queries are looked up among the images: leave --noimages away.")
    record = run_record.read(model_dir)
    canvas.prepare(output)
    output = places.at(output)
    dataset = dataset or record.dataset
    data = None
    if images:
        max_test_images = explorer.MAX_IMAGES if with_explorer else embedding.MAX_IMAGES
        limits = (max_test_images, max_train_images)
        data = run_images.read(record, dataset, data_dir, *limits, seed, queries)
    cards, faults = measurements.read(record.directory.path)
    band = reference_runs.find(record)

    makers = {}
    if band is not None:
        makers["Beside reference runs"] = lambda: metric_parts.verdict(record, band)
    makers |= {
        "Curves": lambda: metric_parts.losses_and_speed(record, band, output),
        "Accuracy": lambda: metric_parts.accuracy(record, band, output),
        "Health": lambda: metric_parts.health(record, output),
        "Neighbors": lambda: _neighbors(record, data, output, seed),
        "Nearest to unseen images": lambda: image_parts.held_out(data, output, seed),
    }
    if queries is not None:
        makers["Looked up"] = lambda: image_parts.looked_up(data, output)
    makers |= {
        "Map of the features": lambda: image_parts.feature_maps(
            record, data, output, draw_map, with_explorer, seed
        ),
        "Confusion": lambda: image_parts.confusions(data, cards, output, seed),
    }
    by_labels = few_labels.find(cards)
    if by_labels:
        makers["Few labels"] = lambda: few_labels.to_html(by_labels, output)
    makers |= {
        "Measurements": lambda: measurements.to_html(
            cards, faults, model_dir, dataset, data.weights if data else None
        ),
        "Settings": lambda: metric_parts.settings(record),
    }
    parts, left_out = [], []
    for title, make in makers.items():
        try:
            parts.append(Part(title, make()))
        except LeftOut as reason:
            parts.append((title, reason))
            left_out.append(title.lower())
    path = output / PAGE
    lead = f"{record.progress().capitalize()}, on {record.dataset}."
    head = page.tiles(metric_parts.tiles(record)) + page.facts(record.facts())
    whole_files.write(path, page.render(record.name, lead, head, parts), canvas.ADVICE)
    done = f"{path}: {len(parts) - len(left_out)} parts about {record.name}, {record.progress()}"
    if with_explorer and "map of the features" not in left_out:
        done += f", and {output / explorer.FILE}"
    if left_out:
        done += f"; left out, and the page says why: {', '.join(left_out)}"
    return done if band is None else f"{done}. {reference_runs.judge(record.rows, band).text}"


def _neighbors(record, data, output, seed):
    body = metric_parts.neighbors(record, output)
    try:
        return body + image_parts.neighbors(record, data, output, seed)
    except LeftOut as reason:
        return body + part.left_out("the neighbors' images", reason)
