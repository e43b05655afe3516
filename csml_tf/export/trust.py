"""What a SavedModel could do beside computing features, found before anything of it is loaded.

A SavedModel is a program: its graph may write files, and Keras makes Python code of its
metadata. Ours do neither, nor does any other encoder.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from csml_tf.errors import InputError

_FILE = "saved_model.pb"
_KERAS_FILE = "keras_metadata.pb"
# Of TensorFlow's operations: files, network, Python, and what ends the process.
_OPERATIONS = re.compile(
    "File|Save|Restore|Checkpoint|Record|Reader|Dataset|Iterator|Summary|LMDB|ImportEvent"
    "|LoadAndRemap|GenerateVocab|DecodeProto|EncodeProto|^Print|Debug|^Copy(Host)?$|Dump"
    "|Rpc|Remote|DataService|Bigtable|BigQuery|Gcs|Send$|Recv$|PyFunc|^Abort$"
)
# What saves and restores the weights of any model, where nothing else leads to it.
_OF_SAVERS = {
    *("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "Save", "SaveSlices"),
    *("Restore", "RestoreSlice"),
}
# Of TensorFlow's functions, as Keras calls them in a layer: those that are no mathematics.
_FUNCTIONS = re.compile(
    r"(^|\.)(io|data|debugging|distribute|raw_ops|saved_model|summary|train|lite)\."
    r"|py_func|numpy_function|load_|print|(^|\.)(Module|function)$"
)
_MODULES = ("keras", "tf_keras", "tensorflow")


def check(directory: pathlib.Path) -> None:
    """Raises `InputError` if a SavedModel could do more than compute, or cannot be read."""
    for reason in _find_reasons(pathlib.Path(directory)):
        raise InputError(
            f"The model in {directory} {reason}, so opening it could run any program: give "
            "--trust_model, or trust_model=True in Python, if you trust whoever made it."
        )


def _find_reasons(directory):
    """Yields why a SavedModel is more than an encoder, in words."""
    try:
        model = saved_model_pb2.SavedModel.FromString((directory / _FILE).read_bytes())
        for graph in model.meta_graphs:
            for operation in _forbidden_operations(graph):
                yield f"has the operation {operation}"
        texts = [
            node.user_object.metadata
            for graph in model.meta_graphs
            for node in graph.object_graph_def.nodes
        ]
        if (directory / _KERAS_FILE).exists():
            texts += _keras_texts((directory / _KERAS_FILE).read_bytes())
        for text in texts:
            yield from _forbidden_layers(_from_json(text))
    except (OSError, DecodeError, ValueError, IndexError, RecursionError) as error:
        raise InputError(
            f"The model in {directory} cannot be read ({type(error).__name__}): it is damaged, or "
            "no SavedModel; export it again."
        ) from error


def _forbidden_operations(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    """Those that a signature, a function of an object, or a start or a restore leads to."""
    ends = [
        tensor.name
        for signature in graph.signature_def.values()
        for tensor in (*signature.inputs.values(), *signature.outputs.values())
    ]
    for name in ("saved_model_main_op", "legacy_init_op", "table_initializer"):
        ends += graph.collection_def[name].node_list.value if name in graph.collection_def else []
    saver = graph.saver_def
    of_saver = [saver.restore_op_name, saver.save_tensor_name, saver.filename_tensor_name]
    functions = list(graph.object_graph_def.concrete_functions)
    operations = _reachable(graph.graph_def, ends, functions)
    for operation in sorted(operations):
        if _OPERATIONS.search(operation):
            yield operation
    # Functions that nothing leads to: TensorFlow puts one in another's place, if told so.
    others = [function.signature.name for function in graph.graph_def.library.function]
    for operation in sorted(_reachable(graph.graph_def, of_saver, others) - _OF_SAVERS):
        if _OPERATIONS.search(operation):
            yield operation


def _reachable(graph, ends: Iterable[str], functions: Iterable[str]) -> set[str]:
    """Kinds of the operations that some nodes and functions of a GraphDef depend on."""
    nodes = {node.name: node for node in graph.node}
    library = {each.signature.name: each.node_def for each in graph.library.function}
    waiting = [nodes[name] for name in map(_node_name, ends) if name in nodes]
    called = list(functions)
    seen_nodes, seen_functions, found = set(), set(), set()
    while waiting or called:
        if not waiting:
            name = called.pop()
            if name not in seen_functions:
                seen_functions.add(name)
                waiting += library.get(name, [])
            continue
        node = waiting.pop()
        found.add(node.op)
        called.append(node.op)  # In an old graph a node is a function by its name.
        for attribute in node.attr.values():
            called += [attribute.func.name, *(each.name for each in attribute.list.func)]
        if nodes.get(node.name) is node:
            names = {*map(_node_name, node.input)} - seen_nodes
            seen_nodes |= names
            waiting += [nodes[name] for name in names if name in nodes]
    return found


def _node_name(tensor):
    return tensor.lstrip("^").partition(":")[0]


def _forbidden_layers(config: Any) -> Iterator[str]:
    """Looks through a Keras config for what would become Python code."""
    if isinstance(config, (list, tuple)):
        for part in config:
            yield from _forbidden_layers(part)
    if not isinstance(config, dict):
        return
    kind, module = config.get("class_name"), config.get("module")
    if kind in ("Lambda", "__lambda__") or config.get("function_type") == "lambda":
        yield "has a Keras Lambda layer"
    is_plain_name = module == "builtins" and kind == "function"
    if isinstance(module, str) and module.partition(".")[0] not in _MODULES and not is_plain_name:
        yield f"asks for the Python module {module!r}"
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        function = str((config.get("config") or {}).get("function"))
        if _FUNCTIONS.search(function):
            yield f"calls TensorFlow's {function}"
    for part in config.values():
        yield from _forbidden_layers(part)


def _from_json(text):
    """What a text says; None where Keras could not read it either."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _keras_texts(data: bytes) -> list[str]:
    """The metadata of all nodes: field 5 of each field 1, in Protobuf's wire format."""
    nodes = [value for number, value in _fields(data) if number == 1 and isinstance(value, bytes)]
    return [
        value.decode(errors="replace")
        for node in nodes
        for number, value in _fields(node)
        if number == 5 and isinstance(value, bytes)
    ]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (number, value) of the fields of a message."""
    place = 0

    def read_varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = read_varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, read_varint()
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size = read_varint()
        if size is None or place + size > len(data):
            raise ValueError("no message of Protobuf")
        yield key >> 3, data[place : place + size]
        place += size
