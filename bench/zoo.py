"""The networks that bench/ counts, and their artifacts: seeded weights; EfficientNet-Lite0 has its published ones."""

from __future__ import annotations

import hashlib
import itertools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.zoo import conv_bn, efficientnet_lite0, mobilenet_v2, resnet8, seeded

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Net:
    """A network to bench: how it is made, the shape of its input, whether `arm64.py` counts it when none is named, and
    whether `arm64.py check` has golden counts of it."""

    build: Callable[[], Any]
    shape: tuple[int, ...]
    counted: bool = True
    golden: bool = False


def mobilenet_v1(width: float = 1.0, classes: int = 1000) -> Any:
    """MobileNetV1 (Howard et al., 2017, table 1); input (N, 3, 224, 224), or (N, 3, 96, 96) as MLPerf Tiny uses it."""
    import torch
    from torch import nn

    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    torch.manual_seed(0)
    channels = int(32 * width)
    layers = [conv_bn(3, channels, 3, 2, act=nn.ReLU)]
    for wide, stride in plan:
        out = int(wide * width)
        layers += [conv_bn(channels, channels, 3, stride, channels, nn.ReLU), conv_bn(channels, out, 1, act=nn.ReLU)]
        channels = out
    return seeded(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)))


def ds_cnn() -> Any:
    """MLPerf Tiny keyword spotting; input (N, 1, 49, 10)."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(4):
        layers += [conv_bn(64, 64, 3, 1, 64, nn.ReLU), conv_bn(64, 64, 1, act=nn.ReLU)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12), nn.Softmax(-1)]
    return seeded(nn.Sequential(*layers, *head))


def autoencoder() -> Any:
    """MLPerf Tiny anomaly detection; input (N, 640)."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[Any] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
    return seeded(nn.Sequential(*layers, nn.Linear(128, 640)))


def resnet50() -> Any:
    """ResNet-50 (He et al., 2016, table 1), stride in the 3x3 convolutions; input (N, 3, 224, 224)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, cin: int, mid: int, stride: int) -> None:
            super().__init__()
            out = 4 * mid
            convs = [conv_bn(cin, mid, 1, act=nn.ReLU), conv_bn(mid, mid, 3, stride, act=nn.ReLU), conv_bn(mid, out, 1)]
            self.body = nn.Sequential(*convs)
            self.short = nn.Identity() if stride == 1 and cin == out else conv_bn(cin, out, 1, stride)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.short(x))

    torch.manual_seed(0)
    layers, channels = [conv_bn(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)], 64
    for mid, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Block(channels, mid, stride if i == 0 else 1))
            channels = 4 * mid
    return seeded(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)))


def pruned(net: Any, share: float) -> Any:
    """The network with that share of each 1x1 convolution's weights, drawn at random, made zero."""
    import torch
    from torch import nn

    gen = torch.Generator().manual_seed(4321)
    for m in net.modules():
        if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1):
            w = m.weight.data.view(-1)
            w[torch.randperm(w.numel(), generator=gen)[: round(share * w.numel())]] = 0
    return net


NETS = {
    "kws_dscnn": Net(ds_cnn, (1, 1, 49, 10), golden=True),
    "ic_resnet8": Net(resnet8, (1, 3, 32, 32), golden=True),
    "vww_mobilenet_v1_025": Net(lambda: mobilenet_v1(0.25, 2), (1, 3, 96, 96), golden=True),
    "ad_autoencoder": Net(autoencoder, (1, 640), golden=True),
    "mobilenet_v1": Net(mobilenet_v1, (1, 3, 224, 224)),
    "mobilenet_v2": Net(mobilenet_v2, (1, 3, 224, 224)),
    "efficientnet_lite0": Net(efficientnet_lite0, (1, 3, 224, 224)),
    "resnet50": Net(resnet50, (1, 3, 224, 224), counted=False),
    "mobilenet_v1_sp90": Net(lambda: pruned(mobilenet_v1(), 0.9), (1, 3, 224, 224), counted=False),
}
PRECISIONS = ("int8", "fp32")


def inputs(name: str, count: int) -> list[Any]:
    """`count` seeded random inputs (torch tensors) of a network: enough to calibrate for speed, not for accuracy."""
    import torch

    gen = torch.Generator().manual_seed(7)
    return [torch.randn(NETS[name].shape, generator=gen) for _ in range(count)]


def artifact(name: str, precision: str, folder: Path, arch: str = "arm64") -> Path:
    """The network compiled for `arch`, as a file in `folder`; made again when the compiler's sources have changed."""
    path = folder / f"{name}.{precision}.{_sources()}.irk"
    if not path.exists():
        exe = compiled(name, f"{arch}-{precision}")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{name}.{precision}.*.irk"):
            old.unlink()
        part = path.with_suffix(f".{os.getpid()}")
        exe.save(part)
        part.rename(path)
    return path


def compiled(name: str, target: str) -> Any:
    """The network compiled for a target; calibrated, for int8, by random inputs."""
    import irkit

    samples = inputs(name, 8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "calibration saw")  # ranges don't matter here
        calibration = samples if target.endswith("int8") else None
        return irkit.compile(NETS[name].build(), samples[0], target=target, calibration=calibration)


def _sources() -> str:
    """A short digest of all that decides what an artifact holds."""
    digest = hashlib.sha256()
    compiler = sorted(f for f in (ROOT / "irkit").rglob("*.py") if f.parent.name not in ("cli", "debug", "deploy"))
    for file in (*compiler, ROOT / "tests/zoo.py", Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
