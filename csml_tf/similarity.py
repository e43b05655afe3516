"""Exact nearest neighbors by cosine similarity, block by block.

Coarse products propose, exact ones decide: a block of similarities is multiplied in the
number format in which this machine is quickest, and whose error is bounded. Only the pairs
that may, within that bound, still enter somebody's k best are computed again in float32.
"""

import collections
import concurrent.futures
import functools
import time

import numpy as np
import tensorflow as tf

# Rows of a block on either side: enough for the matrix product to run at full speed, few
# enough for the similarities to stay in the cache until they are compared. A GPU waits for
# the host after each block, so it gets larger ones.
_BLOCK = 2048
_GPU_BLOCK = 16384
# Blocks under way at a time: one is compared while another is multiplied.
_BLOCKS_AHEAD = 2
# Above this share of a block, one float32 product of the whole block takes less time than the
# proposed pairs one by one.
_DENSE_SHARE = 1 / 32
# Pairs that are computed at a time, from rows that are gathered first.
_PAIRS_AT_ONCE = 512
# The largest relative error of rounding to the format, which has 8 and 24 significant bits.
_ROUNDING = {tf.bfloat16: 2.0**-8, tf.float32: 2.0**-24}
# Likewise for TensorFloat-32, to which a GPU may shorten float32 factors.
_TF32_ROUNDING = 2.0**-11


def cosine_top_k(queries, bank, k, query_indices=None, on_block=None):
    """The k rows of `bank` most similar to each query, nearest first.

    Exact up to the rounding of float32; of equally similar rows the lower index comes first.
    Memory beyond the inputs and outputs is 8 bytes for each neighbor and a few blocks of
    similarities; where bfloat16 is the faster format, a copy of the inputs in it, too, and on a
    GPU in either format.

    Args:
        queries: [num_queries, dim] float32, unit length.
        bank: [num_images, dim] float32, unit length.
        k: neighbors per query, from 1 to the number of candidates.
        query_indices: [num_queries] integer or None; where the queries stand in the
            bank, -1 for one that does not. That row is left out of its own neighbors, by
            its index: another row with the same features stays.
        on_block: called after each block with the number of queries that its work amounts
            to; the numbers add up to num_queries.

    Returns:
        (similarities [num_queries, k] float32 in [-1, 1], indices [num_queries, k] int32).

    Raises:
        ValueError: if the bank has fewer than k candidates, or a feature is not finite.

    Example:
        >>> axes = np.eye(3, dtype="float32")
        >>> near = np.float32([[0.6, 0.8, 0.0]])
        >>> cosine_top_k(near, axes, k=2)[1].tolist()
        [[1, 0]]
        >>> cosine_top_k(near, axes, k=2, query_indices=[1])[1].tolist()
        [[0, 2]]
    """
    own = None if query_indices is None else np.asarray(query_indices)
    return _top_k(queries, bank, k, own, False, on_block)


def mutual_top_k(features, k, on_block=None):
    """The k rows most similar to each row among all others, nearest first.

    What `cosine_top_k` finds for the features among themselves, in about half the time: a
    similarity counts for both of its rows.

    Args:
        features: [num_images, dim] float32, unit length.
        k: neighbors per row, from 1 to num_images - 1.
        on_block: called after each block with the number of rows that its work amounts to;
            the numbers add up to num_images.

    Returns:
        (similarities [num_images, k] float32 in [-1, 1], indices [num_images, k] int32);
        never the row itself, by its index.

    Raises:
        ValueError: if there are fewer than k other rows, or a feature is not finite.

    Example:
        >>> features = np.float32([[1, 0], [0.6, 0.8], [0, 1]])
        >>> mutual_top_k(features, k=1)[1].tolist()
        [[1], [2], [1]]
    """
    return _top_k(features, features, k, np.arange(len(features)), True, on_block)


def l2_normalize(features):
    """[n, dim] -> [n, dim] float32 of unit length; a zero row stays zero."""
    features = np.asarray(features, np.float32)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


def l2_normalize_in_place(features: np.ndarray) -> None:
    """Does `l2_normalize` to an array itself, in the memory of a few rows.

    Args:
        features: [n, dim] float32; its rows are scaled to unit length, a zero row stays zero.

    Raises:
        ValueError: if the features are not float32, and would be copied.
    """
    if features.dtype != np.float32:
        raise ValueError(f"features must be float32, got {features.dtype}.")
    for start in range(0, len(features), _BLOCK):
        features[start : start + _BLOCK] = l2_normalize(features[start : start + _BLOCK])


