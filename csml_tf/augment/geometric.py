"""Where a view looks: decoding, random resized crops, and Pillow's resampling.

Every function is a deterministic function of its inputs; what is random comes
in as `uniforms`, numbers drawn elsewhere. Images are uint8 here, as they come
from a file.
"""

import math

import tensorflow as tf

NUM_CROP_ATTEMPTS = 10
# Columns of `uniforms` of a random resized crop: an area and a ratio for each
# attempt, then the top and the left of the one that is taken.
NUM_CROP_UNIFORMS = 2 * NUM_CROP_ATTEMPTS + 2


def decode_image(encoded):
    """Pixels of one encoded JPEG, PNG, GIF or BMP file.

    The pixels are Pillow's, to the last bit. Grey images are repeated into three
    channels, CMYK is converted, 16 bits per channel lose the lower 8, alpha is
    dropped, an animation gives its first frame.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        [height, width, 3] uint8, RGB.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are none of these formats, or
            are broken; in a tf.data pipeline, when the element is read.

    Example:
        >>> grey_dot = tf.io.encode_png(tf.constant([[[7]]], tf.uint8))
        >>> decode_image(grey_dot).numpy().tolist()
        [[[7, 7, 7]]]
    """
    encoded = tf.convert_to_tensor(encoded)

    def decode_any():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.ensure_shape(image, [None, None, 3])

    def decode_jpeg():
        # Pillow's inverse DCT; TensorFlow's faster default is up to 6 grey levels off.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def decode_palette_bmp():
        return _decode_palette_bmp(encoded)

    def decode_other():
        return tf.cond(_is_palette_bmp(encoded), decode_palette_bmp, decode_any)

    image = tf.cond(tf.io.is_jpeg(encoded), decode_jpeg, decode_other)
    return tf.ensure_shape(image, [None, None, 3])


def _is_palette_bmp(encoded):
    """Whether these are the bytes of a BMP file with 8 bits per pixel."""
    # Padding lets the header of a file of a few bytes be read too.
    header = tf.strings.substr(encoded + 30 * b"\0", 0, 30)
    is_bmp = tf.equal(tf.strings.substr(header, 0, 2), b"BM")
    return is_bmp & tf.equal(_read_integer(header, 28, tf.uint16), 8)


def _read_integer(encoded, position, dtype):
    text = tf.strings.substr(encoded, position, dtype.size)
    return tf.cast(tf.io.decode_raw(text, dtype)[0], tf.int32)


def _decode_palette_bmp(encoded):
    """Looks colours up that TensorFlow leaves as indices and would show as grey."""
    indices = tf.io.decode_bmp(encoded)[..., 0]
    palette_start = 14 + _read_integer(encoded, 14, tf.int32)
    pixels_start = _read_integer(encoded, 10, tf.int32)
    length = (pixels_start - palette_start) // 4 * 4
    text = tf.strings.substr(encoded, palette_start, length)
    palette = tf.reshape(tf.io.decode_raw(text, tf.uint8), [-1, 4])
    return tf.gather(palette[:, 2::-1], tf.cast(indices, tf.int32))  # Stored as B, G, R, 0.


