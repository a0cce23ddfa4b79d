"""Settings for all tests."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is first imported; needs no TensorFlow
