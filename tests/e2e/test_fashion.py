"""Accuracy on real, labelled data: all 10,000 test images of Fashion-MNIST, one trained network of each framework."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.e2e import fashion

Compiled = Callable[[str, str], Any]
FRAMEWORKS = ("torch", "keras")
TRAINED_TO = {"torch": 91, "keras": 86}  # percent, by the training scripts
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


@functools.cache
def images() -> tuple[Any, Any]:
    """Test images in the layout of neither framework, [n, 28, 28], and their labels."""
    return fashion.load("t10k")


@functools.cache
def model(framework: str) -> Any:
    """The trained network."""
    return fashion.load_torch() if framework == "torch" else fashion.load_keras()


@functools.cache
def framework_scores(framework: str) -> Any:
    """The framework's own float results, [10000, 10]."""
    x = fashion.batches(framework, "t10k")
    if framework == "torch":
        import torch

        with torch.no_grad():
            return np.concatenate([model(framework)(torch.from_numpy(b)).numpy() for b in x])
    return np.concatenate([model(framework).predict_on_batch(b) for b in x])


def scores(exe: Any, framework: str) -> Any:
    """irkit's results."""
    return np.concatenate([exe(b) for b in fashion.batches(framework, "t10k")])


def accuracy(scores: Any) -> float:
    """Percent of the test images whose highest score is their label's."""
    return float((scores.argmax(1) == images()[1]).mean() * 100)


def test_data_is_complete() -> None:
    x, y = images()
    assert x.shape == (10000, 28, 28)
    assert x.dtype == np.float32
    assert np.bincount(y).tolist() == [1000] * 10
    assert abs(float(x.mean())) < 0.05 and abs(float(x.std()) - 1) < 0.05


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_network_is_the_trained_one(framework: str) -> None:
    assert accuracy(framework_scores(framework)) >= TRAINED_TO[framework]
    assert (fashion.WEIGHTS / f"fashion_{framework}.npz").stat().st_size < 1_000_000


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_fp32_predicts_what_the_framework_predicts(framework: str, compiled: Compiled) -> None:
    want = framework_scores(framework)
    got = scores(compiled(f"fashion_{framework}", "fp32"), framework)
    assert np.array_equal(got.argmax(1), want.argmax(1))
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_int8_keeps_the_accuracy(framework: str, compiled: Compiled) -> None:
    want = accuracy(framework_scores(framework))
    got = accuracy(scores(compiled(f"fashion_{framework}", "int8"), framework))
    assert abs(got - want) <= 0.3, f"fp32 {want:.2f} %, int8 {got:.2f} %"
