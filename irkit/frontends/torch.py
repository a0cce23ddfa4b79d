"""torch.nn.Module or ExportedProgram -> Graph, by way of ``torch.export``.

Operations with a handler (``torch_nn``, ``torch_math``, ``torch_shape``) are taken as they are; all others are first
decomposed by PyTorch's own tables, so that a handler for a few core operations serves many.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections import defaultdict, namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from irkit.errors import InputError, IRError, ModelError
from irkit.frontends import torch_math, torch_nn, torch_shape
from irkit.frontends.builder import Builder, NotSupportedError, need_dtype
from irkit.frontends.torch_registry import HANDLERS, Absent
from irkit.ir import tree
from irkit.ir.graph import Graph, Value, const_array
from irkit.ir.types import DType, TensorType

_FAMILIES = (torch_nn, torch_math, torch_shape)  # importing them fills HANDLERS
# Results are new tensors, never views of the operands.
_FRESH = {
    "aten.conv1d.default", "aten.conv1d.padding", "aten.conv2d.default", "aten.conv2d.padding",
    "aten.conv_transpose2d.input", "aten.batch_norm.default", "aten.linear.default", "aten.cat.default",
    "aten.max_pool2d.default", "aten.avg_pool2d.default",
}  # fmt: skip
_POINTWISE = {
    "aten.add.Tensor", "aten.mul.Tensor", "aten.relu.default", "aten.relu6.default", "aten.hardtanh.default",
    "aten.silu.default", "aten.hardswish.default", "aten.hardsigmoid.default", "aten.sigmoid.default",
    "aten.leaky_relu.default", "aten.elu.default",
}  # fmt: skip
_FOLD = 4096  # elements of a constant that may always be computed here
_PARAMS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


def from_torch(module: Any, example_inputs: Any = None) -> Graph:
    """The graph of ``module`` (a ``torch.nn.Module`` in eval mode, or a ``torch.export.ExportedProgram``).

    ``example_inputs``: one array or tensor, a tuple of them, or a dict of keyword arguments; shapes and dtypes are
    what the graph will take. Raises ModelError (training mode, NaN weights, export impossible), InputError (example
    inputs that do not fit) and UnsupportedModelError (lists every operation without a handler).
    """
    if isinstance(module, ExportedProgram):
        program = module
    elif isinstance(module, torch.nn.Module):
        _check_module(module)
        program = _export(module, *_arguments(module, example_inputs))
    else:
        raise ModelError(f"expected a torch.nn.Module or an ExportedProgram, got {type(module).__name__}")
    _check_parameters(program.state_dict)
    name = re.sub(r"\W", "_", type(module).__name__.lower()) or "main"
    return _Importer(_decompose(program), name).run()


# ---- before the walk
def _check_module(module: torch.nn.Module) -> None:
    training = [n or "the model itself" for n, m in module.named_modules() if m.training and _mode_matters(n, m)]
    if training:
        shown = ", ".join(training[:3]) + (f" and {len(training) - 3} more" if len(training) > 3 else "")
        raise ModelError(f"{type(module).__name__} is in training mode ({shown}); call model.eval() first")
    meta = [n for n, p in module.named_parameters() if p.is_meta]
    if meta:
        raise ModelError(f"parameter {meta[0]} is on the meta device and holds no values; load the weights first")


def _mode_matters(name: str, module: torch.nn.Module) -> bool:
    """False for PyTorch's own layers that do the same in both modes (some models call ``eval`` only at the top)."""
    family = type(module).__module__
    plain = ("conv", "linear", "pooling", "padding", "flatten", "activation", "upsampling", "container")
    if not name or family not in {f"torch.nn.modules.{p}" for p in plain}:
        return True
    return isinstance(module, (torch.nn.RReLU, torch.nn.MultiheadAttention))


