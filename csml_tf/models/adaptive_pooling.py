"""Average pooling to a grid of a given size, whatever the size of the map."""

import tensorflow as tf


class AdaptiveAveragePooling2D(tf.keras.layers.Layer):
    """The mean of each cell of a grid laid over the map, as PyTorch's AdaptiveAvgPool2d.

    Cell (i, j) of a grid of G rows over a map of H rows covers the rows

        floor(i * H / G) ... ceil((i + 1) * H / G) - 1

    and so for the columns. Cells share a row where G does not divide H, and repeat rows where
    G is above H. A grid of one cell is global average pooling.

    Args:
        grid_size: rows and columns of the grid, at least 1.
        **kwargs: as for `tf.keras.layers.Layer`.

    Raises:
        ValueError: if `grid_size` is below 1.

    Example:
        >>> row = tf.reshape(tf.range(3.0), [1, 1, 3, 1])  # Cells 0..1 and 1..2.
        >>> AdaptiveAveragePooling2D(2)(row)[0, 0, :, 0].numpy()
        array([0.5, 1.5], dtype=float32)
    """

    def __init__(self, grid_size, **kwargs):
        super().__init__(**kwargs)
        if grid_size < 1:
            raise ValueError(f"grid_size must be at least 1, got {grid_size}.")
        self.grid_size = grid_size

    def call(self, maps):
        """[batch, height, width, channels] -> [batch, grid_size, grid_size, channels]."""
        height, width = tf.unstack(tf.shape(maps)[1:3])
        rows, columns = (self._mean_matrix(size, maps.dtype) for size in (height, width))
        pooled = tf.einsum("gh,bhwc->bgwc", rows, maps)
        return tf.einsum("gw,bhwc->bhgc", columns, pooled)

    def _mean_matrix(self, size, dtype):
        """[grid_size, size] weights; row i means over the places of cell i."""
        cells, places = tf.range(self.grid_size)[:, None], tf.range(size)
        first = cells * size // self.grid_size
        stop = -(-(cells + 1) * size // self.grid_size)
        inside = tf.cast((places >= first) & (places < stop), dtype)
        return inside / tf.reduce_sum(inside, axis=1, keepdims=True)

    def get_config(self):
        return {**super().get_config(), "grid_size": self.grid_size}
