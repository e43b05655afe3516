"""Set-up that every test shares."""

import csml_tf  # noqa: F401, I001  (Before TensorFlow: it chooses Keras 2.)
import pytest
import tensorflow as tf

# Four devices on any machine, for the tests of distribution. It has to happen before the
# first TensorFlow operation of the process, so no single test can do it for itself.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)


@pytest.fixture(autouse=True)
def _same_random_numbers_every_time():
    tf.keras.utils.set_random_seed(0)