def random_resized_crop_windows(heights, widths, uniforms, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)):
    """Windows of torchvision's RandomResizedCrop.

    Attempt i draws an area and the logarithm of a ratio, both uniform:

        area[i] = height * width * uniform(scale)
        log_ratio[i] = uniform(log(ratio))
        window[i] = round(sqrt(area / ratio)) high, round(sqrt(area * ratio)) wide

    The first of ten attempts that fits into the image is put at a uniform place.
    If none fits, the window is the largest central one of an allowed ratio.

    Args:
        heights: [...] int32, pixels; any leading axes, as those of `uniforms`.
        widths: [...] int32, pixels.
        uniforms: [..., NUM_CROP_UNIFORMS] float32 in [0, 1).
        scale: smallest and largest area of the window, as a share of the image's.
        ratio: smallest and largest width / height of the window.

    Returns:
        [..., 4] int32, pixels: top, left, height, width.

    Raises:
        ValueError: if `uniforms` has a wrong number of columns.

    Example:
        >>> uniforms = tf.fill([NUM_CROP_UNIFORMS], 0.5)  # Half of everything.
        >>> random_resized_crop_windows(100, 100, uniforms, (0.0, 0.5), (1.0, 1.0)).numpy()
        array([25, 25, 50, 50], dtype=int32)
    """
    if uniforms.shape[-1] != NUM_CROP_UNIFORMS:
        raise ValueError(
            f"uniforms must have {NUM_CROP_UNIFORMS} columns, got {uniforms.shape[-1]}."
        )
    heights = tf.cast(heights, tf.float32)
    widths = tf.cast(widths, tf.float32)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shares = scale[0] + (scale[1] - scale[0]) * uniforms[..., :NUM_CROP_ATTEMPTS]
    log_ratios = low + (high - low) * uniforms[..., NUM_CROP_ATTEMPTS:-2]
    areas = (heights * widths)[..., None] * shares
    ratios = tf.exp(log_ratios)
    crop_heights = tf.round(tf.sqrt(areas / ratios))
    crop_widths = tf.round(tf.sqrt(areas * ratios))
    fits = (
        (crop_heights > 0)
        & (crop_heights <= heights[..., None])
        & (crop_widths > 0)
        & (crop_widths <= widths[..., None])
    )
    first = tf.one_hot(tf.argmax(tf.cast(fits, tf.int32), axis=-1), NUM_CROP_ATTEMPTS)
    any_fits = tf.reduce_any(fits, axis=-1)

    # The fallback: the whole of the side that is too short for the ratio.
    image_ratios = widths / heights
    central_heights = tf.where(image_ratios < ratio[0], tf.round(widths / ratio[0]), heights)
    central_widths = tf.where(image_ratios > ratio[1], tf.round(heights * ratio[1]), widths)

    crop_heights = tf.where(any_fits, tf.reduce_sum(first * crop_heights, axis=-1), central_heights)
    crop_widths = tf.where(any_fits, tf.reduce_sum(first * crop_widths, axis=-1), central_widths)
    spare = tf.stack([heights - crop_heights, widths - crop_widths], axis=-1)
    drawn = tf.minimum(tf.floor(uniforms[..., -2:] * (spare + 1)), spare)
    corners = tf.where(any_fits[..., None], drawn, tf.floor(spare / 2))
    sizes = tf.stack([crop_heights, crop_widths], axis=-1)
    return tf.cast(tf.concat([corners, sizes], axis=-1), tf.int32)


