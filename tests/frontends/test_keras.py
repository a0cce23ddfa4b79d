"""Keras layers and models -> Graph -> interpreter, against Keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from keras import ops as K  # noqa: N812

from irkit.frontends.keras import from_keras
from tests.frontends.run_graph import assert_as_good, evaluate

IMG, SEQ, VEC = (9, 11, 4), (13, 4), (7,)


# Keras converts between PyTorch and NumPy in ways that both have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def numpy_of(x):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, x)


def randomize(model):
    """Weights away from their initial 0 and 1; variances stay positive."""
    rng = np.random.default_rng(3)
    for w in model.weights:
        if w.dtype.startswith("float"):
            noise = rng.uniform(-0.5, 0.5, w.shape)
            w.assign(noise + 1 if "variance" in w.path else noise)


def check(make, *inputs):
    """``make`` builds the model; it is built again in float64 for the exact result."""
    rng = np.random.default_rng(5)
    args = [rng.standard_normal((2, *s)).astype(np.float32) if isinstance(s, tuple) else s for s in inputs]
    call = args[0] if len(args) == 1 else args
    model = make()
    model(call)
    randomize(model)
    keras.config.set_dtype_policy("float64")
    try:
        wide = make()
        wide_args = keras.tree.map_structure(lambda a: a.astype(np.float64), call)
        wide(wide_args)
        for a, b in zip(wide.weights, model.weights, strict=True):
            a.assign(b.numpy() if hasattr(b, "numpy") else b)
        exact = numpy_of(wide(wide_args, training=False))
    finally:
        keras.config.set_dtype_policy("float32")
    graph = from_keras(model, call if isinstance(model, (keras.Sequential, keras.src.models.Functional)) else (call,))
    flat = keras.tree.flatten(call)
    assert_as_good(evaluate(graph, *flat), numpy_of(model(call, training=False)), exact)
    return graph


def one_layer(make, shape):
    return lambda: keras.Sequential([keras.Input(shape), make()])


LAYERS = {
    "conv2d": (lambda: L.Conv2D(6, 3), IMG),
    "conv2d_same": (lambda: L.Conv2D(6, (3, 5), padding="same", activation="relu"), IMG),
    "conv2d_same_stride": (lambda: L.Conv2D(6, 3, strides=2, padding="same"), (10, 12, 4)),
    "conv2d_same_stride_odd": (lambda: L.Conv2D(6, (2, 5), strides=(2, 3), padding="same"), IMG),
    "conv2d_dilation": (lambda: L.Conv2D(6, 3, dilation_rate=(2, 3), padding="same", use_bias=False), IMG),
    "conv2d_groups": (lambda: L.Conv2D(6, 3, groups=2, activation="tanh"), IMG),
    "conv2d_first": (lambda: L.Conv2D(6, 3, strides=2, padding="same", data_format="channels_first"), (4, 10, 12)),
    "conv1d": (lambda: L.Conv1D(6, 3, strides=2), SEQ),
    "conv1d_same": (lambda: L.Conv1D(6, 4, strides=3, padding="same"), SEQ),
    "conv1d_causal": (lambda: L.Conv1D(6, 3, dilation_rate=2, padding="causal"), SEQ),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), IMG),
    "depthwise_stride": (lambda: L.DepthwiseConv2D(3, strides=2, padding="same"), (10, 12, 4)),
    "depthwise1d": (lambda: L.DepthwiseConv1D(3, padding="same"), SEQ),
    "separable": (lambda: L.SeparableConv2D(6, 3, depth_multiplier=2, strides=2, padding="same"), (10, 12, 4)),
    "separable1d": (lambda: L.SeparableConv1D(6, 3), SEQ),
    "transpose": (lambda: L.Conv2DTranspose(6, 3, strides=2, padding="same"), IMG),
    "transpose_valid": (lambda: L.Conv2DTranspose(6, (2, 3), strides=(3, 2), activation="relu"), IMG),
    "transpose_even": (lambda: L.Conv2DTranspose(6, 4, strides=2, padding="same"), IMG),
    "transpose_small": (lambda: L.Conv2DTranspose(6, 2, strides=3, padding="same"), IMG),
    "transpose_output": (lambda: L.Conv2DTranspose(6, 3, strides=2, padding="same", output_padding=1), IMG),
    "transpose_first": (lambda: L.Conv2DTranspose(5, 3, strides=2, data_format="channels_first"), (4, 5, 6)),
    "transpose1d": (lambda: L.Conv1DTranspose(6, 5, strides=2, padding="same"), SEQ),
    "dense": (lambda: L.Dense(5, activation="softmax"), VEC),
    "dense_image": (lambda: L.Dense(5, use_bias=False), IMG),
    "einsum_dense": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), SEQ),
    "einsum_heads": (lambda: L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"), SEQ),
    "einsum_merge": (lambda: L.EinsumDense("abcd,cde->abe", output_shape=(None, 5)), (9, 2, 3)),
    "batch_norm": (lambda: L.BatchNormalization(), IMG),
    "batch_norm_vector": (lambda: L.BatchNormalization(scale=False), VEC),
    "batch_norm_axis": (lambda: L.BatchNormalization(axis=1, center=False), IMG),
    "layer_norm": (lambda: L.LayerNormalization(), IMG),
    "layer_norm_axes": (lambda: L.LayerNormalization(axis=(2, 3), epsilon=1e-2), IMG),
    "group_norm": (lambda: L.GroupNormalization(2), IMG),
    "unit_norm": (lambda: L.UnitNormalization(), SEQ),
    "max_pool": (lambda: L.MaxPooling2D(2), IMG),
    "max_pool_same": (lambda: L.MaxPooling2D((3, 2), strides=2, padding="same"), (10, 12, 4)),
    "max_pool_first": (lambda: L.MaxPooling2D(3, strides=1, data_format="channels_first"), (4, 9, 9)),
    "max_pool1d": (lambda: L.MaxPooling1D(3, strides=2, padding="same"), SEQ),
    "avg_pool": (lambda: L.AveragePooling2D((2, 3)), IMG),
    "avg_pool_same": (lambda: L.AveragePooling2D(3, strides=1, padding="same"), IMG),
    "avg_pool1d": (lambda: L.AveragePooling1D(2), SEQ),
    "global_avg": (lambda: L.GlobalAveragePooling2D(), IMG),
    "global_avg_keep": (lambda: L.GlobalAveragePooling2D(keepdims=True), IMG),
    "global_max": (lambda: L.GlobalMaxPooling2D(data_format="channels_first"), IMG),
    "global_avg1d": (lambda: L.GlobalAveragePooling1D(), SEQ),
    "global_max1d": (lambda: L.GlobalMaxPooling1D(), SEQ),
    "upsample": (lambda: L.UpSampling2D((2, 3)), IMG),
    "upsample_bilinear": (lambda: L.UpSampling2D(2, interpolation="bilinear"), IMG),
    "upsample_first": (lambda: L.UpSampling2D(2, data_format="channels_first"), IMG),
    "upsample1d": (lambda: L.UpSampling1D(3), SEQ),
    "resizing": (lambda: L.Resizing(13, 20), IMG),
    "zero_pad": (lambda: L.ZeroPadding2D(((1, 2), (3, 0))), IMG),
    "zero_pad1d": (lambda: L.ZeroPadding1D((2, 1)), SEQ),
    "cropping": (lambda: L.Cropping2D(((1, 2), (3, 0))), IMG),
    "cropping1d": (lambda: L.Cropping1D((2, 1)), SEQ),
    "flatten": (lambda: L.Flatten(), IMG),
    "flatten_first": (lambda: L.Flatten(data_format="channels_first"), IMG),
    "reshape": (lambda: L.Reshape((-1, 2, 11)), IMG),
    "permute": (lambda: L.Permute((3, 1, 2)), IMG),
    "repeat": (lambda: L.RepeatVector(3), VEC),
    "rescaling": (lambda: L.Rescaling(1 / 127.5, offset=-1), IMG),
    "dropout": (lambda: L.Dropout(0.5), IMG),
    "noise": (lambda: L.GaussianNoise(0.5), IMG),
    "normalization": (lambda: L.Normalization(mean=[1.0, 2, 3, 4], variance=[0.5, 1, 2, 3]), IMG),
    "prelu": (lambda: L.PReLU(shared_axes=(1, 2)), IMG),
    "prelu_all": (lambda: L.PReLU(), IMG),
    "relu_layer": (lambda: L.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2), IMG),
    "relu6": (lambda: L.ReLU(6.0), IMG),
    "leaky_relu": (lambda: L.LeakyReLU(0.2), IMG),
    "elu": (lambda: L.ELU(0.7), IMG),
    "softmax": (lambda: L.Softmax(axis=1), IMG),
    "lambda": (lambda: L.Lambda(lambda x: K.relu(x) * 2 + 1), IMG),
    "nested": (lambda: keras.Sequential([L.Conv2D(5, 3), L.BatchNormalization(), L.ReLU(), L.Flatten()]), IMG),
    "time_distributed_dense": (lambda: L.Dense(3, activation="gelu"), SEQ),
}

ACTIVATIONS = [
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "sigmoid", "hard_sigmoid", "hard_silu",
    "hard_tanh", "tanh", "softplus", "softsign", "softmax", "log_softmax", "log_sigmoid", "tanh_shrink",
    "soft_shrink", "linear", "mish", "exponential",
]  # fmt: skip

FUNCTIONS = {
    "arithmetic": lambda x: 2 - (x * 3 + 0.5) / 7,
    "powers": lambda x: x**2 + K.power(K.abs(x), 0.5) + K.sqrt(K.abs(x)) + 1 / (K.square(x) + 1),
    "minmax": lambda x: K.maximum(x, 0.1) - K.minimum(x, -0.1) + K.clip(x, -0.5, 0.5),
    "math": lambda x: K.exp(x) + K.log(K.abs(x) + 1) + K.erf(x) + K.sign(x) + K.floor(x) - K.ceil(x) - (-x),
    "reductions": lambda x: [K.mean(x, (1, 2)), K.sum(x, -1, keepdims=True), K.max(x, 1), K.min(x), K.mean(x)],
    "variance": lambda x: [K.var(x, (1, 2)), K.std(x, -1, keepdims=True), *K.moments(x, 1), K.logsumexp(x, 1)],
    "indexing": lambda x: [x[:, 1:3], x[..., ::2], x[:, -1], x[:, None], x[:, :, -3:-1, 0], K.split(x, 2, -1)],
    "joins": lambda x: [K.concatenate([x, x * 2], 1), K.stack([x, x], 1), K.stack([x, x], -1)],
    "split_at": lambda x: K.split(x, [2, 5], 1) + list(K.unstack(x, axis=3)),
    "shape": lambda x: [K.reshape(x, (2, -1)), K.transpose(x, (0, 3, 1, 2)), K.swapaxes(x, 1, 3), K.ravel(x)],
    "axes": lambda x: [K.moveaxis(x, 3, 1), K.expand_dims(x, -1), K.squeeze(x[:, :1], 1), K.expand_dims(x, 0)],
    "repeats": lambda x: [K.repeat(x, 2, axis=1), K.tile(x, (1, 2, 1, 3)), K.flip(x, 1), K.roll(x, 2, 1)],
    "padding": lambda x: K.pad(x, ((0, 0), (1, 2), (3, 0), (0, 0))),
    "padding_reflect": lambda x: K.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)), "reflect"),
    "casts": lambda x: [K.cast(x, "int32"), K.cast(x, "int32") + 1.5, K.cast(x * 3, "int32") * 2],
    "true_division": lambda x: K.cast(x, "int32") / 4,
    "products": lambda x: [K.matmul(x, K.transpose(x, (0, 1, 3, 2))), K.einsum("bhwc,bhvc->bhwv", x, x)],
    "normalize": lambda x: K.normalize(x, axis=-1),
    "depth_space": lambda x: [K.nn.depth_to_space(x, 2)] if hasattr(K.nn, "depth_to_space") else [x],
    "take": lambda x: K.take(x, [3, 0, 2], axis=-1),
    "constants": lambda x: x + np.linspace(-1, 1, 4, dtype="float32") + K.ones((11, 1)) * K.zeros_like(x),
    "activations": lambda x: [K.glu(x, axis=3), K.leaky_relu(x, 0.3), K.relu6(x * 9), K.hard_silu(x * 4)],
    "identity": lambda x: x,
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    make, shape = LAYERS[name]
    check(one_layer(make, shape), shape)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    check(one_layer(lambda: L.Activation(name), IMG), IMG)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    """A function as the ``call`` of a subclassed model."""

    class Model(keras.Model):
        def call(self, x):
            return FUNCTIONS[name](x)

    check(Model, IMG)


def test_average_pool_same_excludes_padding():
    """TensorFlow and JAX leave padding out of the mean. (Keras on PyTorch replicates the border when the padding is
    asymmetric, so the reference is computed here.)"""
    x = np.random.default_rng(0).standard_normal((1, 5, 5, 1)).astype(np.float32)
    model = keras.Sequential([keras.Input((5, 5, 1)), L.AveragePooling2D(2, strides=2, padding="same")])
    want = [[x[0, i : i + 2, j : j + 2, 0].mean() for j in (0, 2, 4)] for i in (0, 2, 4)]
    np.testing.assert_allclose(evaluate(from_keras(model, x), x)[0, :, :, 0], want, rtol=1e-6)
