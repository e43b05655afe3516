"""A Python function of the bytes of a file, as an operation of a tf.data pipeline."""

import numpy as np
import tensorflow as tf

# NumPy, through which the bytes come, drops zeros from their end.
_END = b"end"


def call(function, encoded, dtype):
    """What a Python function makes of bytes; it runs on the host, and in one thread at a time.

    Args:
        function: of bytes, that returns an array and depends on nothing else.
        encoded: scalar string.
        dtype: `tf.DType` of the array.

    Returns:
        Tensor of that type and of unknown shape.
    """

    def call_with_bytes(marked):
        return function(np.asarray(marked).item()[: -len(_END)])

    return tf.numpy_function(call_with_bytes, [encoded + _END], dtype, stateful=False)
