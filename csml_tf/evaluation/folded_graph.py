"""An inference graph in which batch norm has become part of the convolutions before it."""

import collections

import numpy as np
import tensorflow as tf

# Not in the public API, which inlines a function only where it makes constants of its weights.
from tensorflow.python.framework import convert_to_constants

_BATCH_NORM = "FusedBatchNormV3"
_THROUGH = ("Identity", "Cast")


def fold(function):
    """The same function of frozen weights, faster.

    In inference mode batch norm multiplies each channel by a number and adds another. The
    first goes into the kernel of the convolution before it, the second becomes its bias, which
    TensorFlow computes in one go with the convolution and the ReLU behind it.

    The new kernels are tensors that the graph is given. As constants in it they would be copied
    with every graph and function on the way to the kernels, some ten times.

    Args:
        function: concrete function of one tensor; a signature of a SavedModel. Its weights
            are taken as they are now.

    Returns:
        function of that tensor to {name: output}, as the signature's `structured_outputs`;
        what it computes differs by rounding. One that changes its weights, or hands them to
        something that does not only read them, is returned as it is.
    """
    if _changes_its_weights(function.graph.as_graph_def()):
        return function
    graph = convert_to_constants._run_inline_graph_optimization(
        function, lower_control_flow=True, aggressive_inlining=False
    )
    outputs = [tensor.name for tensor in function.outputs]
    nodes, weights = _fold_batch_norms(graph, _read_weights(graph, function))
    needed = _find_needed(nodes, weights, outputs)
    captured = {tensor.op.name for tensor in function.graph.internal_captures}
    if needed & captured - {*weights}:
        return function
    (images,) = (tensor for tensor in function.inputs if tensor.op.name not in captured)
    weights = {f"{name}:0": weight for name, weight in weights.items() if name in needed}
    kept = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    kept.node.extend(node for name, node in nodes.items() if name in needed)

    def run(batch):
        inputs = {name: tf.identity(weight) for name, weight in weights.items()}
        return tf.import_graph_def(kept, {images.name: batch, **inputs}, outputs, name="")

    folded = tf.compat.v1.wrap_function(run, [tf.TensorSpec(images.shape, images.dtype)])
    names = sorted(function.structured_outputs)  # The order of `outputs`.
    return lambda images: dict(zip(names, folded(images)))


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


def _read_weights(graph, function):
    """{name of a node: its value}, of the nodes that read a variable, or are a captured tensor."""
    nodes = {node.name: node for node in graph.node}
    variables = {id(variable.handle): variable for variable in function.variables}
    weights, handles = {}, {}
    for value, placeholder in zip(function.captured_inputs, function.graph.internal_captures):
        if value.dtype != tf.resource:
            weights[placeholder.op.name] = value
        elif id(value) in variables:
            handles[placeholder.op.name] = variables[id(value)]
    for node in graph.node:
        if node.op == "ReadVariableOp":
            source = node
            while source.op in ("ReadVariableOp", "Identity"):
                source = nodes[_node_name(source.input[0])]
            if source.name in handles:
                # No copy: a variable and what was read of it share their memory.
                weights[node.name] = handles[source.name].read_value()
    return weights


def _fold_batch_norms(graph, weights):
    """Leaves out those batch norms that follow a convolution nobody else looks at.

    Returns:
        ({name: node of the GraphDef}, {name: value}, kernels and biases among them).
    """
    nodes = {node.name: node for node in graph.node}
    num_uses = collections.Counter(_node_name(name) for node in graph.node for name in node.input)
    folded, weights = dict(nodes), dict(weights)
    for node in graph.node:
        convolution = _foldable_convolution(node, nodes, weights, num_uses)
        if convolution is None:
            continue
        scale, offset, mean, variance = (_read(name, nodes, weights) for name in node.input[1:])
        factor = scale / np.sqrt(variance + node.attr["epsilon"].f)
        kernel = _read(convolution.input[1], nodes, weights) * factor
        weights[f"{node.name}/folded_kernel"] = tf.constant(kernel, tf.float32)
        weights[f"{node.name}/folded_bias"] = tf.constant(offset - mean * factor, tf.float32)
        copy = tf.compat.v1.NodeDef()
        copy.CopyFrom(convolution)
        copy.name = f"{node.name}/folded"
        copy.input[1] = f"{node.name}/folded_kernel"
        folded[copy.name] = copy
        # Under the name of the batch norm, which is where others look for it.
        bias = tf.compat.v1.NodeDef(op="BiasAdd", name=node.name)
        bias.input.extend([copy.name, f"{node.name}/folded_bias"])
        bias.attr["T"].CopyFrom(convolution.attr["T"])
        bias.attr["data_format"].CopyFrom(convolution.attr["data_format"])
        folded[bias.name] = bias
    # A weight is there before anything: none of them is waited for.
    return {
        name: _without_waits(node, weights) for name, node in folded.items() if name not in weights
    }, weights


def _without_waits(node, weights):
    """A node without the control inputs that are weights."""
    kept = [name for name in node.input if name[0] != "^" or name[1:] not in weights]
    rest = tf.compat.v1.NodeDef()
    rest.CopyFrom(node)
    del rest.input[:]
    rest.input.extend(kept)
    return rest


def _find_needed(nodes, weights, outputs):
    """Names of the nodes, and of the weights in their place, that the outputs are made of."""
    needed, waiting = set(), [*map(_node_name, outputs)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            if name not in weights:
                waiting += map(_node_name, nodes[name].input)
    return needed


def _foldable_convolution(node, nodes, weights, num_uses):
    """The convolution before a batch norm, or None if the two cannot become one."""
    if node.op != _BATCH_NORM or node.attr["is_training"].b:
        return None
    before = nodes[_node_name(node.input[0])]
    is_alone = before.op == "Conv2D" and num_uses[before.name] == 1
    constants = [*node.input[1:], *before.input[1:2]]
    if not is_alone or any(_read(name, nodes, weights) is None for name in constants):
        return None
    return before


def _read(name, nodes, weights):
    """The value of a constant or weight, seen through the nodes that hand it on; else None."""
    node = nodes[_node_name(name)]
    if node.name in weights:
        return weights[node.name].numpy()
    if node.op == "Const":
        return tf.make_ndarray(node.attr["value"].tensor)
    if node.op not in _THROUGH:
        return None
    value = _read(node.input[0], nodes, weights)
    if value is None or node.op == "Identity":
        return value
    return value.astype(tf.as_dtype(node.attr["DstT"].type).as_numpy_dtype)


def _node_name(name):
    """`^conv:0` -> `conv`."""
    return name.lstrip("^").split(":")[0]
