"""One random view of an image: the whole chain of augmentations, and its chances."""

import tensorflow as tf

from csml_tf.augment import geometric, one_by_one, photometric, resampling

# Each decision has its own columns of `uniforms`, used or not: a recipe that
# turns one part off draws the same crops, jitters and flips as before.
_CROP = slice(0, geometric.NUM_CROP_UNIFORMS)
(
    _FLIP,
    _JITTER,
    _BRIGHTNESS,
    _CONTRAST,
    _SATURATION,
    _HUE,
    _ORDER,
    _GRAYSCALE,
    _BLUR,
    _BLUR_SIGMA,
    _NUM_UNIFORMS,
) = range(_CROP.stop, _CROP.stop + 11)


class ViewAugmentation:
    """MoCo v2's augmentation, arXiv:2003.04297, with torchvision's operations.

    RandomResizedCrop, ColorJitter, grayscale, Gaussian blur, solarization, horizontal flip,
    normalisation. The defaults are MoCo v2's for ImageNet. The flip is made
    together with the crop: it commutes with everything after it.

    A view is a function of the image and of `num_uniforms` numbers drawn from
    [0, 1), nothing else. A part with probability or strength 0 costs nothing.

    Args:
        image_size: height and width of a view, pixels.
        crop_scale: smallest and largest area of the crop, as a share of the image's.
        crop_ratio: smallest and largest width / height of the crop.
        brightness: x at least 0, for a factor uniform in [max(0, 1 - x), 1 + x].
        contrast: the same.
        saturation: the same.
        hue: x in [0, 0.5], for a shift uniform in [-x, x], turns.
        jitter_probability: that brightness, contrast, saturation and hue change.
        grayscale_probability: that the colours go.
        blur_probability: that the view is blurred.
        blur_sigma_px: smallest and largest width of the Gaussian, pixels of the view.
        flip_probability: that left and right are swapped.
        solarize_probability: that values of one half and more become their opposite, as in
            one of BYOL's views (arXiv:2006.07733).
        grayscale_first: whether grayscale comes before the jitter, as in MoCo v1.
        mean: of each channel, of values in [0, 1], subtracted last.
        std: of each channel, divided by last.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        >>> augmentation = ViewAugmentation(image_size=32)
        >>> images = tf.zeros([8, 48, 64, 3], tf.uint8)
        >>> uniforms = tf.random.stateless_uniform([8, augmentation.num_uniforms], [0, 1])
        >>> augmentation(images, uniforms).shape
        TensorShape([8, 32, 32, 3])
    """

    def __init__(
        self,
        *,
        image_size,
        crop_scale=(0.2, 1.0),
        crop_ratio=(3 / 4, 4 / 3),
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        jitter_probability=0.8,
        grayscale_probability=0.2,
        blur_probability=0.5,
        blur_sigma_px=(0.1, 2.0),
        flip_probability=0.5,
        solarize_probability=0.0,
        grayscale_first=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ):
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {image_size}.")
        _check_range("crop_scale", crop_scale, largest=1.0)
        _check_range("crop_ratio", crop_ratio)
        _check_range("blur_sigma_px", blur_sigma_px)
        _check_number("brightness", brightness)
        _check_number("contrast", contrast)
        _check_number("saturation", saturation)
        _check_number("hue", hue, largest=0.5)
        _check_number("jitter_probability", jitter_probability, largest=1)
        _check_number("grayscale_probability", grayscale_probability, largest=1)
        _check_number("blur_probability", blur_probability, largest=1)
        _check_number("flip_probability", flip_probability, largest=1)
        _check_number("solarize_probability", solarize_probability, largest=1)
        if len(mean) != 3:
            raise ValueError(f"mean must be three numbers, got {mean}.")
        if len(std) != 3 or min(std) <= 0:
            raise ValueError(f"std must be three numbers above 0, got {std}.")
        self.image_size = image_size
        self.crop_scale = tuple(crop_scale)
        self.crop_ratio = tuple(crop_ratio)
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.jitter_probability = jitter_probability
        self.grayscale_probability = grayscale_probability
        self.blur_probability = blur_probability
        self.blur_sigma_px = tuple(blur_sigma_px)
        self.flip_probability = flip_probability
        self.solarize_probability = solarize_probability
        self.grayscale_first = grayscale_first
        self.mean = tuple(mean)
        self.std = tuple(std)

    @property
    def num_uniforms(self):
        """How many numbers a view is drawn from; the same for all arguments."""
        return _NUM_UNIFORMS

    def windows(self, heights, widths, uniforms):
        """Where the view looks.

        Args:
            heights: [...] int32, pixels of the image.
            widths: [...] int32, pixels.
            uniforms: [..., num_uniforms] float32 in [0, 1).

        Returns:
            [..., 4] int32, pixels: top, left, height, width.
        """
        return geometric.random_resized_crop_windows(
            heights, widths, uniforms[..., _CROP], self.crop_scale, self.crop_ratio
        )

    def flips(self, uniforms):
        """Which views are mirrored: [...] bool of [..., num_uniforms]; None if none ever is."""
        return uniforms[..., _FLIP] < self.flip_probability if self.flip_probability else None

    def geometric(self, images, uniforms):
        """The crop and the flip.

        Args:
            images: [height, width, 3] or [batch, height, width, 3] uint8.
            uniforms: [num_uniforms] or [batch, num_uniforms] float32 in [0, 1).

        Returns:
            [image_size, image_size, 3] or [batch, image_size, image_size, 3] uint8.
        """
        images = tf.convert_to_tensor(images)
        uniforms = tf.convert_to_tensor(uniforms)
        height, width = tf.unstack(tf.shape(images)[-3:-1])
        windows = self.windows(height, width, uniforms)
        return resampling.crop_and_resize(images, windows, self.image_size, self.flips(uniforms))

    def photometric(self, images, uniforms, on_accelerator=False):
        """The colours, the blur and the normalisation; on whatever device it is called.

        Args:
            images: [batch, image_size, image_size, 3] uint8.
            uniforms: [batch, num_uniforms] float32 in [0, 1), those of `geometric`.
            on_accelerator: whether the whole batch goes through each operation, which is best
                there; a CPU is twice as fast with one image after the other. The results
                agree up to the rounding of float32.

        Returns:
            [batch, image_size, image_size, 3] float32, normalised.
        """
        draws = self._photometric_draws(tf.convert_to_tensor(uniforms))
        finish = photometric.finish if on_accelerator else one_by_one.finish
        return finish(images, draws, max(self.blur_sigma_px), self.mean, self.std)

    def __call__(self, images, uniforms):
        """`photometric` of `geometric`.

        Args:
            images: [height, width, 3] or [batch, height, width, 3] uint8.
            uniforms: [num_uniforms] or [batch, num_uniforms] float32 in [0, 1).

        Returns:
            [image_size, image_size, 3] or [batch, image_size, image_size, 3]
            float32, normalised.
        """
        crops = self.geometric(images, uniforms)
        if crops.shape.rank == 3:
            return self.photometric(crops[None], tf.convert_to_tensor(uniforms)[None])[0]
        return self.photometric(crops, uniforms)

    def jitter_strengths(self, uniforms):
        """The arguments of `color_jitter` for each image.

        Args:
            uniforms: [batch, num_uniforms] float32 in [0, 1).

        Returns:
            dict of "orders", [batch] int32, and "brightness", "contrast",
            "saturation" and "hue", each [batch] float32, or None where it is off;
            an image that is not jittered has factors 1 and a shift of 0.
        """
        is_jittered = uniforms[:, _JITTER] < self.jitter_probability

        def draw(column, low, high, identity):
            return tf.where(is_jittered, _between(uniforms[:, column], low, high), identity)

        def draw_factors(column, strength):
            if not strength:
                return None
            return draw(column, max(0.0, 1.0 - strength), 1.0 + strength, identity=1.0)

        num_orders = photometric.NUM_JITTER_ORDERS
        orders = tf.cast(uniforms[:, _ORDER] * num_orders, tf.int32)
        return {
            "orders": tf.minimum(orders, num_orders - 1),
            "brightness": draw_factors(_BRIGHTNESS, self.brightness),
            "contrast": draw_factors(_CONTRAST, self.contrast),
            "saturation": draw_factors(_SATURATION, self.saturation),
            "hue": draw(_HUE, -self.hue, self.hue, identity=0.0) if self.hue else None,
        }

    def blur_sigmas_px(self, uniforms):
        """The argument of `gaussian_blur` for each image.

        Args:
            uniforms: [batch, num_uniforms] float32 in [0, 1).

        Returns:
            [batch] float32, pixels; 0 for an image that is not blurred.
        """
        is_blurred = uniforms[:, _BLUR] < self.blur_probability
        return tf.where(is_blurred, _between(uniforms[:, _BLUR_SIGMA], *self.blur_sigma_px), 0.0)

    def is_solarized(self, uniforms):
        """Which images are solarized: [batch, num_uniforms] float32 in [0, 1) -> [batch] bool."""
        # What is left of the number that chose the order: independent of it, and a column of
        # its own would have changed every other draw of older recipes.
        left = tf.math.floormod(uniforms[:, _ORDER] * photometric.NUM_JITTER_ORDERS, 1.0)
        return left < self.solarize_probability

    def _photometric_draws(self, uniforms):
        """[(name of an operation, its arguments)] of those that are in use, in their order."""
        draws = []
        if self.jitter_probability and any(
            (self.brightness, self.contrast, self.saturation, self.hue)
        ):
            draws.append(("color_jitter", self.jitter_strengths(uniforms)))
        if self.grayscale_probability:
            is_gray = uniforms[:, _GRAYSCALE] < self.grayscale_probability
            draws.insert(
                0 if self.grayscale_first else len(draws), ("to_grayscale", {"is_gray": is_gray})
            )
        if self.blur_probability:
            draws.append(("gaussian_blur", {"sigmas_px": self.blur_sigmas_px(uniforms)}))
        if self.solarize_probability:
            draws.append(("solarize", {"is_solarized": self.is_solarized(uniforms)}))
        return draws


