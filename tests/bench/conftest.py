"""A small artifact, and a cache folder of their own for the tests of measuring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import irkit


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 artifact: a convolution, a depthwise one, a linear layer."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, groups=16), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(256, 8),
    ).eval()  # fmt: skip
    rng = np.random.default_rng(0)
    batches = [torch.from_numpy(rng.standard_normal((1, 3, 8, 8), np.float32)) for _ in range(32)]
    path = tmp_path_factory.mktemp("artifact") / "net.int8.irk"
    irkit.compile(net, batches[0], target="native-int8", calibration=batches).save(path)
    return path


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The machine's limits are measured in no time, badly, and kept in a folder that goes away."""
    from irkit.bench import peaks

    monkeypatch.setenv("IRKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(peaks, "TRIES", 1)
    monkeypatch.setattr(peaks, "TRY_NS", 4e4)
    monkeypatch.setattr(peaks, "_MOST_MEMORY", 1 << 24)
