"""Models of tests, from settings by their names, whichever part they belong to."""

import functools
import inspect

from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.methods.csml import CsMl
from csml_tf.methods.moco import MoCo


def parameters(function):
    return set(inspect.signature(function).parameters)


def make_csml(make_encoder, make_base=MoCo, **settings):
    """`CsMl`, with each of `settings` given to the base, to `CrossSamples`, or to itself."""
    of_base = {n: settings.pop(n) for n in parameters(make_base) - {"seed"} if n in settings}
    of_samples = {n: settings.pop(n) for n in parameters(CrossSamples) if n in settings}
    base = functools.partial(make_base, make_encoder, **of_base)
    return CsMl(base, CrossSamples(**of_samples), **settings)