def _check_parameters(state: Mapping[str, torch.Tensor]) -> None:
    for name, p in state.items():
        if not p.is_floating_point():
            continue
        # An infinite buffer may be meant (attention masks); NaN never is.
        is_parameter = isinstance(p, torch.nn.Parameter)
        bad = int((~torch.isfinite(p) if is_parameter else torch.isnan(p)).sum())
        if bad:
            kind = "parameter" if is_parameter else "buffer"
            raise ModelError(f"{kind} {name} holds {bad} NaN or infinite value(s) of {p.numel()}")


def _arguments(module: torch.nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if example is None:
        raise InputError("example_inputs: a PyTorch model needs one example input, or a tuple of them")
    args, kwargs = ((), dict(example)) if isinstance(example, Mapping) else (example, {})
    if not isinstance(args, (tuple, list)):
        args = (args,)
    floats = {p.dtype for p in module.parameters() if p.is_floating_point()}

    def convert(x: Any) -> Any:
        if isinstance(x, (np.ndarray, np.generic)):
            try:
                x = torch.from_numpy(np.array(x))
            except TypeError:
                raise InputError(f"example_inputs: no PyTorch dtype for {x.dtype}") from None
        if isinstance(x, torch.Tensor) and x.dtype is torch.float64 and floats == {torch.float32}:
            raise InputError("example_inputs: expected float32, as the model's parameters, got float64")
        return x.detach() if isinstance(x, torch.Tensor) else x

    return tuple(pytree.tree_map(convert, tuple(args))), pytree.tree_map(convert, kwargs)


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, args, kwargs)
    except Exception as e:
        reason = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise ModelError(
            f"torch.export can't capture {type(module).__name__}: {reason} "
            f"(check that the model runs on the example inputs, and that its control flow does not depend on values)"
        ) from e


def _decompose(program: ExportedProgram) -> ExportedProgram:
    """Functional form without in-place writes; operations that have no handler are decomposed."""
    targets = {_pure(n) for n in program.graph.nodes if n.op == "call_function"}
    overloads = [t for t in targets if isinstance(t, torch._ops.OpOverload)]
    if all(str(t) in HANDLERS and not t._schema.is_mutable for t in overloads):
        return program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table: Any = torch.export.default_decompositions()
        functional: ExportedProgram = program.run_decompositions(
            {k: v for k, v in table.items() if str(k) not in HANDLERS}
        )
        return functional


