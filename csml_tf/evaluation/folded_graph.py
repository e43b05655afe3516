"""An inference graph in which batch norm has become part of the convolutions before it."""

import collections

import numpy as np
import tensorflow as tf

# Not in the public API, and the only way to a graph without variables.
from tensorflow.python.framework import convert_to_constants

_BATCH_NORM = "FusedBatchNormV3"
_THROUGH = ("Identity", "Cast")
# A graph that holds its weights can be 2 GiB large.
_MAX_BYTES = 2**30


def fold(function):
    """The same function of frozen weights, faster.

    In inference mode batch norm multiplies each channel by a number and adds another. The
    first goes into the kernel of the convolution before it, the second becomes its bias, which
    TensorFlow computes in one go with the convolution and the ReLU behind it.

    Args:
        function: concrete function of one tensor; a signature of a SavedModel. Its weights
            are taken as they are now.

    Returns:
        function of that tensor to {name: output}, as the signature's `structured_outputs`;
        what it computes differs by rounding. One with more than 1 GiB of weights, or that
        changes its weights, is returned as it is.
    """
    num_bytes = sum(v.dtype.size * v.shape.num_elements() for v in function.variables)
    if num_bytes > _MAX_BYTES or _changes_its_weights(function.graph.as_graph_def()):
        return function
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    folded = _fold_batch_norms(frozen.graph.as_graph_def())
    (images,) = (tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource)
    names = sorted(function.structured_outputs)  # The order of `outputs`.
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(folded, name=""), [])
    pruned = imported.prune(images, [tensor.name for tensor in frozen.outputs])
    return lambda images: dict(zip(names, pruned(images)))


def _changes_its_weights(graph):
    """Whether a node of a GraphDef, or of a function that it calls, assigns to a variable."""
    library = {each.signature.name: each.node_def for each in graph.library.function}
    waiting, seen = [graph.node], set()
    while waiting:
        for node in waiting.pop():
            if node.op.startswith("Assign"):
                return True
            for attribute in node.attr.values():
                for called in (attribute.func, *attribute.list.func):
                    if called.name in library and called.name not in seen:
                        seen.add(called.name)
                        waiting.append(library[called.name])
    return False


def _fold_batch_norms(graph):
    """A GraphDef without those batch norms that follow a convolution nobody else looks at."""
    nodes = {node.name: node for node in graph.node}
    num_uses = collections.Counter(_node_name(name) for node in graph.node for name in node.input)
    folded = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        convolution = _foldable_convolution(node, nodes, num_uses)
        if convolution is None:
            folded.node.append(node)
            continue
        scale, offset, mean, variance = (_read(name, nodes) for name in node.input[1:])
        factor = scale / np.sqrt(variance + node.attr["epsilon"].f)
        kernel = _read(convolution.input[1], nodes) * factor
        _add_constant(folded, f"{node.name}/folded_kernel", kernel)
        _add_constant(folded, f"{node.name}/folded_bias", offset - mean * factor)
        copy = folded.node.add()
        copy.CopyFrom(convolution)
        copy.name = f"{node.name}/folded"
        copy.input[1] = f"{node.name}/folded_kernel"
        # Under the name of the batch norm, which is where others look for it.
        bias = folded.node.add(op="BiasAdd", name=node.name)
        bias.input.extend([copy.name, f"{node.name}/folded_bias"])
        bias.attr["T"].CopyFrom(convolution.attr["T"])
        bias.attr["data_format"].CopyFrom(convolution.attr["data_format"])
    return folded


def _foldable_convolution(node, nodes, num_uses):
    """The convolution before a batch norm, or None if the two cannot become one."""
    if node.op != _BATCH_NORM or node.attr["is_training"].b:
        return None
    before = nodes[_node_name(node.input[0])]
    is_alone = before.op == "Conv2D" and num_uses[before.name] == 1
    constants = [*node.input[1:], *before.input[1:2]]
    if not is_alone or any(_read(name, nodes) is None for name in constants):
        return None
    return before


def _read(name, nodes):
    """The value of a constant, seen through the nodes that hand it on; None for another node."""
    node = nodes[_node_name(name)]
    if node.op == "Const":
        return tf.make_ndarray(node.attr["value"].tensor)
    if node.op not in _THROUGH:
        return None
    value = _read(node.input[0], nodes)
    if value is None or node.op == "Identity":
        return value
    return value.astype(tf.as_dtype(node.attr["DstT"].type).as_numpy_dtype)


def _add_constant(graph, name, value):
    node = graph.node.add(op="Const", name=name)
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float32))


def _node_name(name):
    """`^conv:0` -> `conv`."""
    return name.lstrip("^").split(":")[0]
