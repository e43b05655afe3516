"""A pretraining run of seconds: a network of four convolutions on a few of the digits."""

import functools
import os
import pathlib
import signal
import tempfile
from unittest import mock

import tensorflow as tf

from csml_tf.augment.center_view import CenterView
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data.sources import memory
from csml_tf.models.backbones import contract
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from csml_tf.training import assembly, pretrain
from csml_tf.training.neighbor_refresh import NeighborRefresh
from csml_tf.training.run_directory import RunDirectory
from csml_tf.training.training_bar import TrainingBar
from tests.methods import made

NUM_IMAGES = 48
BATCH = 16


def make_temp_dir(add_cleanup):
    directory = tempfile.TemporaryDirectory()
    add_cleanup(directory.cleanup)
    return pathlib.Path(directory.name)


def make_backbone(bn_groups=2):
    """The interface of `resnet.make_resnet`, traced in a tenth of the time."""
    images = x = tf.keras.Input([None, None, 3])
    stages = {}
    for stage in contract.STAGES:
        initializer = tf.keras.initializers.VarianceScaling(2.0)
        x = tf.keras.layers.Conv2D(4, 3, 2, "same", use_bias=False, kernel_initializer=initializer)(
            x
        )
        x = SplitBatchNormalization(bn_groups)(x)
        x = stages[stage] = tf.keras.layers.ReLU()(x)
    return tf.keras.Model(images, stages)


def make_encoder(bn_groups=2):
    return MultiLevelEncoder(
        functools.partial(make_backbone, bn_groups), {"stage3": 8, "stage4": 8}, 0
    )


def make_model(seed=0, num_negatives=40, bn_groups=2, **options):
    return made.make_csml(
        functools.partial(make_encoder, bn_groups),
        **{"num_negatives": num_negatives, "neighbor_warmup_epochs": 1, "seed": seed, **options},
    )


def make_source(num_images=NUM_IMAGES):
    digits = memory.load_digits()
    return digits.subset(range(num_images), f"{num_images} digits")


def make_parts(epochs=3, **options):
    """`assembly.Parts` with small defaults; `options` take their place."""
    settings = {
        "make_model": make_model,
        "make_neighbor_refresh": functools.partial(
            NeighborRefresh, num_neighbors=3, every_epochs=2
        ),
        "augmentation": ViewAugmentation(
            image_size=16, jitter_probability=0.0, grayscale_probability=0.0, blur_probability=0.0
        ),
        "global_batch_size": BATCH,
        **options,
    }
    return assembly.Parts(epochs=epochs, **settings)


def signal_after_step(epoch, step):
    """Within it the process gets a SIGTERM while that step, both from 0, is made."""
    original = TrainingBar.on_train_batch_end

    def send(bar, batch, logs=None):
        original(bar, batch, logs)
        assert tf.is_tensor(logs["loss"]), "Keras reads it from the device in every step."
        if (bar._epoch, bar._step) == (epoch, step + 1):
            os.kill(os.getpid(), signal.SIGTERM)

    return mock.patch.object(TrainingBar, "on_train_batch_end", send)


def run(directory, epochs=3, monitors=(), source=None, strategy=None, initialize=None, **options):
    """`pretrain.run` of `make_parts(epochs, **options)`."""
    return pretrain.run(
        RunDirectory(directory),
        source or make_source(),
        strategy or tf.distribute.get_strategy(),
        make_parts(epochs, **options),
        CenterView(16),
        lambda: f"EPOCHS = {epochs}\nSEED = {options.get('seed', 0)}\n",
        monitors,
        initialize,
    )
