"""A backbone by its name in a recipe."""

import difflib
from typing import Callable

import tensorflow as tf

from csml_tf.errors import InputError
from csml_tf.models.backbones import applications, resnet

RESNET = "resnet"


def make_backbone(
    name: str = RESNET,
    make_resnet: Callable = resnet.make_resnet,
    make_application: Callable = applications.make_application,
) -> tf.keras.Model:
    """A backbone, see `contract`.

    Args:
        name: "resnet", or one of `applications.NAMES`.
        make_resnet: function of no arguments.
        make_application: function of a name.

    Raises:
        InputError: if there is no such network; names the nearest one.
    """
    if name == RESNET:
        return make_resnet()
    if name in applications.NAMES:
        return make_application(name)
    by_lower = {each.lower(): each for each in (RESNET, *applications.NAMES)}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
    raise InputError(
        f"There is no backbone {name!r}{hint}: set BACKBONE to {RESNET!r} or to the name of a "
        "network of tf.keras.applications."
    )
