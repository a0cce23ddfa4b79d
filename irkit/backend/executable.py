"""A compiled model: the plan bound to the native runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irkit.backend.table import FALLBACK, Plan
from irkit.errors import FallbackError, InputError, RuntimeFailure
from irkit.ir.tree import rebuild
from irkit.ir.types import Array, TensorType

if TYPE_CHECKING:
    from irkit.ir.graph import Graph
    from irkit.target import Target


def default_threads() -> int:
    """``IRKIT_THREADS``, else the number of cores this process may use; InputError when it isn't a thread count."""
    from irkit import _native

    return _native.default_threads()


def check_threads(threads: Any, what: str = "threads") -> int:
    """A thread count as int; InputError when it isn't one."""
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 256:
        raise InputError(f"{what}: expected an integer from 1 to 256, got {threads!r}")
    return threads


@dataclass(frozen=True)
class Signature:
    """What goes in and comes out: names and logical types, and how outputs nest (see irkit.ir.tree)."""

    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[tuple[str, TensorType], ...]
    tree: str = ""

    @staticmethod
    def of(graph: Graph) -> Signature:
        """The signature of a graph."""
        ins = tuple((v.name, v.type.logical()) for v in graph.inputs)
        outs = tuple((v.name, v.type.logical()) for v in graph.outputs)
        return Signature(ins, outs, str(graph.terminator.attrs["tree"]))


