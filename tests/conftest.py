"""Settings for all tests."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is first imported; needs no TensorFlow
os.environ["IRKIT_CACHE_DIR"] = os.devnull  # what `irkit tune` keeps on this machine must not take part