def resample_matrix(starts, lengths, in_size, out_size, flips=None):
    """Pillow's antialiased bilinear resampling of one axis, as a matrix.

    Output pixel o is a weighted mean of the input pixels i of its window, with a
    triangle around the output pixel's centre that is never narrower than a pixel:

        shrinkage = length / out_size
        distance[o, i] = (i + 0.5 - start) - (o + 0.5) * shrinkage
        weight[o, i] = relu(1 - abs(distance[o, i]) / max(1, shrinkage))

    Pixels outside [start, start + length) weigh nothing, and each row is divided
    by its sum.

    Args:
        starts: [...] int or float, pixels, where each window starts.
        lengths: [...] int or float above 0, pixels, how long it is.
        in_size: number of pixels of the input axis.
        out_size: number of pixels of the output axis.
        flips: [...] bool, windows to read backwards; none if not given.

    Returns:
        [..., out_size, in_size] float32; rows sum to 1.

    Example:
        >>> resample_matrix(0, 4, in_size=4, out_size=2).numpy()  # 4 pixels into 2.
        array([[0.42857143, 0.42857143, 0.14285715, 0.        ],
               [0.        , 0.14285715, 0.42857143, 0.42857143]], dtype=float32)
    """
    starts = tf.cast(starts, tf.float32)[..., None, None]
    lengths = tf.cast(lengths, tf.float32)[..., None, None]
    shrinkage = lengths / tf.cast(out_size, tf.float32)
    centers = tf.range(tf.cast(out_size, tf.float32)) + 0.5
    if flips is not None:
        backwards = tf.cast(out_size, tf.float32) - centers
        centers = tf.where(tf.convert_to_tensor(flips)[..., None], backwards, centers)
    positions = tf.range(tf.cast(in_size, tf.float32)) + 0.5 - starts
    distances = positions - centers[..., :, None] * shrinkage
    weights = tf.nn.relu(1.0 - tf.abs(distances) / tf.maximum(shrinkage, 1.0))
    weights = tf.where((positions > 0) & (positions < lengths), weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def crop_and_resize(images, windows, size, flips=None):
    """Cuts a window out of each image and scales it to a square, as Pillow does.

    Equal to `image.crop(window).resize((size, size), BILINEAR)` in Pillow to within
    1 of 255: Pillow also rounds between its two passes.

    Args:
        images: [height, width, 3] or [batch, height, width, 3] uint8.
        windows: [4] or [batch, 4] int32, pixels: top, left, height, width.
        size: height and width of the result, pixels.
        flips: scalar or [batch] bool, results to mirror left to right; none if not given.

    Returns:
        [size, size, 3] or [batch, size, size, 3] uint8.

    Raises:
        ValueError: if `images` has neither three nor four axes.
    """
    images = tf.convert_to_tensor(images)
    windows = tf.convert_to_tensor(windows)
    _check_rank(images)
    if images.shape.rank == 4:
        top, left, height, width = tf.unstack(windows, axis=-1)
        in_height, in_width = _sides(images)
        row_matrices = resample_matrix(top, height, in_height, size)
        column_matrices = resample_matrix(left, width, in_width, size, flips)
        return _resample_batch(images, row_matrices, column_matrices)
    # Cutting first bounds the cost by the window's size.
    top, left, height, width = tf.unstack(windows)
    window = images[top : top + height, left : left + width]
    crop = _scale_one_image(window, [size, size], [0, 0], [size, size])
    if flips is None:
        return crop

    def flipped():
        return tf.reverse(crop, [1])

    def plain():
        return crop

    # Choosing between the two with tf.where would cost as much as the whole crop.
    return tf.cond(tf.cast(flips, tf.bool), flipped, plain)


def resize_and_center_crop(images, resize_size, crop_size):
    """Scales the shorter side to `resize_size` and cuts the central square.

    torchvision's Resize and CenterCrop, the usual preparation for evaluation.

    Args:
        images: [height, width, 3] or [batch, height, width, 3] uint8.
        resize_size: length of the shorter side after scaling, pixels.
        crop_size: height and width of the result, pixels, at most `resize_size`.

    Returns:
        [crop_size, crop_size, 3] or [batch, crop_size, crop_size, 3] uint8.

    Raises:
        ValueError: if `crop_size` is above `resize_size`, or `images` has neither
            three nor four axes.
    """
    images = tf.convert_to_tensor(images)
    _check_rank(images)
    if crop_size > resize_size:
        raise ValueError(f"crop_size must be at most resize_size {resize_size}, got {crop_size}.")
    sides = tf.stack(_sides(images))
    resized = resize_size * sides // tf.reduce_min(sides)
    # torchvision's round() takes halves to the even neighbour; so does tf.round.
    corner = tf.cast(tf.round(tf.cast(resized - crop_size, tf.float32) / 2), tf.int32)
    if images.shape.rank == 3:
        return _scale_one_image(images, resized, corner, [crop_size, crop_size])
    matrices = []
    for axis in range(2):
        matrix = resample_matrix(0, sides[axis], sides[axis], resized[axis])
        matrices.append(matrix[corner[axis] : corner[axis] + crop_size])
    return _resample_batch(images, *matrices)


def _check_rank(images):
    if images.shape.rank not in (3, 4):
        raise ValueError(f"images must have 3 or 4 axes, got shape {images.shape}.")


def _sides(images):
    """Height and width, as numbers where they are known and tensors where not."""
    dynamic = tf.shape(images)[-3:-1]
    static = images.shape[-3:-1]
    return [dynamic[axis] if static[axis] is None else static[axis] for axis in range(2)]


def _scale_one_image(image, resized, corner, size):
    """The part of `size` from `corner` on of an image scaled to `resized`.

    This op and `resample_matrix` give the same pixels up to rounding. In a tf.data pipeline of
    500 x 375 photographs and 224 pixel crops on two cores the op made 1040 crops
    per second and two dense matmuls 440: it touches only the weights that are not
    zero, and it stays on the thread that calls it. On small images of one size a
    batch of matmuls wins.
    """
    sides = tf.cast(tf.stack(_sides(image)), tf.float32)
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size,
        scale=tf.cast(resized, tf.float32) / sides,
        translation=-tf.cast(corner, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.ensure_shape(tf.cast(pixels + 0.5, tf.uint8), [*size, 3])


def _resample_batch(images, row_matrices, column_matrices):
    """row_matrices @ image @ column_matrices.T for each image and channel."""
    in_height, in_width = _sides(images)
    out_height, out_width = row_matrices.shape[-2], column_matrices.shape[-2]
    # Two plain matmuls, with the channels beside the axis that is not touched;
    # einsum would multiply by a matrix of three columns, at half the speed.
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, in_height, in_width * 3])
    pixels = tf.reshape(row_matrices @ pixels, [-1, out_height, in_width, 3])
    pixels = tf.reshape(tf.transpose(pixels, [0, 2, 1, 3]), [-1, in_width, out_height * 3])
    pixels = tf.reshape(column_matrices @ pixels, [-1, out_width, out_height, 3])
    # On an accelerator a matmul may be 1 too high, and 256 would become 0.
    pixels = tf.minimum(tf.transpose(pixels, [0, 2, 1, 3]) + 0.5, 255.0)
    return tf.cast(pixels, tf.uint8)