def _pure(node: torch.fx.Node) -> Any:
    """What a node does, without writing in place where that can't be seen: relu for a relu_ of a tensor just made that
    nothing else reads later. Most networks write in no other way, and decomposing takes PyTorch a long time."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return target
    written = [k for k, a in enumerate(target._schema.arguments) if a.alias_info is not None and a.alias_info.is_write]
    name, _, overload = str(target).removeprefix("aten.").partition(".")
    twin = getattr(getattr(torch.ops.aten, name.removesuffix("_"), None), overload, None)
    source = node.args[0] if node.args else None
    if written != [0] or twin is None or not name.endswith("_") or not isinstance(source, torch.fx.Node):
        return target
    if (
        len({n.meta["val"].dtype for n in (node, *node.all_input_nodes) if isinstance(n.meta.get("val"), torch.Tensor)})
        > 1
    ):
        return target  # the result would be of another type
    made = source.op == "call_function" and str(_pure(source)) in _FRESH | _POINTWISE
    alone = all(u is node or (u < node and str(_pure(u)) in _FRESH | _POINTWISE) for u in source.users)
    return twin if made and alone else target


# ---- the walk
class _Importer:
    def __init__(self, program: ExportedProgram, name: str) -> None:
        self.program = program
        self.b = Builder(name)
        self.env: dict[torch.fx.Node, Any] = {}
        self.params: dict[torch.fx.Node, tuple[str, torch.Tensor]] = {}
        self.known: dict[torch.fx.Node, Any] = {}  # what evaluate found, also where the graph computes it again

    def run(self) -> Graph:
        specs = {s.arg.name: s for s in self.program.graph_signature.input_specs if hasattr(s.arg, "name")}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.placeholder(node, specs.get(node.name))
            elif node.op == "call_function":
                self.call(node)
            elif node.op == "output":
                return self.output(node)
            else:
                self.b.reject(f"{node.op} {node.target}")
        raise ModelError("the exported program has no output node")

    def placeholder(self, node: torch.fx.Node, spec: Any) -> None:
        if spec is not None and spec.kind in _PARAMS:
            name = spec.target
            store: Any = self.program.state_dict if name in self.program.state_dict else self.program.constants
            self.params[node] = (name, store[name])
            return
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            self.env[node] = value
            return
        try:
            self.env[node] = self.b.graph.add_input(self.type_of(value, f"input {node.name}"), node.name)
        except NotSupportedError as e:
            raise ModelError(str(e)) from None

    def type_of(self, fake: torch.Tensor, what: str) -> TensorType:
        if any(not isinstance(d, int) for d in fake.shape):
            raise ModelError(f"{what} has the dynamic shape {tuple(fake.shape)}; export with fixed shapes")
        return TensorType(tuple(fake.shape), need_dtype(fake.dtype, what))

    def value(self, node: torch.fx.Node) -> Any:
        if node in self.params and node not in self.env:
            name, tensor = self.params[node]
            need_dtype(tensor.dtype, f"parameter {name}")
            self.env[node] = self.b.const(tensor.detach().cpu().numpy(), name)
        return self.env[node]

    def resolve(self, arg: Any) -> Any:
        if isinstance(arg, torch.fx.Node):
            value = self.value(arg)
            if isinstance(value, Absent):
                raise NotSupportedError(value.why)
            return value
        if isinstance(arg, (list, tuple)):
            return [self.resolve(a) for a in arg]
        return arg

    def call(self, node: torch.fx.Node) -> None:
        b, target = self.b, _pure(node)
        b.loc = _module_path(node)
        fake = node.meta.get("val")
        if target is operator.getitem:
            source, index = node.args
            assert isinstance(source, torch.fx.Node) and isinstance(index, int)
            self.env[node] = self.env[source][index]
            if source in self.known:
                self.known[node] = self.known[source][index]
            return
        try:
            b.expected = self.type_of(fake, node.name) if isinstance(fake, torch.Tensor) else None
            handler = HANDLERS.get(str(target))
            name, size = self.evaluate(node)
            constant = node in self.known
            # A handled operation that would grow its operands is left to run.
            if constant and (handler is None or _size(self.known[node]) <= max(_FOLD, size)):
                self.env[node] = self.constants(self.known[node], name)
                return
            if handler is None:
                raise NotSupportedError("")
            try:
                result = handler(b, *self.resolve(node.args), **{k: self.resolve(v) for k, v in node.kwargs.items()})
                self.env[node] = _checked(result, fake, self.type_of, node.name)
            except (NotSupportedError, IRError):
                if not constant:
                    raise
                self.env[node] = self.constants(self.known[node], name)
        except ModelError:
            raise
        except (NotSupportedError, IRError) as e:
            b.reject(str(target), str(e))
            self.env[node] = self.phantoms(fake)
        except Exception as e:  # settings that the handler was not made for
            b.reject(str(target), f"{type(e).__name__}: {e}")
            self.env[node] = self.phantoms(fake)

    def phantoms(self, fake: Any) -> Any:
        if isinstance(fake, (list, tuple)):
            return [self.phantoms(f) for f in fake]
        if not isinstance(fake, torch.Tensor):
            return fake
        dtype = str(fake.dtype).removeprefix("torch.")
        known = dtype in ("float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
        return self.b.phantom(TensorType(tuple(fake.shape), DType.of(dtype) if known else DType.F32))

    def evaluate(self, node: torch.fx.Node) -> tuple[str, int]:
        """Puts into ``known`` what an operation gives that depends on no input of the model: aten.arange, masks and
        tables built in forward, weights computed from other weights. Returns a name for it, and how many elements the
        constants have that it is made of."""
        target = _pure(node)
        if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded in target.tags:
            return "", 0
        sources = [self._constant(n) for n in node.all_input_nodes]
        found = [c for c in sources if c is not None]
        if len(found) < len(sources):
            return "", 0
        tensors = dict(zip(node.all_input_nodes, (t for _, t, _ in found), strict=True))
        args = torch.fx.map_arg(node.args, lambda n: tensors[n])
        kwargs = torch.fx.map_arg(node.kwargs, lambda n: tensors[n])
        with torch.no_grad():
            self.known[node] = target(*args, **kwargs)
        return found[0][0] if len(found) == 1 else node.name, sum(size for _, _, size in found)

    def _constant(self, node: torch.fx.Node) -> tuple[str, Any, int] | None:
        """Name, value, and the number of elements that the graph keeps for it."""
        if node in self.params:
            name, tensor = self.params[node]
            return name, tensor, tensor.numel()
        value = self.env[node]
        array = const_array(value) if isinstance(value, Value) else None
        if node in self.known:
            return getattr(value, "name", ""), self.known[node], 0 if array is None else array.size
        return None if array is None else (value.name, torch.from_numpy(array.copy()), array.size)

    def constants(self, result: Any, name: str) -> Any:
        if isinstance(result, (list, tuple)):
            return [self.constants(r, name) for r in result]
        if not isinstance(result, torch.Tensor):
            return result
        need_dtype(result.dtype, name)
        return self.b.const(result.detach().cpu().numpy(), name)

    def output(self, node: torch.fx.Node) -> Graph:
        b = self.b
        b.loc = ""
        results: list[Any] = []
        returned = node.args[0]
        assert isinstance(returned, (list, tuple))
        for spec, arg in zip(self.program.graph_signature.output_specs, returned, strict=True):
            if spec.kind is OutputKind.BUFFER_MUTATION:
                b.reject(f"write to buffer {spec.target}", "a model may not change its own state in forward")
            elif spec.kind is OutputKind.USER_OUTPUT:
                value = self.value(arg) if isinstance(arg, torch.fx.Node) else arg
                if isinstance(value, Absent):
                    b.reject("output", value.why)
                else:
                    results.append(value)
        if b.rejected:
            return b.finish([], "")
        leaves: list[Value] = []
        try:
            structure = _unflatten(results, self.program.call_spec.out_spec)
            encoded = tree.flatten(structure, leaves, Value)
        except IRError as e:
            raise ModelError(str(e)) from None
        if not leaves:
            raise ModelError("the model returns no tensor")
        return b.finish(leaves, encoded)


def _size(result: Any) -> int:
    return sum(t.numel() for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor))


def _checked(result: Any, fake: Any, type_of: Callable[[torch.Tensor, str], TensorType], name: str) -> Any:
    """The handler's result; NotSupportedError when it is not what PyTorch says the operation returns."""
    if isinstance(fake, (list, tuple)):
        return [_checked(r, f, type_of, name) for r, f in zip(result, fake, strict=True)]
    if isinstance(result, Value) and isinstance(fake, torch.Tensor):
        want = type_of(fake, name)
        if result.type.logical() != want:
            raise NotSupportedError(
                f"would give {result.type.dtype.value}{list(result.type.shape)}, "
                f"PyTorch gives {want.dtype.value}{list(want.shape)}"
            )
    return result


def _unflatten(results: Sequence[Any], spec: Any) -> Any:
    """Containers of the model's outputs; classes registered with pytree as mappings (Hugging Face's) become dicts."""
    items = list(results)

    def go(s: Any) -> Any:
        if s.is_leaf():
            return items.pop(0)
        children = [go(c) for c in s.children()]
        if s.type in (tuple, list):
            return s.type(children)
        if s.type is namedtuple:
            return s.context(*children)
        if isinstance(s.type, type) and issubclass(s.type, Mapping):
            keys = s.context[-1] if issubclass(s.type, defaultdict) else s.context
            return dict(zip(keys, children, strict=True))
        raise ModelError(f"the model returns a {s.type.__name__}; return tensors in tuples, lists and dicts")

    return go(spec)


def _module_path(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = list(stack.values())[-1][0]
    return re.sub(r"\.slice\(.*?\)|\._modules\['(\w+)'\]", r".\1", path).removeprefix("L['self'].").strip(".")
