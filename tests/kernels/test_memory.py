"""Memory of a run: near the artifact and the arena, although kernels keep weights in an order of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import irkit
from tests.builds import run, tool
from tests.kernels.artifacts import artifact

WIDTHS = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
WIDTHS += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]
pytestmark = pytest.mark.slow


def mobilenet_v1() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU6()]
    for i, o, stride in WIDTHS:
        layers += [nn.Conv2d(i, i, 3, stride=stride, padding=1, groups=i), nn.ReLU6(), nn.Conv2d(i, o, 1), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000)).eval()


def figures(path: Path) -> dict[str, int]:
    """What irkit-run says of an artifact, in bytes: artifact, prepared, arena, scratch, memory (the process's peak)."""
    done = run([*tool("native"), path, "--describe", "--benchmark", "--repeat", "2", "--threads", "1"])
    assert done.returncode == 0, done.stderr
    return {k: int(v) for k, v in re.findall(r"(artifact|prepared|arena|scratch|memory) (\d+)", done.stdout)}


def test_peak(tmp_path: Path) -> None:
    """A run of MobileNetV1 takes 1 MiB more than the program, the artifact, the arena, input and output."""
    x = torch.randn(1, 3, 96, 96)
    got = figures(irkit.compile(mobilenet_v1(), example_inputs=x).save(tmp_path / "m.irk"))
    (tmp_path / "tiny.irk").write_bytes(artifact())
    program = figures(tmp_path / "tiny.irk")["memory"]
    assert got["memory"] - program <= got["artifact"] + got["arena"] + x.nelement() * 4 + 4000 + (1 << 20)