def cut_views(encoded, augmentations, uniforms):
    """The crops and flips of several views of one encoded image, decoded once for all.

    Args:
        encoded: scalar string, the bytes of an image file.
        augmentations: list of `ViewAugmentation`, one per view.
        uniforms: list of [num_uniforms] float32 in [0, 1), one per view.

    Returns:
        List of [image_size, image_size, 3] uint8, as `geometric` makes them, but where
        an image much larger than a view is decoded smaller, see `geometric.decode_crops`.
    """

    def make_windows(height, width):
        windows = [a.windows(height, width, row) for a, row in zip(augmentations, uniforms)]
        return tf.stack(windows)

    sizes = [augmentation.image_size for augmentation in augmentations]
    flips = [augmentation.flips(row) for augmentation, row in zip(augmentations, uniforms)]
    return geometric.decode_crops(encoded, make_windows, sizes, flips)


def _between(uniforms, low, high):
    return low + (high - low) * uniforms


def _check_number(name, value, largest=float("inf")):
    if not 0 <= value <= largest:
        limits = "at least 0" if largest == float("inf") else f"between 0 and {largest}"
        raise ValueError(f"{name} must be {limits}, got {value}.")


def _check_range(name, values, largest=float("inf")):
    if len(values) != 2 or not 0 < values[0] <= values[1] <= largest:
        limits = "above 0" if largest == float("inf") else f"above 0 and at most {largest}"
        raise ValueError(f"{name} must be two rising numbers {limits}, got {values}.")
