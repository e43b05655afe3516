"""Colours, blur and normalisation on a CPU: image after image, and of each only what it draws.

The operations are those of `photometric`, and so are the results, up to the rounding of
float32. There a whole batch goes through each of them, as an accelerator wants it, and an image
that is not blurred waits for those that are. Here an image stays in the processor's cache until
it is done, has its colour operations in its own order instead of in a place for every order, and
passes over what does not change it: half the time.
"""

import numpy as np
import tensorflow as tf

from csml_tf.augment import photometric

# What an operation of the jitter is without effect at.
_IDENTITIES = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
_ADJUSTMENTS = {
    "brightness": photometric.adjust_brightness,
    "contrast": photometric.adjust_contrast,
    "saturation": photometric.adjust_saturation,
    "hue": photometric.adjust_hue,
}


def finish(images, draws, max_sigma_px, mean, std):
    """As `photometric.finish`, which has the arguments; for square images."""
    names = tuple(name for name, _ in draws)
    rows = [rows for _, rows in draws]
    moments = tf.constant(mean, tf.float32), tf.constant(std, tf.float32)
    planes = _finish_planes(images, rows, *moments, names, float(max_sigma_px))
    # XLA would write channel by channel, which takes twice as long.
    return tf.transpose(planes, [0, 2, 3, 1])


@photometric.compiled
def _finish_planes(images, draws, mean, std, names, max_sigma_px):
    """[batch, 3, size, size] float32; compiled once for each of the last two."""
    num_images, size, _, num_channels = images.shape
    if num_images is None:
        num_images = tf.shape(images)[0]  # Known to XLA, if not to the graph.

    def finish_image(index, finished):
        planes = photometric.split(images[index][None])
        for name, rows in zip(names, draws):
            row = {key: None if values is None else values[index] for key, values in rows.items()}
            if name == "gaussian_blur":
                planes = _blur(planes, row["sigmas_px"], max_sigma_px)
            else:
                planes = _STEPS[name](planes, **row)
        channels = [(plane - mean[i]) / std[i] for i, plane in enumerate(planes)]
        return index + 1, finished.write(index, tf.concat(channels, axis=0))

    finished = tf.TensorArray(tf.float32, num_images, element_shape=[num_channels, size, size])
    loop = tf.while_loop(lambda index, _: index < num_images, finish_image, (0, finished))
    return loop[1].stack()


def _jitter(planes, orders, **strengths):
    names = tuple(name for name, strength in strengths.items() if strength is not None)
    values = tf.stack([strengths[name] for name in names])
    row = tf.gather(_places(names), orders)

    def adjust(place, *planes):
        chosen = tf.gather(row, place)
        # Not values[chosen]: XLA would compile anew for each order that is drawn.
        value = tf.gather(values, [chosen])
        branches = [lambda f=_ADJUSTMENTS[name]: f(planes, value) for name in names]
        return place + 1, *tf.switch_case(chosen, branches)

    changes = tf.reduce_any(values != np.float32([_IDENTITIES[name] for name in names]))
    return _repeat(tf.where(changes, len(names), 0), adjust, planes)


def _places(names):
    """[NUM_JITTER_ORDERS, places] int32, which of the names stands where."""
    orders = photometric.jitter_orders()
    return np.int32([[names.index(name) for name in row if name in names] for row in orders])


def _grayscale(planes, is_gray):
    return _where(is_gray, lambda: photometric.to_grayscale(planes, is_gray[None]), planes)


def _solarize(planes, is_solarized):
    return _where(is_solarized, lambda: photometric.solarize(planes, is_solarized[None]), planes)


def _blur(planes, sigma_px, max_sigma_px):
    radius = photometric.blur_radius(max_sigma_px)
    weights = photometric.gaussian_weights(sigma_px[None], radius)

    # Along one axis, and again along the other: two passes turn the image back, too. A branch
    # of its own keeps XLA from making the border anew for each distance.
    def blur_axis(place, *planes):
        inside = place < 2
        padded = tf.cond(
            inside,
            lambda: [photometric.repeat_border(plane, radius, axis=1) for plane in planes],
            lambda: [tf.pad(plane, [[0, 0], [radius, radius], [0, 0]]) for plane in planes],
        )
        blurred = tf.cond(
            inside,
            lambda: [photometric.convolve(plane, weights, axis=1) for plane in padded],
            lambda: [plane[:, radius:-radius] for plane in padded],
        )
        return place + 1, *(tf.transpose(plane, [0, 2, 1]) for plane in blurred)

    return _repeat(tf.where(sigma_px > 0, 2, 0), blur_axis, planes)


def _repeat(times, function, planes):
    return list(tf.while_loop(lambda place, *_: place < times, function, (0, *planes))[1:])


def _where(is_changed, change, planes):
    return tf.cond(is_changed, change, lambda: list(planes))


_STEPS = {"color_jitter": _jitter, "to_grayscale": _grayscale, "solarize": _solarize}
