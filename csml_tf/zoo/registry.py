"""Which models there are, and how to open one."""

import difflib

from csml_tf import fetched, places
from csml_tf.errors import InputError
from csml_tf.export import saved_model, trust
from csml_tf.zoo import cache
from csml_tf.zoo.entry import Archive, Entry

# Base methods beside MoCo: recipe, name, what their papers report of ResNet-50 on ImageNet-1k.
_BASES = (
    ("simclr", "SimCLR", "linear top-1 69.3 %, 1000 epochs (arXiv:2002.05709)"),
    ("byol", "BYOL", "linear top-1 74.3 %, 1000 epochs (arXiv:2006.07733)"),
    ("moco_v3", "MoCo v3", "linear top-1 72.8 %, 300 epochs (the authors' repository)"),
    ("swav", "SwAV", "linear top-1 75.3 %, 800 epochs (arXiv:2006.09882)"),
)


def _entries_of_bases():
    """Each method plain and with CsMl on top, on both data sets."""
    for data, network, recipe in (
        ("CIFAR-10", "ResNet-18, CIFAR stem", "r18_cifar10"),
        ("ImageNet-1k", "ResNet-50", "r50"),
    ):
        for name, method, of_imagenet in _BASES:
            published = of_imagenet if recipe == "r50" else "none"
            yield Entry(f"{recipe}_{name}", method, network, data, published)
            yield Entry(f"{recipe}_{name}_csml", f"CsMl on {method}", network, data, "none")


# In the order of MODEL_ZOO.md, whose tables `csml-tf report --zoo` writes from here.
ENTRIES = (
    Entry(
        id="quickstart",
        method="CsMl",
        network="ResNet-18, width 8, 16 px",
        data="scikit-learn digits",
        published="none",
    ),
    Entry(
        id="patches",
        method="MoCo at two levels",
        network="ResNet-18, width 16, 64 px",
        data="patches of 15 pictures of scikit-image and scikit-learn",
        published="none",
    ),
    Entry(
        id="photos",
        method="MoCo at two levels, settings by images and machine",
        network="ResNet-18 or ResNet-50",
        data="your own",
        published="none",
    ),
    Entry(
        id="r18_cifar10",
        method="CsMl",
        network="ResNet-18, CIFAR stem",
        data="CIFAR-10",
        published="none",
    ),
    Entry(
        id="r18_cifar10_moco_v2",
        method="MoCo, CIFAR demo settings",
        network="ResNet-18, CIFAR stem",
        data="CIFAR-10",
        published=(
            "kNN 32.0 % after epoch 1, 38.0 after 5, 48.0 after 10, 61.4 after 20, 82.6 after 200 "
            "(MoCo's CIFAR notebook)"
        ),
        archive=Archive(
            source="r18_cifar10_moco_v2.zip",
            sha256="20a124ca5be98d21fe533b5ab70a8cee4437bcfd4d2161f7a1ea618776ddcf9d",
            num_bytes=2813399,
            commit="ea53c869c3",
            hardware="2 CPU cores (AMD EPYC), beside other work",
            hours=1.4,
            licence="Apache-2.0; CIFAR-10's images come without a licence",
            bindings=("WIDTH = 16", "EPOCHS = 20"),
        ),
    ),
    Entry(
        id="r18_cifar10_levels",
        method="MoCo at two levels, for short runs",
        network="ResNet-18, CIFAR stem",
        data="CIFAR-10",
        published="none",
    ),
    Entry(
        id="r18_cifar10_short",
        method="CsMl for short runs",
        network="ResNet-18, CIFAR stem",
        data="CIFAR-10",
        published="none",
        archive=Archive(
            source="r18_cifar10_short.zip",
            sha256="cc78342965efa130d879dc628460e7d90f72dd3dd505ef12d47102f73833f31c",
            num_bytes=2818391,
            commit="bc7ed07fcc",
            hardware="2 CPU cores (AMD EPYC)",
            hours=0.5,
            licence="Apache-2.0; CIFAR-10's images come without a licence",
            bindings=("WIDTH = 16",),
        ),
    ),
    Entry(
        id="r50",
        method="CsMl",
        network="ResNet-50",
        data="ImageNet-1k",
        published="linear top-1 76.6 % (arXiv:2012.02733)",
    ),
    Entry(
        id="r50_multicrop",
        method="CsMl with 2 × 224 + 6 × 96 px crops",
        network="ResNet-50",
        data="ImageNet-1k",
        published="linear top-1 76.6 % (arXiv:2012.02733, its best)",
    ),
    Entry(
        id="r50_moco_v2",
        method="MoCo v2",
        network="ResNet-50",
        data="ImageNet-1k",
        published="linear top-1 67.5 %, 200 epochs (arXiv:2003.04297)",
    ),
    Entry(
        id="r50_moco_v1",
        method="MoCo v1",
        network="ResNet-50",
        data="ImageNet-1k",
        published="linear top-1 60.6 %, 200 epochs (arXiv:1911.05722)",
    ),
    *_entries_of_bases(),
)


def list_models():
    """Ids of the pretrained encoders that `load_model` opens, a tuple of str."""
    return tuple(entry.id for entry in ENTRIES if entry.archive is not None)


def find_saved_model(id_or_dir, trust_model=False):
    """The folder of a SavedModel, which has been looked through for what is no encoder.

    Args:
        id_or_dir: an id out of `list_models()`, the folder of a SavedModel, or a run
            directory, whose `saved_model/` is meant. A folder that has the name of an id
            comes first.
        trust_model: whether a folder may hold any program, see `export.trust`. Those of the zoo
            are known by their checksum.

    Returns:
        `pathlib.Path` of a folder that holds `saved_model.pb`; of a URL, of a copy of it.

    Raises:
        InputError: if there is no such model, it cannot be fetched, or it is not trusted.
    """
    directory = places.at(places.expand(id_or_dir, "The model"))
    for candidate in (directory, directory / "saved_model"):
        if (candidate / "saved_model.pb").exists():
            places.check_no_pattern(candidate, "The model")
            candidate = fetched.on_disk(candidate)
            if not trust_model:
                trust.check(candidate)
            return candidate
    if (directory / "checkpoints").exists():
        raise InputError(
            f"The run in {directory} has no saved_model/ yet: let csml-tf train finish it."
        )
    entries = {entry.id: entry for entry in ENTRIES}
    entry = entries.get(str(id_or_dir))
    if entry is not None and entry.archive is not None:
        return cache.find(entry)
    if entry is not None:
        raise InputError(
            f"{entry.id} is a recipe that is not trained yet: train it with csml-tf train "
            f"--gin_file={entry.id}.gin, then give its run directory."
        )
    near = difflib.get_close_matches(str(id_or_dir), list_models(), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InputError(
        f"There is no model {str(id_or_dir)!r}{hint}: give a run directory or the folder of a "
        f"SavedModel; the zoo has {', '.join(list_models())}."
    )


def load_model(id_or_dir, trust_model=False):
    """Opens an exported encoder, out of the zoo or one's own.

    Args:
        id_or_dir: as for `find_saved_model`.
        trust_model: likewise.

    Returns:
        `tf.keras.Model`: [batch, height, width, 3] float32 RGB in [0, 1], any size
        from 32 px up -> [batch, feature_dim] float32. Trainable.

    Raises:
        InputError: if there is no such model, it cannot be fetched, or it is damaged or not
            trusted.
    """
    return saved_model.open_model(find_saved_model(id_or_dir, trust_model))