def _top_k(queries, bank, k, own, symmetric, on_block):
    """Does `cosine_top_k`; if symmetric, the bank is the queries and a block serves both sides.

    `own` is [num_queries] integer, the bank row that is no candidate of the query, or None.
    """
    candidates = len(bank) - (own is not None)
    if not 1 <= k <= candidates:
        raise ValueError(f"k must be from 1 to the {candidates} candidates in the bank, got {k}.")
    queries = np.asarray(queries, np.float32)
    bank = queries if symmetric else np.asarray(bank, np.float32)
    proposals = _Proposals(queries, bank, k)
    best = _BestSoFar(len(queries), k, own)
    blocks = [
        (rows, columns)
        for rows in _slices(len(queries))
        for columns in _slices(len(bank))
        if not symmetric or columns.start >= rows.start
    ]
    num_pairs = np.cumsum([_length(rows) * _length(columns) for rows, columns in blocks])
    queries_done = [0, *(num_pairs * len(queries) // num_pairs[-1:]).tolist()]
    under_way = collections.deque()

    def settle(number, both_sides, future):
        rows, columns, similarities = future.result()
        best.offer(rows, columns, similarities)
        if both_sides:
            best.offer(columns, rows, similarities)
        if on_block is not None:
            on_block(queries_done[number + 1] - queries_done[number])

    workspaces = [_Workspace(queries, bank) for _ in range(_BLOCKS_AHEAD)]
    with concurrent.futures.ThreadPoolExecutor(_BLOCKS_AHEAD) as pool:
        for number, (rows, columns) in enumerate(blocks):
            # In the order of the blocks, whichever thread is the quicker: so a block always
            # meets the same bars, and the workspace that it gets is free.
            if len(under_way) == _BLOCKS_AHEAD:
                settle(*under_way.popleft())
            both_sides = symmetric and rows != columns
            column_bars = best.bars(columns) if both_sides else None
            workspace = workspaces[number % _BLOCKS_AHEAD]
            future = pool.submit(
                proposals.find, rows, columns, best.bars(rows), column_bars, workspace
            )
            under_way.append((number, both_sides, future))
        while under_way:
            settle(*under_way.popleft())
    return best.in_order()


class _Proposals:
    """The pairs of a block that may enter somebody's k best, with their similarities.

    Args:
        queries: [num_queries, dim] float32.
        bank: [num_images, dim] float32; the same object if it is the queries.
        k: neighbors per query.

    Raises:
        ValueError: if a feature is not finite.
    """

    def __init__(self, queries, bank, k):
        self._queries, self._bank, self._k = queries, bank, k
        dtype = _quicker_dtype()
        self._coarse_bank = _Coarse(bank, dtype, uses=len(_slices(len(queries))))
        self._coarse_queries = self._coarse_bank
        if queries is not bank:
            self._coarse_queries = _Coarse(queries, dtype, uses=len(_slices(len(bank))))
        self._slack = _error_bound(self._coarse_queries, self._coarse_bank)
        if not np.isfinite(self._slack):
            raise ValueError("The features hold a number that is not finite.")

    def find(self, rows, columns, row_bars, column_bars, workspace):
        """Leaves out only pairs that are below the bars of both sides.

        Args:
            rows: slice of the queries.
            columns: slice of the bank.
            row_bars: [rows] float32; the similarity that a query's next neighbor must reach.
            column_bars: [columns] float32, likewise, or None if only queries seek neighbors.
            workspace: `_Workspace` that nobody else uses meanwhile.

        Returns:
            (query indices [pairs], bank indices [pairs], similarities [pairs] float32).
        """
        products = tf.matmul(
            self._coarse_queries.block(rows),
            self._coarse_bank.block(columns),
            transpose_b=True,
        )
        row_bars = self._first_bars(products, row_bars)
        row_floor, column_floor = row_bars - self._slack, None
        if column_bars is not None:
            column_bars = self._first_bars(products, column_bars, transpose=True)
            column_floor = column_bars - self._slack
        positions = _positions(products, row_floor, column_floor, workspace)
        dense = len(positions) > _DENSE_SHARE * _length(rows) * _length(columns)
        if dense:
            exact = self._queries[rows] @ self._bank[columns].T
            positions = _positions(exact, row_bars, column_bars, workspace)
        found_rows, found_columns = np.divmod(positions, _length(columns))
        found_rows += rows.start
        found_columns += columns.start
        if dense:
            return found_rows, found_columns, exact.ravel()[positions]
        return found_rows, found_columns, self._dots(found_rows, found_columns, workspace)

    def _first_bars(self, products, bars, transpose=False):
        """Bars for whom has none yet, from the coarse products [rows, columns] alone."""
        if not np.isneginf(bars).any():
            return bars
        if transpose:
            products = tf.transpose(products)
        # The maxima of any k disjoint groups are k candidates, so the least of them is a bar.
        # One more group, because the row itself may be among them.
        wanted = self._k + 1
        group = max(products.shape[1] // (4 * wanted), 1)
        num_groups = products.shape[1] // group
        if num_groups < wanted:
            return bars
        grouped = tf.reshape(products[:, : group * num_groups], [-1, group, num_groups])
        maxima = tf.reduce_max(tf.cast(grouped, tf.float32), axis=1)
        least = tf.math.top_k(maxima, wanted).values[:, -1].numpy()
        # The products themselves were rounded, too.
        return np.maximum(bars, least - 2 * _ROUNDING[products.dtype] * np.abs(least) - self._slack)

    def _dots(self, rows, columns, workspace):
        dots = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            part = slice(start, min(start + _PAIRS_AT_ONCE, len(rows)))
            left, right = workspace.pairs[:, : _length(part)]
            # "clip": the default mode would write by way of a copy.
            np.take(self._queries, rows[part], axis=0, out=left, mode="clip")
            np.take(self._bank, columns[part], axis=0, out=right, mode="clip")
            np.einsum("pd,pd->p", left, right, out=dots[part])
        return dots


class _BestSoFar:
    """The k most similar of all that each row was offered; of equals the lower indices.

    A similarity and its index are one integer that sorts by both: the key.

    Args:
        num_rows: rows that seek neighbors.
        k: neighbors per row.
        own: [num_rows] integer, the index that a row never takes, or None.
    """

    def __init__(self, num_rows, k, own):
        # The lowest key of a row comes first, the others in no order.
        self._keys = np.full([num_rows, k], _NOTHING)
        self._own = own

    def bars(self, rows):
        """[rows] float32 for a slice: the similarity of the last of the k, -inf before k."""
        return _unpack(self._keys[rows, 0])[0]

    def offer(self, rows, indices, similarities):
        """Takes [pairs] rows, an index for each, and the similarity of the two."""
        keys = _pack(similarities, indices)
        better = keys > self._keys[rows, 0]
        if self._own is not None:
            better &= indices != self._own[rows]
        better = np.flatnonzero(better)
        if not len(better):
            return
        better = better[np.argsort(rows[better], kind="stable")]
        rows, keys = rows[better], keys[better]
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        lengths = np.diff(starts, append=len(rows))
        lines = np.repeat(np.arange(len(starts)), lengths)
        # A line for each row that was offered something: what it had, then what is new.
        k = self._keys.shape[1]
        table = np.full([len(starts), k + lengths.max()], _NOTHING)
        table[:, :k] = self._keys[rows[starts]]
        table[lines, k + np.arange(len(rows)) - starts[lines]] = keys
        table.partition(table.shape[1] - k, axis=1)
        self._keys[rows[starts]] = table[:, -k:]

    def in_order(self):
        """(similarities [num_rows, k] float32, indices [num_rows, k] int32), nearest first."""
        self._keys.sort(axis=1)
        return _unpack(self._keys[:, ::-1])


class _Workspace:
    """Memory that one block after the other writes to: fresh pages for each would cost more.

    Attributes:
        hits: [2, rows of a block * columns of a block] bool.
        pairs: [2, _PAIRS_AT_ONCE, dim] float32.
    """

    def __init__(self, queries, bank):
        rows, columns = (min(_block(), len(features)) for features in (queries, bank))
        self.hits = np.empty([2, rows * columns], bool)
        self.pairs = np.empty([2, _PAIRS_AT_ONCE, bank.shape[1]], np.float32)


_ALL_BUT_SIGN = np.int32(0x7FFFFFFF)


def _pack(similarities, indices):
    # The bits of floats from 0 up sort as integers, of those below 0 in reverse. Adding 0
    # makes 0 of -0, whose bits differ.
    bits = (np.asarray(similarities, np.float32) + np.float32(0)).view(np.int32)
    ordered = np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits)
    return (ordered.astype(np.int64) << 32) + (_ALL_BUT_SIGN - np.asarray(indices, np.int32))


def _unpack(keys):
    ordered = (keys >> 32).astype(np.int32)
    bits = np.where(ordered < 0, ordered ^ _ALL_BUT_SIGN, ordered)
    return bits.view(np.float32), _ALL_BUT_SIGN - (keys & _ALL_BUT_SIGN).astype(np.int32)


_NOTHING = _pack(-np.inf, _ALL_BUT_SIGN)


def _positions(products, row_floor, column_floor, workspace):
    """Flat positions, ascending, of the products at or above the floor of either side."""
    # As integers: NumPy compares bfloat16 one by one, integers many at a time.
    if isinstance(products, tf.Tensor):
        floats = products.dtype.as_numpy_dtype
        if _has_gpu():
            floors = (_floor_bits(floor, floats) for floor in (row_floor, column_floor))
            return _positions_on_device(products, *floors).numpy()
        products = np.asarray(products)  # A view: the tensor is in the host's memory.
    bits = products.view(f"i{products.itemsize}")
    hits, more_hits = workspace.hits[:, : bits.size].reshape(2, *bits.shape)
    np.greater_equal(bits, _floor_bits(row_floor, products.dtype)[:, None], out=hits)
    if column_floor is not None:
        np.greater_equal(bits, _floor_bits(column_floor, products.dtype), out=more_hits)
        np.logical_or(hits, more_hits, out=hits)
    return np.flatnonzero(hits)


@tf.function(autograph=False, reduce_retracing=True)
def _positions_on_device(products, row_bits, column_bits):
    bits = tf.bitcast(products, row_bits.dtype)
    hits = bits >= row_bits[:, None]
    if column_bits is not None:
        hits |= bits >= column_bits
    return tf.where(tf.reshape(hits, [-1]))[:, 0]


def _floor_bits(floor, dtype):
    if floor is None:
        return None
    # Rounded as the products were, so what reached the floor still does.
    floor = floor.astype(dtype)
    bits = floor.view(f"i{floor.itemsize}")
    # From 0 up the bits of floats sort as integers. At 0, which -0 reaches too, and below,
    # everything passes.
    return np.where(floor > 0, bits, np.iinfo(bits.dtype).min)


class _Coarse:
    """Features rounded to a format that multiplies faster.

    Args:
        features: [n, dim] float32.
        dtype: one of `_ROUNDING`.
        uses: how often each block is asked for.

    Attributes:
        dim: columns.
        norm: of the longest row; NaN or infinite if a feature is.
        rounding: length of the largest difference that rounding a row made.
    """

    def __init__(self, features, dtype, uses):
        self._features, self._dtype = features, dtype
        self._kept = {}
        # To copy float32 to the host's memory again costs next to nothing beside a product.
        keeps = uses > 1 and (dtype != tf.float32 or _has_gpu())
        self.dim = features.shape[1]
        norms, roundings = [], []
        for rows in _slices(len(features)):
            block = self.block(rows)
            if keeps:
                self._kept[rows.start] = block
            difference = tf.cast(block, tf.float32) - features[rows]
            norms.append(np.linalg.norm(features[rows], axis=1).max())
            roundings.append(tf.norm(difference, axis=1).numpy().max())
        self.norm = np.max(norms, initial=0)
        self.rounding = max(np.max(roundings, initial=0), _TF32_ROUNDING * self.norm)

    def block(self, rows):
        """[rows, dim] tensor of the format, on the GPU if there is one; a slice of `_slices`."""
        if rows.start in self._kept:
            return self._kept[rows.start]
        return tf.cast(tf.constant(self._features[rows]), self._dtype)


def _error_bound(left, right):
    """The most that a product of two rows of `_Coarse` features may differ from the exact one.

    By Cauchy and Schwarz for the rounding of the factors. The sum of `dim` float32 terms depends
    on their order, in the coarse product as in the exact one. The rounding of the coarse
    product is not counted.
    """
    factors = left.norm * right.rounding + left.rounding * (right.norm + right.rounding)
    return np.float32(factors + 4 * left.dim * 2.0**-24 * left.norm * right.norm)


@functools.cache
def _quicker_dtype():
    """Of bfloat16 and float32 the one in which this machine multiplies faster, by trial."""
    # All of one sign, where errors of summation would show.
    factors = l2_normalize(np.random.default_rng(0).uniform(size=[512, 1024]))

    def seconds(dtype):
        coarse = _Coarse(factors, dtype, uses=1)
        block = coarse.block(slice(0, len(factors)))
        elapsed_s = []
        try:
            for _ in range(4):  # The first one sets things up.
                started = time.perf_counter()
                products = tf.matmul(block, block, transpose_b=True).numpy()
                elapsed_s.append(time.perf_counter() - started)
        except tf.errors.OpError:  # A GPU too old for the format.
            return np.inf
        errors = np.abs(products.astype(np.float32) - factors @ factors.T)
        bounds = _error_bound(coarse, coarse) + _ROUNDING[dtype] * products.astype(np.float32)
        return min(elapsed_s) if np.all(errors <= bounds) else np.inf

    return min(_ROUNDING, key=seconds)


def _slices(length):
    return [slice(start, min(start + _block(), length)) for start in range(0, length, _block())]


def _length(rows):
    return rows.stop - rows.start


def _block():
    return _GPU_BLOCK if _has_gpu() else _BLOCK


@functools.cache
def _has_gpu():
    return bool(tf.config.list_logical_devices("GPU"))
