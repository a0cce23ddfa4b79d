"""Model kinds, containers and errors of the Keras frontend."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from keras import ops as K  # noqa: N812

from irkit.errors import InputError, ModelError, UnsupportedModelError
from irkit.frontends.keras import from_keras
from tests.frontends.run_graph import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def compare(model, example, *flat):
    """Outputs in the same containers, each within float32 rounding of a sum of some hundred terms."""
    graph = from_keras(model, example)
    ours = evaluate(graph, *flat)
    call = list(example) if isinstance(example, tuple) and isinstance(model, keras.src.models.Functional) else example
    theirs = model(*call, training=False) if isinstance(call, tuple) else model(call, training=False)
    theirs = keras.tree.map_structure(keras.ops.convert_to_numpy, theirs)
    assert keras.tree.map_structure(np.shape, ours) == keras.tree.map_structure(np.shape, theirs)
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    return graph


def data(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def two_inputs():
    a, b = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="meta")
    x = L.Conv2D(4, 3, padding="same", activation="relu")(a)
    shared = L.Conv2D(4, 1)
    x = shared(x) + shared(x) * L.Reshape((1, 1, 4))(b)
    x = L.Concatenate()([x, a])
    return a, b, x


def test_functional_with_inputs_shared_layers_and_dict_output():
    a, b, x = two_inputs()
    pooled = L.GlobalAveragePooling2D()(x)
    model = keras.Model([a, b], {"score": L.Dense(2, activation="softmax")(pooled), "map": x})
    p, q = data(2, 8, 8, 3), data(2, 4)
    graph = compare(model, (p, q), p, q)
    assert [v.name for v in graph.inputs] == ["image", "meta"]
    by_name = from_keras(model, {"meta": q, "image": p})
    np.testing.assert_array_equal(evaluate(by_name, p, q)["map"], evaluate(graph, p, q)["map"])


def test_dict_inputs_and_list_output():
    a, b, x = two_inputs()
    model = keras.Model({"image": a, "meta": b}, [x, b])
    p, q = data(1, 8, 8, 3), data(1, 4)
    graph = from_keras(model, {"image": p, "meta": q})
    got = evaluate(graph, p, q)
    assert isinstance(got, list)
    np.testing.assert_array_equal(got[1], q)


def test_nested_models():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(6, activation="relu"), L.BatchNormalization()], name="inner")
    x = keras.Input((6,))
    outer = keras.Model(x, L.Add()([inner(inner(x)), x]), name="outer")
    v = data(3, 6)
    graph = compare(outer, v, v)
    assert {op.loc for op in graph if op.name == "linear"} == {f"inner.{inner.layers[0].name}"}
    # The weight is one constant although the layer runs twice.
    assert sum(op.name == "const" and "kernel" in op.result.name for op in graph) == 1


def test_subclassed_model_with_inner_layers_ops_and_own_weights():
    class Block(L.Layer):
        def __init__(self, width):
            super().__init__()
            self.dense = L.Dense(width, activation="gelu")
            self.norm = L.LayerNormalization()

        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="scale")

        def call(self, x, training=None):
            return self.norm(x * self.scale + self.dense(x))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [Block(5) for _ in range(2)]
            self.drop = L.Dropout(0.5)

        def call(self, x, extra=None, training=None):
            for block in self.blocks:
                x = self.drop(block(x), training=training)
            return {"y": K.softmax(x), "parts": (K.max(x, axis=-1), extra * 2)}

    model = Model()
    x, extra = data(2, 4, 5), data(2, 1)
    model(x, extra)
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    graph = compare(model, (x, extra), x, extra)
    assert [v.name for v in graph.inputs] == ["x", "extra"]
    assert nodes == [len(layer._inbound_nodes) for layer in model._flatten_layers()]


def test_unbuilt_models_are_built_from_the_example():
    x = data(2, 8, 8, 3)
    model = keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(3)])
    compare(model, x, x)


def test_attention():
    x = keras.Input((6, 8))
    model = keras.Model(x, L.LayerNormalization()(x + L.MultiHeadAttention(2, 4)(x, x)))
    v = data(2, 6, 8)
    compare(model, v, v)


def test_channels_first_needs_no_permute():
    model = keras.Sequential(
        [
            keras.Input((3, 8, 8)),
            L.Conv2D(4, 3, data_format="channels_first", activation="relu"),
            L.BatchNormalization(axis=1),
            L.MaxPooling2D(data_format="channels_first"),
        ]
    )
    x = data(2, 3, 8, 8)
    graph = compare(model, x, x)
    assert not any(op.name == "permute" for op in graph)


def test_open_batch_is_one_without_example():
    model = keras.Sequential([keras.Input((6,)), L.Dense(2)])
    assert from_keras(model).inputs[0].type.shape == (1, 6)
    with pytest.raises(InputError, match="open shape"):
        from_keras(keras.Sequential([keras.Input((None, 6)), L.Dense(2)]))


def test_example_inputs_must_fit():
    model = keras.Sequential([keras.Input((6,), name="x"), L.Dense(2)])
    with pytest.raises(InputError, match=r"input x expects shape \(None, 6\), got \(2, 5\)"):
        from_keras(model, data(2, 5))
    with pytest.raises(InputError, match="input x expects float32, got float64"):
        from_keras(model, data(2, 6).astype(np.float64))
    with pytest.raises(InputError, match=r"takes 1 input\(s\), got 2"):
        from_keras(model, (data(2, 6), data(2, 6)))
    with pytest.raises(InputError, match="expected the keys x, got y"):
        from_keras(model, {"y": data(2, 6)})


def test_all_unsupported_layers_in_one_report():
    x = keras.Input((6, 4))
    y = L.LSTM(3, return_sequences=True, name="first")(x)
    y = L.LSTM(3, return_sequences=True, name="second")(y)
    model = keras.Model(x, K.cumsum(K.cumsum(y, axis=1), axis=2))
    with pytest.raises(UnsupportedModelError) as e:
        from_keras(model)
    report = {(i.what, i.where): i.count for i in e.value.items}
    assert report["keras.ops Cumsum", ""] == 2
    assert {where for what, where in report if what == "keras.layers.LSTM"} == {"first", "second"}


def test_bad_weights_and_wrong_objects():
    model = keras.Sequential([keras.Input((6,)), L.Dense(2, name="head")])
    model.layers[0].kernel.assign(np.full((6, 2), np.nan, np.float32))
    with pytest.raises(ModelError, match=r"weight head/kernel holds 12 NaN or infinite value\(s\) of 12"):
        from_keras(model)
    with pytest.raises(ModelError, match="expected a Keras model, got int"):
        from_keras(3)
