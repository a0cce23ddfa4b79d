"""Keras 3 model (Sequential, functional or subclassed, on any backend) -> Graph.

A functional model is a graph of operations already; it is walked. A layer without a handler and a subclassed model are
called with symbolic tensors, which records the layers and ``keras.ops`` they use; these are walked in turn.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from irkit import ops
from irkit.errors import InputError, IRError, ModelError
from irkit.frontends import keras_nn, keras_ops, keras_shape
from irkit.frontends.builder import Builder, NotSupportedError, as_array, need_dtype, permutation
from irkit.frontends.keras_registry import LAYERS, OPERATIONS, Handler
from irkit.ir import tree
from irkit.ir.graph import Graph, Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, DType, TensorType

_FAMILIES = (keras_nn, keras_ops, keras_shape)  # importing them fills the tables
# Activations that need no look inside; two of them can't be looked into.
_PLAIN = {
    "linear": None, "relu": ops.relu, "sigmoid": ops.sigmoid, "tanh": ops.tanh, "silu": ops.silu,
    "hard_silu": ops.hardswish, "mish": ops.mish,
}  # fmt: skip


def from_keras(model: Any, example_inputs: Any = None) -> Graph:
    """The graph of a Keras model in inference mode.

    ``example_inputs``: one array, a tuple or list of them, or a dict by input name; only shapes and dtypes matter. It
    may be left out for models that declare their inputs: the batch size is then 1. Raises ModelError (NaN weights, an
    unbuilt model), InputError (example inputs that do not fit) and UnsupportedModelError (lists all operations and
    layers that can't be converted).
    """
    if not isinstance(model, keras.layers.Layer):
        raise ModelError(f"expected a Keras model, got {type(model).__name__}")
    name = re.sub(r"\W", "_", model.name.lower())
    if isinstance(model, keras.Sequential) and not model.built and example_inputs is not None:
        model.build(as_array(example_inputs).shape)
    functional = _functional(model)
    importer = _Importer(name, root=f"{model.name}/")
    with _unchanged(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras' own, of NumPy and PyTorch meeting
        if functional is not None:
            _check_weights(model)
            symbols, structure = functional.inputs, functional._inputs_struct
            declared = [(_input_name(s), tuple(s.shape), str(s.dtype)) for s in symbols]
            values = importer.inputs(_declared(declared, structure, example_inputs))
            outputs = importer.walk_function(functional, values)
        else:
            args, kwargs, flat = _symbols(model, example_inputs)
            if not model.built:
                _build(model, args, kwargs)
            _check_weights(model)
            values = importer.inputs(flat)
            outputs = importer.trace(model.call, args, kwargs, dict(zip(_tensors((args, kwargs)), values, strict=True)))
    return importer.finish(outputs)


# ---- inputs
_Spec = tuple[str, tuple[int, ...], str]


def _functional(model: Any) -> Any:
    """The Function that a model is, or None when its ``call`` is the model's own."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        return model._functional
    functional_class = keras.src.models.Functional
    return model if isinstance(model, functional_class) and type(model).call is functional_class.call else None


def _input_name(symbol: Any) -> str:
    history = getattr(symbol, "_keras_history", None)
    operation = history.operation if history is not None else None
    return str(operation.name if operation is not None else symbol.name)


def _declared(declared: Sequence[_Spec], structure: Any, example: Any) -> list[_Spec]:
    """The declared inputs with the example's sizes in place of open ones."""
    if example is None:
        given: list[Any] = [None] * len(declared)
    elif isinstance(example, Mapping):
        keys = sorted(structure) if isinstance(structure, Mapping) else [d[0] for d in declared]
        if set(example) != set(keys):
            raise InputError(f"example_inputs: expected the keys {', '.join(keys)}, got {', '.join(example)}")
        given = [example[key] for key in keys]
    else:
        given = list(example) if isinstance(example, (tuple, list)) else [example]
    if len(given) != len(declared):
        raise InputError(f"example_inputs: the model takes {len(declared)} input(s), got {len(given)}")
    result: list[_Spec] = []
    for (name, shape, dtype), x in zip(declared, given, strict=True):
        if x is None:
            sizes = tuple(1 if d is None and i == 0 else d for i, d in enumerate(shape))
            if None in sizes:
                raise InputError(f"input {name} has the open shape {shape}; pass example_inputs to fix it")
        else:
            array = as_array(x)
            sizes = array.shape
            if len(sizes) != len(shape) or any(d not in (None, s) for d, s in zip(shape, sizes, strict=True)):
                raise InputError(f"example_inputs: input {name} expects shape {shape}, got {sizes}")
            if str(array.dtype) != dtype:
                raise InputError(f"example_inputs: input {name} expects {dtype}, got {array.dtype}")
        result.append((name, sizes, dtype))
    return result


def _symbols(model: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any], list[_Spec]]:
    """Symbolic arguments for a subclassed model, and the inputs they stand for."""
    if example is None:
        raise InputError(f"example_inputs is missing: {type(model).__name__} does not declare its inputs")
    names = list(model._call_signature.parameters)
    parts = [example] if isinstance(example, Mapping) or not isinstance(example, tuple) else list(example)
    flat: list[_Spec] = []

    def symbol(x: Any, name: str) -> Any:
        if isinstance(x, Mapping):
            return {key: symbol(x[key], str(key)) for key in sorted(x)}
        if isinstance(x, (list, tuple)):
            return type(x)(symbol(v, f"{name}_{i}") for i, v in enumerate(x))
        array = as_array(x)
        if array.dtype == np.float64 and model.compute_dtype == "float32":
            raise InputError(f"example_inputs: input {name} expects float32, got float64")
        flat.append((name, array.shape, str(array.dtype)))
        return keras.KerasTensor(array.shape, dtype=str(array.dtype), name=name)

    args = tuple(symbol(x, names[i] if i < len(names) else f"arg{i}") for i, x in enumerate(parts))
    return args, {}, flat


