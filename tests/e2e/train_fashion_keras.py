"""Trains fashion.keras_model and saves weights/fashion_keras.npz: python tests/e2e/train_fashion_keras.py [epochs]."""

from __future__ import annotations

import sys

import keras
import numpy as np
from fashion import WEIGHTS, keras_model, load

BATCH = 128


def main(epochs: int) -> None:
    """Adam with a cosine rate, mirrored images, a fixed seed."""
    keras.utils.set_random_seed(1)
    x, y = load("train")
    tx, ty = load("t10k")
    x = np.concatenate([x, x[:, :, ::-1]])[..., None]
    model = keras_model()
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * (60000 // BATCH))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(1)
    for epoch in range(epochs):
        half = rng.integers(0, 2, 60000) * 60000 + np.arange(60000)  # each image once, mirrored or not
        model.fit(x[half], np.tile(y, 2)[half], BATCH, verbose=0)
        _, accuracy = model.evaluate(tx[..., None], ty, 500, verbose=0)
        print(f"epoch {epoch + 1}: {accuracy:.2%} of the test images", flush=True)
    np.savez_compressed(WEIGHTS / "fashion_keras.npz", **{f"{i:03}": w for i, w in enumerate(model.get_weights())})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
