"""Whole models -> Graph -> interpreter: within 1e-5 of the framework's output, relative to the tensor's scale."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch

from irkit.frontends.torch import from_torch
from irkit.ir.verify import verify
from tests import zoo
from tests.frontends.run_graph import evaluate, leaves

TORCH = {
    "efficientnet_lite0": (zoo.efficientnet_lite0, (1, 3, 224, 224)),
    "pnet": (lambda: zoo.mtcnn("pnet"), zoo.MTCNN_INPUTS["pnet"]),
    "rnet": (lambda: zoo.mtcnn("rnet"), zoo.MTCNN_INPUTS["rnet"]),
    "onet": (lambda: zoo.mtcnn("onet"), zoo.MTCNN_INPUTS["onet"]),
    "mobilenet_v2": (zoo.mobilenet_v2, (1, 3, 96, 96)),
    "resnet8": (zoo.resnet8, (2, 3, 32, 32)),
    "ds_cnn": (zoo.ds_cnn, (1, 1, 49, 10)),
    "autoencoder": (zoo.autoencoder, (3, 640)),
    "vit": (zoo.vit, (1, 3, 64, 64)),
}


def assert_near(ours, theirs, relative):
    ours, theirs = leaves(ours), leaves(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= relative * np.abs(b).max()


@pytest.mark.parametrize("name", TORCH)
def test_torch_model(name):
    make, shape = TORCH[name]
    model = make()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    graph = from_torch(model, x)
    verify(graph)
    with torch.no_grad():
        assert_near(evaluate(graph, x.numpy()), model(x), 1e-5)


def test_weights_keep_their_names():
    graph = from_torch(zoo.resnet8(), torch.zeros(1, 3, 32, 32))
    names = {r.name for op in graph for r in op.results if op.name == "const"}
    assert {"0.0.weight", "1.body.0.0.weight", "2.short.bias", "6.weight", "6.bias"} <= names
    assert next(op for op in graph if op.name == "softmax").loc == "7"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mini_xception():
    import keras

    from irkit.frontends.keras import from_keras

    model = zoo.mini_xception()
    model = keras.Model(model.inputs[0], model.outputs[0])  # the file's own input structure makes Keras warn
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    graph = from_keras(model, x)
    verify(graph)
    assert_near(evaluate(graph, x), keras.ops.convert_to_numpy(model(x, training=False)), 1e-5)
    # The permutes of neighbouring channels-last layers meet and vanish: one comes in, the mean takes the other.
    assert sum(op.name == "permute" for op in graph) == 1