class CompiledModel:
    """A model ready to run; made by :func:`irkit.compile` and :func:`irkit.load`.

    Calls may come from several threads at once and never change the inputs; every call returns new arrays.
    """

    def __init__(
        self,
        native: Any,
        plan: Callable[[], Plan],
        graph: Callable[[], Graph],
        signature: Signature,
        target: Target | None = None,
    ) -> None:
        self._native = native
        self._make_graph = graph
        self._graph: Graph | None = None
        self._make_plan = plan
        self._plan: Plan | None = None
        self.signature = signature
        self.target = target
        native.set_output_shapes([t.shape for _, t in signature.outputs])
        self._try_run = native.try_run
        self._bare = not signature.tree and len(signature.outputs) == 1

    @property
    def graph(self) -> Graph:
        """The optimized graph that runs; of a loaded artifact, parsed from its text on first use."""
        if self._graph is None:
            self._graph = self._make_graph()
        return self._graph

    @property
    def plan(self) -> Plan:
        """What runs where, in what, at what cost, and why; ``print`` it."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    @property
    def threads(self) -> int:
        """Threads a call may use. Never changes a bit of the results."""
        return int(self._native.threads)

    @property
    def isa(self) -> str:
        """The instruction set level that kernels were chosen for: the CPU's best, or what ``IRKIT_ISA`` caps it to."""
        return str(self._native.isa)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the model.

        Inputs are NumPy arrays (or what converts without a copy: torch and Keras tensors) of exactly the compiled
        shape and dtype, in the model's order or by name (``signature.inputs`` has the names). Returns an array, tuple,
        list or dict as the model does. InputError names what doesn't fit.
        """
        if named:
            inputs = self._in_order(inputs, named)
        outputs = self._try_run(*inputs)
        if outputs is None:  # something does not fit exactly: convert it, or say what is wrong
            outputs = self.run_flat(inputs)
        return outputs[0] if self._bare else rebuild(self.signature.tree, outputs)

    def _in_order(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Inputs given by name put behind the others."""
        names = [n for n, _ in self.signature.inputs]
        rest = names[len(inputs) :]
        for name in named:
            if name not in rest:
                why = "is given twice" if name in names else "is none of the model's inputs"
                raise InputError(f"input {name} {why} ({', '.join(names)})")
        missing = [n for n in rest if n not in named]
        if missing:
            raise InputError(f"expected {len(names)} input(s) ({', '.join(names)}), {', '.join(missing)} missing")
        return (*inputs, *(named[n] for n in rest))

    def run_flat(self, inputs: Sequence[Any]) -> list[Array]:
        """Like a call, but takes the inputs as one sequence and returns the outputs as a flat list."""
        return list(self._native.run(self.check(inputs)))

    def check(self, inputs: Sequence[Any]) -> list[Array]:
        """The inputs of a call as arrays of exactly the compiled types; InputError names what doesn't fit."""
        if len(inputs) != len(self.signature.inputs):
            names = ", ".join(n for n, _ in self.signature.inputs)
            raise InputError(f"expected {len(self.signature.inputs)} input(s) ({names}), got {len(inputs)}")
        return [as_input(x, name, t) for x, (name, t) in zip(inputs, self.signature.inputs, strict=True)]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the artifact: one file, atomically (the old file or the new one, never half). Returns the path."""
        from irkit.backend.artifact import save

        return save(self, path)

    def export(
        self,
        folder: str | os.PathLike[str],
        inputs: Sequence[Any] | None = None,
        *,
        toolchain: str | os.PathLike[str] | None = None,
        force: bool = False,
    ) -> Path:
        """Write a C project: artifact, runtime sources, C99 example, CMakeLists.txt, sample inputs and outputs, README.

        It builds with one command, natively and for 64-bit Arm, and gives this model's bits. All or nothing is written.
        inputs: the sample, as for a call; made up by default. toolchain: a CMake toolchain file to copy in.
        force: replace an earlier export; no other folder that holds anything is ever touched.
        Raises DeployError; FallbackError when a step has no native kernel; InputError. Returns the folder.
        """
        from irkit.backend.artifact import export

        return export(self, folder, inputs, toolchain, force)

    def profile(self, *inputs: Any, repeats: int = 10) -> list[dict[str, Any]]:
        """Cost of each step, in order, over ``repeats`` calls with these inputs.

        Keys: layer, op, kernel (names); ns and median_ns (least and median of the calls' nanoseconds, whole numbers);
        macs (multiply-accumulates of the dense operation) and bytes (of all operands), as in the plan. The steps of one
        call add up to a little less than the call: what is between them is the runtime's own. InputError as in a call,
        and when ``repeats`` is less than 1.
        """
        if repeats < 1:
            raise InputError(f"repeats: expected 1 or more, got {repeats}")
        arrays = self.check(inputs)
        ns = np.array([[row[3] for row in self._native.profile(arrays, 1)] for _ in range(repeats)], np.int64)
        least, median = ns.min(axis=0), np.median(ns, axis=0)
        return [
            {
                "layer": r.layer, "op": r.op, "kernel": k, "ns": int(least[i]), "median_ns": int(median[i]),
                "macs": r.macs, "bytes": r.bytes,
            }
            for i, (r, k) in enumerate(zip(self.plan.rows, self._native.kernels, strict=True))
        ]  # fmt: skip

    def __repr__(self) -> str:
        ins = ", ".join(f"{n}: {t.dtype.value}{list(t.shape)}" for n, t in self.signature.inputs)
        return (
            f"<irkit.CompiledModel {self.target or ''} ({ins}) {len(self.plan.rows)} steps, {self.threads} thread(s)>"
        )


def as_input(x: Any, name: str, want: TensorType) -> Array:
    """``x`` as a C-contiguous array of exactly that type; InputError naming input, expected and got."""
    a: Array = x if isinstance(x, np.ndarray) else _to_numpy(x, name, want)
    if a.dtype != want.dtype.numpy or not a.dtype.isnative:
        raise InputError(f"input {name!r}: expected dtype {want.dtype.value}, got {a.dtype}")
    if a.shape != want.shape:
        raise InputError(f"input {name!r}: expected shape {want.shape}, got {a.shape}")
    if a.flags.c_contiguous and a.flags.aligned:
        return a
    return np.array(a, order="C", copy=True)


def _to_numpy(x: Any, name: str, want: TensorType) -> Array:
    """A tensor of another library as an array; lists, None and the like are refused, not converted."""
    expected = f"input {name!r}: expected an array {want.dtype.value}{list(want.shape)}"
    module = type(x).__module__.split(".")[0]
    try:
        if hasattr(x, "detach"):
            if x.device.type != "cpu":
                raise InputError(f"{expected}, got a tensor on device {x.device}; move it to the CPU first")
            return np.asarray(x.detach().numpy())
        if hasattr(x, "__dlpack__") or (hasattr(x, "__array__") and module in ("keras", "tensorflow", "jax", "jaxlib")):
            return np.asarray(x)
    except InputError:
        raise
    except Exception as e:
        raise InputError(f"{expected}, got {type(x).__name__} that does not convert: {e}") from None
    raise InputError(f"{expected}, got {type(x).__name__}")


def instantiate(
    graph: Graph,
    plan: Plan,
    *,
    threads: int | None = None,
    isa: str | None = None,
    strict: bool = False,
    target: Target | None = None,
) -> CompiledModel:
    """Bind a plan to the native runtime. FallbackError when ``strict`` and a step has no native kernel."""
    from irkit import _native
    from irkit.backend import numba_fused
    from irkit.backend.choices import kept, remembered

    if strict and plan.fallbacks:
        raise FallbackError(fallback_message(plan))
    count = default_threads() if threads is None else check_threads(threads)
    choose, chosen = remembered(kept(isa, count))
    native = _native.load_plan(plan.to_json(), plan.consts, isa, count, choose)
    attach_fallbacks(native, lambda: graph, plan)
    if isa is None:
        numba_fused.attach(native, plan.document)
    name_kernels(native, plan, chosen)
    return CompiledModel(native, lambda: plan, lambda: graph, Signature.of(graph), target)


def fallback_message(plan: Plan, why: str = "strict=True") -> str:
    """The list of steps without a native kernel, and why that is refused."""
    rows = "\n".join(f"  {r.op} in {r.layer or 'the top-level module'}" for r in plan.fallbacks)
    return f"{why}, but {len(plan.fallbacks)} step(s) have no native kernel and would run in NumPy:\n{rows}"


def attach_fallbacks(native: Any, graph: Callable[[], Graph], plan: Plan) -> None:
    """Give each fallback step its NumPy reference to call."""
    steps: Sequence[dict[str, Any]] = plan.document["steps"]
    if not any(s["family"] == FALLBACK for s in steps):
        return
    from irkit.backend.numpy_fallback import reference_callback

    ops = graph().ops
    for i, s in enumerate(steps):
        if s["family"] != FALLBACK:
            continue
        index = s["attrs"].get("op_index", -1)
        if not isinstance(index, int) or not 0 <= index < len(ops) or ops[index].name != s["attrs"].get("op"):
            raise RuntimeFailure(
                f"step {i} ({s['name']}): fallback refers to operation {index}, which is not {s['attrs'].get('op')!r}"
            )
        native.set_callback(i, reference_callback(ops[index]))


def name_kernels(native: Any, plan: Plan, chosen: Sequence[tuple[str, int]] = ()) -> None:
    """Fill the columns of the plan that the runtime decides on this CPU: kernels, and threads of each step; ``chosen``:
    what of that was chosen by measurement (see irkit/backend/choices.py), empty for nothing."""
    measured = [n > 0 for _, n in chosen] or [False] * len(plan.rows)
    rows = zip(plan.rows, native.kernels, native.step_threads, measured, strict=True)
    plan.rows = [replace(r, kernel=k or r.kernel, threads=n, measured=m) for r, k, n, m in rows]