def _build(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        model(*args, **kwargs)
    except Exception as e:
        raise ModelError(f"{type(model).__name__} is not built and can't be built from example_inputs: {e}") from e


def _check_weights(model: Any) -> None:
    for w in model.weights:
        array = as_array(w.value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            path = w.path.removeprefix(f"{model.name}/")
            raise ModelError(f"weight {path} holds {bad} NaN or infinite value(s) of {array.size}")


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Tracing records calls on the layers; forget them afterwards."""
    layers = [model, *model._flatten_layers(include_self=False)]
    saved = [(x, list(x._inbound_nodes), list(x._outbound_nodes)) for x in layers]
    try:
        yield
    finally:
        for x, inbound, outbound in saved:
            x._inbound_nodes[:] = inbound
            x._outbound_nodes[:] = outbound


def _tensors(structure: Any) -> list[Any]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


# ---- the walk
class _Importer:
    def __init__(self, name: str, root: str) -> None:
        self.b = Builder(name)
        self._root = root  # every path of a weight begins with the model's name
        self.path: list[str] = []
        self._weights: dict[tuple[int, Any], Value] = {}
        self._keep: list[Any] = []  # traced tensors are looked up by id: none may be freed meanwhile

    def inputs(self, specs: Sequence[_Spec]) -> list[Value]:
        values = []
        for name, shape, dtype in specs:
            try:
                values.append(self.b.graph.add_input(TensorType(shape, need_dtype(dtype, f"input {name}")), name))
            except NotSupportedError as e:
                raise ModelError(str(e)) from None
        return values

    def finish(self, outputs: Any) -> Graph:
        leaves: list[Value] = []
        try:
            encoded = "" if self.b.rejected else tree.flatten(outputs, leaves, Value)
        except IRError as e:
            raise ModelError(str(e)) from None
        if not leaves and not self.b.rejected:
            raise ModelError("the model returns no tensor")
        return self.b.finish(leaves, encoded)

    def walk_function(self, function: Any, values: Sequence[Value]) -> Any:
        """Outputs of a functional model (or of any recorded graph) for these inputs."""
        env = {id(s): v for s, v in zip(function.inputs, values, strict=True)}
        return self.walk(function._outputs_struct, env)

    def trace(self, fn: Callable[..., Any], args: Any, kwargs: Any, values: Mapping[Any, Value]) -> Any:
        """Outputs of ``fn``, called with symbolic tensors that stand for these Values."""
        outputs = fn(*args, **kwargs)
        self._keep.append((args, kwargs, outputs))
        return self.walk(outputs, {id(s): v for s, v in values.items()})

    def walk(self, outputs: Any, env: dict[int, Any]) -> Any:
        """Convert all nodes that ``outputs`` (nested symbolic tensors) depend on; returns them as Values."""
        for node in _ordered(outputs, env):
            self.convert(node, env)
        return keras.tree.map_structure(lambda x: self._leaf(x, env), outputs)

    def _leaf(self, x: Any, env: dict[int, Any]) -> Any:
        if isinstance(x, keras.KerasTensor):
            return env[id(x)]
        return x if x is None or isinstance(x, (bool, int, float, str)) else self.value(x)

    def convert(self, node: Any, env: dict[int, Any]) -> None:
        op = node.operation
        args, kwargs = node.arguments.convert(lambda x: env[id(x)] if isinstance(x, keras.KerasTensor) else x)
        is_layer = isinstance(op, keras.layers.Layer)
        if is_layer:
            self.path.append(op.name)
            args, kwargs = keras.tree.map_structure(lambda x: self._autocast(op, x), (args, kwargs))
        self.b.loc = ".".join(self.path)
        batch = next((v.type.shape[0] for v in env.values() if isinstance(v, Value) and v.type.shape), 1)
        try:
            results = keras.tree.flatten(self.apply(op, args, kwargs))
            for symbol, value in zip(node.outputs, results, strict=True):
                env[id(symbol)] = _checked(value, symbol)
        except ModelError:
            raise
        except Exception as e:  # a handler or Keras itself can't do with these settings
            hint = str(e).splitlines()[0] if str(e) else ""
            hint = hint if isinstance(e, (NotSupportedError, IRError)) else f"{type(e).__name__}: {hint}"
            self.b.reject(f"{'keras.layers.' if is_layer else 'keras.ops '}{type(op).__name__}", hint)
            for symbol in node.outputs:
                shape = tuple(batch if d is None else d for d in symbol.shape)
                env[id(symbol)] = self.b.phantom(TensorType(shape, _dtype_or_f32(symbol.dtype)))
        finally:
            if is_layer:
                self.path.pop()
                self.b.loc = ".".join(self.path)

    def _autocast(self, layer: Any, x: Any) -> Any:
        """A float argument in the dtype a layer computes in, as ``Layer.__call__`` converts it."""
        if not isinstance(x, Value) or not x.type.dtype.is_float or not layer.autocast:
            return x
        return self.b.cast(x, _dtype_or_f32(layer.compute_dtype))

    def apply(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What calling a layer or operation with these Values gives."""
        handler = _handler(op)
        if handler is not None:
            return handler(self, op, *args, **kwargs)
        if not isinstance(op, keras.layers.Layer):
            raise NotSupportedError("")
        function = _functional(op)
        if function is not None:
            flat = [v for v in keras.tree.flatten(args[0]) if isinstance(v, Value)]
            return self.walk_function(function, flat)
        return self._trace_layer(op, args, kwargs)

    def _trace_layer(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        values: dict[Any, Value] = {}

        def symbol(x: Any) -> Any:
            if not isinstance(x, Value):
                return x
            s = keras.KerasTensor(x.type.shape, dtype=str(x.type.dtype.numpy))
            values[s] = x
            return s

        symbolic_args = keras.tree.map_structure(symbol, tuple(args))
        symbolic_kwargs = keras.tree.map_structure(symbol, dict(kwargs))
        before = self.b.rejected_count
        try:
            return self.trace(op.call, symbolic_args, symbolic_kwargs, values)
        except Exception as e:
            if self.b.rejected_count > before:
                raise
            raise NotSupportedError(f"its call can't be traced with symbolic tensors: {e}") from e

    # ---- what handlers use
    def value(self, x: Any, like: Value | None = None) -> Value:
        """See keras_registry.Importer."""
        if isinstance(x, Value):
            return x
        if isinstance(x, (bool, int, float)) and like is not None:
            return self.b.const(np.asarray(x, like.type.dtype.numpy))
        return self.weight(x)

    def weight(self, variable: Any, form: Callable[[Array], Array] | None = None) -> Value:
        """See keras_registry.Importer."""
        if isinstance(variable, Value):
            array = const_array(variable)
            if array is None:
                raise NotSupportedError("a kernel that is computed from the input")
            return self.b.const(array if form is None else form(array), variable.name)
        key = (id(variable), form)
        if key not in self._weights:
            array = as_array(getattr(variable, "value", variable))
            name = getattr(variable, "path", "").removeprefix(self._root).replace("/", ".")
            need_dtype(array.dtype, f"weight {name}")
            self._weights[key] = self.b.const(array if form is None else form(array), name)
            self._keep.append(variable)
        return self._weights[key]

    def activate(self, fn: Any, x: Value) -> Value:
        """See keras_registry.Importer."""
        if fn is None:
            return x
        name = getattr(fn, "__name__", "")
        if name in _PLAIN and fn is getattr(keras.activations, name, None):
            opdef = _PLAIN[name]
            return x if opdef is None else self.elementwise(opdef, x)
        if isinstance(fn, keras.layers.Layer):
            self.path.append(fn.name)
            try:
                return _one(self.apply(fn, (x,), {}))
            finally:
                self.path.pop()
        s = keras.KerasTensor(x.type.shape, dtype=str(x.type.dtype.numpy))
        return _one(self.trace(fn, (s,), {}, {s: x}))

    def elementwise(self, opdef: OpDef, *xs: Value, **attrs: Any) -> Value:
        """See keras_registry.Importer."""
        b = self.b
        before = [permutation(x) for x in xs]
        perms = {p[1] for p in before if p is not None}
        rank = max(x.type.rank for x in xs)
        if len(perms) != 1 or len(next(iter(perms))) != rank:
            return b.emit(opdef, *xs, **attrs)
        perm = next(iter(perms))
        back = tuple(int(i) for i in np.argsort(perm))
        sources: list[Value] = []
        for x, p in zip(xs, before, strict=True):
            if p is not None:
                sources.append(p[0])
            elif const_array(x) is None:
                return b.emit(opdef, *xs, **attrs)
            elif x.type.size == 1:
                sources.append(x)
            else:
                full = b.reshape(x, (1,) * (rank - x.type.rank) + x.type.shape)
                sources.append(b.permute(full, back))
        return b.permute(b.emit(opdef, *sources, **attrs), perm)


def _one(x: Any) -> Value:
    assert isinstance(x, Value)
    return x


def _checked(value: Any, symbol: Any) -> Value:
    """The converted result; NotSupportedError when it is not what Keras says the operation returns."""
    if not isinstance(value, Value):
        raise NotSupportedError(f"returns a {type(value).__name__}")
    want = tuple(symbol.shape)
    fits = len(want) == value.type.rank and all(w in (None, d) for w, d in zip(want, value.type.shape, strict=True))
    if not fits or str(value.type.dtype.numpy) != str(symbol.dtype):
        raise NotSupportedError(
            f"would give {value.type.dtype.value}{list(value.type.shape)}, Keras gives {symbol.dtype}{list(want)}"
        )
    return value


def _dtype_or_f32(name: Any) -> DType:
    try:
        return need_dtype(name, "")
    except NotSupportedError:
        return DType.F32


def _handler(op: Any) -> Handler | None:
    """The handler of the nearest Keras class, unless the model's own subclass has its own ``call``."""
    table = LAYERS if isinstance(op, keras.layers.Layer) else OPERATIONS
    for cls in type(op).__mro__:
        if cls.__module__.startswith("keras.src.") and cls.__name__ in table:
            return table[cls.__name__] if getattr(type(op), "call", None) is getattr(cls, "call", None) else None
    return None


def _ordered(outputs: Any, env: Mapping[int, Any]) -> list[Any]:
    """Nodes that ``outputs`` need and ``env`` does not have, producers first. No recursion: models may be deep."""
    order: list[Any] = []
    done: set[int] = set()
    stack: list[tuple[Any, bool]] = [(t, False) for t in reversed(_tensors(outputs))]
    while stack:
        item, ready = stack.pop()
        if ready:
            order.append(item)
            continue
        if id(item) in env:
            continue
        history = getattr(item, "_keras_history", None)
        if history is None or history.operation is None:
            raise NotSupportedError(f"tensor {item.name} comes from nowhere: it was not made by a Keras layer or op")
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in done:
            continue
        if node.is_input:
            raise ModelError(f"input {history.operation.name} is not among the model's inputs")
        done.add(id(node))
        stack.append((node, True))
        stack.extend((t, False) for t in reversed(node.input_tensors))
    return order
