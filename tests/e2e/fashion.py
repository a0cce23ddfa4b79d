"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) and two small networks for it, one in each framework.

The images come with Debian's package dataset-fashion-mnist (``make test`` installs it), the trained weights are in
weights/, made by train_fashion_torch.py and train_fashion_keras.py.
"""

from __future__ import annotations

import functools
import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported

DATA = Path("/usr/share/datasets/fashion-mnist")
WEIGHTS = Path(__file__).parent / "weights"
BATCH = 100
MEAN, STD = np.float32(0.2860), np.float32(0.3530)  # of the training pixels in [0, 1]


def _idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array in the IDX format of MNIST: 0, 0, type 8 (uint8), rank, big-endian sizes, bytes."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


@functools.cache
def load(split: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images [n, 28, 28], normalised, and labels [n] of "train" (60,000) or "t10k" (10,000)."""
    images = _idx(DATA / f"{split}-images-idx3-ubyte.gz").astype(np.float32) / np.float32(255)
    labels = _idx(DATA / f"{split}-labels-idx1-ubyte.gz").astype(np.int64)
    return (images - MEAN) / STD, labels


def batches(framework: str, split: str) -> list[npt.NDArray[np.float32]]:
    """The images of a split in batches of 100, with the framework's channel axis."""
    image = (1, 28, 28) if framework == "torch" else (28, 28, 1)
    return list(load(split)[0].reshape(-1, BATCH, *image))


def torch_model() -> Any:
    """Convolutions with batch norm, a depthwise one, an inverted residual with its addition; x [n, 1, 28, 28]."""
    import torch
    from torch import nn

    def block(i: int, o: int, k: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
        conv = nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(o), *([nn.ReLU6()] if act else []))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = block(1, 16, 3)
            self.down = nn.Sequential(block(16, 16, 3, stride=2, groups=16), block(16, 32, 1))
            self.residual = nn.Sequential(block(32, 96, 1), block(96, 96, 3, groups=96), block(96, 32, 1, act=False))
            self.pool = nn.MaxPool2d(2)
            self.head = block(32, 64, 3)
            self.dropout = nn.Dropout(0.2)
            self.classifier = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.down(self.stem(x))
            x = self.pool(torch.relu(x + self.residual(x)))
            return self.classifier(self.dropout(self.head(x).mean((2, 3))))

    return Net()


def keras_model() -> Any:
    """The same ideas in Keras' own layers; x [n, 28, 28, 1], result: probabilities."""
    import keras
    from keras import layers

    x = inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(32, 3, strides=2, padding="same", use_bias=False)(x)
    x = skip = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(32, 1, use_bias=False)(x)
    x = layers.Add()([skip, layers.BatchNormalization()(x)])
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def load_torch() -> Any:
    """The trained PyTorch model in eval mode."""
    import torch

    model = torch_model()
    with np.load(WEIGHTS / "fashion_torch.npz") as saved:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in saved.items()})
    return model.eval()


def load_keras() -> Any:
    """The trained Keras model."""
    model = keras_model()
    with np.load(WEIGHTS / "fashion_keras.npz") as saved:
        model.set_weights([saved[f"{i:03}"] for i in range(len(saved.files))])
    return model
