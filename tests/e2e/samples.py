"""Real trained models with real inputs: photographs from installed packages; nothing is downloaded."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from irkit.pipeline import is_keras_model
from tests.e2e import fashion
from tests.zoo import efficientnet_lite0, mini_xception, mtcnn, package_file

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg", "motorcycle_left.png")


@functools.cache
def photographs() -> tuple[Image.Image, ...]:
    """Eight RGB photographs: six of scikit-image's, two of scikit-learn's."""
    paths = [package_file("skimage", "data", p) for p in PHOTOS]
    paths += [package_file("sklearn", "datasets", "images", p) for p in ("china.jpg", "flower.jpg")]
    return tuple(Image.open(p).convert("RGB") for p in paths)


def crop(image: Image.Image, rng: np.random.Generator | None, size: int = 224) -> np.ndarray:
    """A square crop (the centre one, or a random one of 50 to 100 % of the short side) of that size, RGB [H,W,3] u8."""
    w, h = image.size
    side = min(w, h) if rng is None else int(min(w, h) * rng.uniform(0.5, 1.0))
    left = (w - side) // 2 if rng is None else int(rng.integers(0, w - side + 1))
    top = (h - side) // 2 if rng is None else int(rng.integers(0, h - side + 1))
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))


def imagenet_input(rgb: np.ndarray) -> np.ndarray:
    """What EfficientNet-Lite0 takes: [1,3,H,W] float32, (x - 127) / 128."""
    return np.ascontiguousarray(((rgb.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None])


def random_crops(n: int, seed: int, size: int = 224) -> Iterator[np.ndarray]:
    """``n`` random crops of the photographs in turn, RGB [H,W,3] u8."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        yield crop(photographs()[i % len(photographs())], rng, size)


def faces(size: int, n: int, seed: int, grey: bool = False) -> list[np.ndarray]:
    """Crops of the astronaut's face region and of other photographs, scaled to [-1, 1]: NCHW RGB, or NHWC grey."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        image = photographs()[0].crop((150, 0, 300, 150)) if i % 2 == 0 else photographs()[i % len(photographs())]
        rgb = Image.fromarray(crop(image, rng if i else None, size))
        a = np.asarray(rgb.convert("L") if grey else rgb).astype(np.float32)
        a = (a / 255 - 0.5) * 2 if grey else (a - 127.5) * 0.0078125
        out.append(a[None, :, :, None] if grey else np.ascontiguousarray(a.transpose(2, 0, 1)[None]))
    return out


class Sample:
    """A model of the zoo: how to build it, ``inputs(n, seed)`` to try, inputs to calibrate with, and the framework's
    answer."""

    def __init__(
        self,
        build: Callable[[], Any],
        inputs: Callable[[int, int], list[np.ndarray]],
        calibration: Callable[[], list[np.ndarray]] | None = None,
    ) -> None:
        self.build = functools.cache(build)
        self.inputs = inputs
        self.calibration = calibration or (lambda: inputs(128, 1000))

    def reference(self, x: np.ndarray) -> list[np.ndarray]:
        """The framework's outputs in order."""
        model = self.build()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old model file names its input in a list
            y = (
                model(torch.from_numpy(x))
                if isinstance(model, nn.Module) and not is_keras_model(model)
                else model(x, training=False)
            )
        ys = y if isinstance(y, (tuple, list)) else [y]
        return [np.asarray(v.detach()) for v in ys]


def _photos(n: int, seed: int) -> list[np.ndarray]:
    return [imagenet_input(c) for c in random_crops(n, seed)]


def _fashion(framework: str) -> Sample:
    def inputs(n: int, seed: int) -> list[np.ndarray]:
        batches = fashion.batches(framework, "t10k")
        return [batches[(seed + i) % len(batches)] for i in range(n)]

    build = fashion.load_torch if framework == "torch" else fashion.load_keras
    return Sample(build, inputs, lambda: fashion.batches(framework, "train")[:10])


ZOO: dict[str, Sample] = {
    "efficientnet_lite0": Sample(efficientnet_lite0, _photos),
    "pnet": Sample(functools.partial(mtcnn, "pnet"), lambda n, seed: faces(96, n, seed)),
    "rnet": Sample(functools.partial(mtcnn, "rnet"), lambda n, seed: faces(24, n, seed)),
    "onet": Sample(functools.partial(mtcnn, "onet"), lambda n, seed: faces(48, n, seed)),
    "mini_xception": Sample(mini_xception, lambda n, seed: faces(64, n, seed, grey=True)),
    "fashion_torch": _fashion("torch"),
    "fashion_keras": _fashion("keras"),
}


def outputs(y: Any) -> list[np.ndarray]:
    """A compiled model's answer as a flat list."""
    return list(y) if isinstance(y, (tuple, list)) else [y]
