"""MobileNetV1 with 90 % zeros in its 1x1 convolutions: equal answers and a small artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import irkit


def conv_bn_relu(cin: int, cout: int, k: int, stride: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(cout), nn.ReLU()
    )


def mobilenet_v1() -> nn.Sequential:
    """MobileNetV1 1.0 (Howard et al., 2017) with seeded weights and batch-norm statistics."""
    torch.manual_seed(1234)
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    layers, c = [conv_bn_relu(3, 32, 3, 2)], 32
    for out, stride in blocks:
        layers += [conv_bn_relu(c, c, 3, stride, c), conv_bn_relu(c, out, 1, 1)]
        c = out
    m = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 1000)).eval()
    for b in m.modules():
        if isinstance(b, nn.BatchNorm2d):
            b.running_mean.copy_(torch.randn(b.num_features) * 0.1)
            b.running_var.copy_(torch.rand(b.num_features) + 0.5)
    return m.requires_grad_(False)


def prune_pointwise(m: nn.Module, fraction: float) -> None:
    torch.manual_seed(4321)
    for conv in m.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1):
            w = conv.weight.view(-1)
            w[torch.randperm(w.numel())[: round(fraction * w.numel())]] = 0


def test_pruned_mobilenet_v1(tmp_path: Path) -> None:
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model = mobilenet_v1()
    dense = irkit.compile(model, x).save(tmp_path / "dense.irk")
    prune_pointwise(model, 0.9)
    exe = irkit.compile(model, x)
    sparse = exe.save(tmp_path / "sparse.irk")
    want = model(x).numpy()
    for m in (exe, irkit.load(sparse)):
        assert np.abs(m(x) - want).max() <= 1e-4 * np.abs(want).max()
    # 24 % of the dense file is the linear layer, which has no zeros; the float32 values that are left, another 7 %
    assert sparse.stat().st_size <= 0.355 * dense.stat().st_size
    assert sum(r.family == "spmm" for r in exe.plan.rows) == 13
    assert "csr" in str(exe.plan)
