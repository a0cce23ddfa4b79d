"""The artifact: one file, a safetensors container that also holds the plan and the text of the graph.

Layout (https://github.com/huggingface/safetensors, "Format"): 8 bytes header length, a JSON header, the tensors one
after the other. Constants stand under their names; ``irkit.plan`` (what the runtime executes), ``irkit.ir`` (the graph
as text, its large constants by name) and ``irkit.info`` (for people and for Python) are byte tensors. The metadata
holds the format version and an XXH64 of the whole file, computed with the sixteen digits of the checksum as zeros.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irkit import _native
from irkit.backend.choices import Choice, Choose, kept, remembered
from irkit.backend.executable import (
    CompiledModel,
    Signature,
    attach_fallbacks,
    check_threads,
    default_threads,
    fallback_message,
    name_kernels,
)
from irkit.backend.table import FALLBACK, Plan, Row
from irkit.errors import ArtifactError, FallbackError, IrkitError
from irkit.ir.types import ROW_MAJOR, Array, DType, Encoding, TensorType
from irkit.target import Target

if TYPE_CHECKING:
    from irkit.ir.graph import Graph

FORMAT_VERSION = "1.0"  # major.minor: a reader refuses a newer major version
ALIGN = 64
RESERVED = ("irkit.plan", "irkit.ir", "irkit.info")
_ZERO_SUM = b"0" * 16
_ST_DTYPE = {
    DType.F32: "F32",
    DType.F64: "F64",
    DType.I8: "I8",
    DType.U8: "U8",
    DType.I16: "I16",
    DType.I32: "I32",
    DType.I64: "I64",
    DType.BOOL: "BOOL",
}


def to_bytes(exe: CompiledModel) -> bytes:
    """The artifact of a compiled model: the same bytes for the same model, always."""
    from irkit.ir.text import print_graph

    sidecar: dict[str, Array] = {}
    ir = print_graph(exe.graph, sidecar)
    types = {op.result.name: op.result.type for op in exe.graph if op.name == "const"}
    tensors = dict(exe.plan.consts)
    stored: dict[str, list[Any]] = {}  # how the text's constants lie in the file: [logical shape, order, sparse]
    for name, array in sidecar.items():
        t = types.get(name)
        if t is not None and t.encoding != ROW_MAJOR:
            stored[name] = [list(t.shape), list(t.order), t.encoding.sparse]
            if t.encoding.sparse:
                continue  # its parts are constants of the plan
            array = t.to_storage(array)
        old = tensors.setdefault(name, array)
        if old.dtype != array.dtype or old.tobytes() != array.tobytes():
            raise ArtifactError(f"two different constants are called {name!r}")
    for name in RESERVED:
        if name in tensors:
            raise ArtifactError(f"constant {name!r} has a reserved name")
    info = json.dumps({**_info(exe), "stored": stored}, sort_keys=True, separators=(",", ":"))
    for name, text in zip(RESERVED, (exe.plan.to_json(), ir, info), strict=True):
        tensors[name] = np.frombuffer(text.encode(), np.uint8)
    blob = _container(tensors)
    return blob.replace(_ZERO_SUM, b"%016x" % _native.xxh64(blob), 1)


def _container(tensors: Mapping[str, Array]) -> bytes:
    """A safetensors file; widest elements first so that every tensor is aligned to its element size."""
    header: dict[str, Any] = {
        "__metadata__": {"irkit.version": FORMAT_VERSION, "irkit.checksum": f"xxh64:{_ZERO_SUM.decode()}"}
    }
    at = 0
    order = sorted(tensors, key=lambda n: (-tensors[n].dtype.itemsize, n))
    for name in order:
        a = tensors[name]
        header[name] = {
            "dtype": _ST_DTYPE[DType.of(a.dtype)],
            "shape": list(a.shape),
            "data_offsets": [at, at + a.nbytes],
        }
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGN)
    return b"".join(
        [len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(tensors[n]).tobytes() for n in order)]
    )


def _info(exe: CompiledModel) -> dict[str, Any]:
    import irkit

    def types(rows: Iterator[tuple[str, TensorType]]) -> list[dict[str, Any]]:
        return [{"name": n, "dtype": t.dtype.value, "shape": list(t.shape)} for n, t in rows]

    sig = exe.signature
    return {
        "irkit": irkit.__version__,
        "target": str(exe.target or ""),
        "inputs": types(iter(sig.inputs)),
        "outputs": types(iter(sig.outputs)),
        "tree": sig.tree,
        "rows": [[r.layer, r.op, r.precision, r.family, r.macs, r.bytes, r.note] for r in exe.plan.rows],
        "notes": [list(n) for n in exe.plan.notes],
    }


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Any]:
    """A file that replaces ``path`` when the block ends well: same folder, fsync, rename, fsync of the folder."""
    import tempfile

    folder = path.parent
    fd, temp = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    try:
        with os.fdopen(fd, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temp, 0o666 & ~mask)
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        raise
    dir_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(dir_fd)
    finally:
        os.close(dir_fd)


def save(exe: CompiledModel, path: str | os.PathLike[str]) -> Path:
    """Write the artifact atomically. ArtifactError, and nothing half-written, when that fails."""
    target = Path(path)
    data = to_bytes(exe)
    try:
        with atomic_write(target) as f:
            f.write(data)
    except OSError as e:
        raise ArtifactError(f"cannot write {target}: {e.strerror or e}") from e
    return target


def families_of(document: Mapping[str, Any]) -> frozenset[str]:
    """The kernel families that a plan needs, those of the stages of its chains included."""
    steps = document["steps"]
    stages = [t for s in steps for t in s["attrs"].get("stages", ())]
    return frozenset(str(s["family"]) for s in (*steps, *stages))


def export(
    exe: CompiledModel,
    folder: str | os.PathLike[str],
    inputs: Sequence[Any] | None = None,
    toolchain: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write a C project; see :meth:`CompiledModel.export`."""
    from irkit.deploy.project import Contents, Port, write_project

    if exe.plan.fallbacks:
        raise FallbackError(fallback_message(exe.plan, "the C runtime has no Python"))
    sig = exe.signature
    sample = [sample_input(t, i) for i, (_, t) in enumerate(sig.inputs)] if inputs is None else exe.check(inputs)
    answers = exe.run_flat(sample)
    contents = Contents(
        artifact=to_bytes(exe),
        families=families_of(exe.plan.document),
        target=str(exe.target or ""),
        inputs=[Port(n, f"{t.dtype.value}{list(t.shape)}", a) for (n, t), a in zip(sig.inputs, sample, strict=True)],
        outputs=[Port(n, f"{t.dtype.value}{list(t.shape)}", a) for (n, t), a in zip(sig.outputs, answers, strict=True)],
        given=inputs is not None,
    )
    return write_project(folder, contents, toolchain, force)


def sample_input(t: TensorType, seed: int) -> Array:
    """An input of that type, always the same: standard normal values, or small integers."""
    rng = np.random.default_rng(seed)
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.shape), t.dtype.numpy)
    return np.asarray(rng.integers(0, 2 if t.dtype == DType.BOOL else 100, t.shape), t.dtype.numpy)


def load(
    path: str | os.PathLike[str], threads: int | None = None, isa: str | None = None, choose: Choose | None = None
) -> CompiledModel:
    """Load an artifact; see :func:`irkit.load`. ``choose``: in place of what is kept of measurements."""
    count = default_threads() if threads is None else check_threads(threads)
    choose, chosen = remembered(choose or kept(isa, count))
    native = _native.load(os.fspath(path), isa, count, choose)
    try:
        exe = _bind(native, chosen)
    except ArtifactError as e:
        raise ArtifactError(f"{os.fspath(path)}: {e}") from None
    return exe


def _bind(native: Any, chosen: list[Choice]) -> CompiledModel:
    """The Python side of a loaded artifact. The runtime has checked the plan; here only what people see is read."""
    try:
        info = json.loads(bytes(native.tensor("irkit.info")))
        listed, notes = list(info["rows"]), list(info["notes"])
        sig = Signature(_types(info["inputs"]), _types(info["outputs"]), str(info["tree"]))
        target = Target.parse(info["target"]) if info["target"] else None
        stored = dict(info["stored"])
    except (KeyError, TypeError, ValueError, IrkitError, RecursionError) as e:
        raise ArtifactError(f"irkit.info is damaged: {type(e).__name__}: {e}") from None
    kernels = native.kernels
    if len(listed) != len(kernels):
        raise ArtifactError(f"irkit.info describes {len(listed)} steps, the plan has {len(kernels)}")
    for what, mine, theirs in (("input", sig.inputs, native.inputs), ("output", sig.outputs, native.outputs)):
        if len(mine) != len(theirs):
            raise ArtifactError(f"irkit.info names {len(mine)} {what}s, the plan {len(theirs)}")
        for (name, t), port in zip(mine, theirs, strict=True):
            p = TensorType(port["shape"], DType(port["dtype"]))
            if p.dtype != t.dtype or p.size != t.size or (what == "input" and p.shape != t.shape):
                mine_is, theirs_is = (f"{v.dtype.value}{list(v.shape)}" for v in (t, p))
                raise ArtifactError(f"irkit.info: {what} {name!r} is {mine_is}, the plan has {theirs_is}")

    def make_plan() -> Plan:
        try:
            rows = [Row(str(a), str(b), str(c), str(d), int(e), int(f), str(g)) for a, b, c, d, e, f, g in listed]
            pairs = [(str(a), str(b)) for a, b in notes]
        except (TypeError, ValueError) as e:
            raise ArtifactError(f"irkit.info is damaged: {type(e).__name__}: {e}") from None
        try:
            document = json.loads(bytes(native.tensor("irkit.plan")))
        except (ValueError, RecursionError) as e:  # what the runtime's reader takes and Python's doesn't
            raise ArtifactError(f"irkit.plan can't be read: {e}") from None
        consts = {n: native.tensor(n) for n in sorted(_constant_names(native))}
        plan = Plan(document, consts, rows, pairs, info["target"])
        name_kernels(native, plan, chosen)
        return plan

    exe = CompiledModel(native, make_plan, lambda: _graph(native, stored), sig, target)
    if FALLBACK in kernels:
        attach_fallbacks(native, lambda: exe.graph, exe.plan)
    return exe


def _types(rows: Any) -> tuple[tuple[str, TensorType], ...]:
    return tuple((str(r["name"]), TensorType(tuple(int(d) for d in r["shape"]), DType(r["dtype"]))) for r in rows)


class _Sidecar(Mapping[str, Array]):
    """The constants that the text names, as logical arrays; a sparse one is put together from its parts."""

    def __init__(self, native: Any, stored: Mapping[str, Any]) -> None:
        self._native = native
        self._stored = dict(stored)
        self._names = _constant_names(native) | set(self._stored)

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._stored:
            return self._native.tensor(name)  # type: ignore[no-any-return]
        shape, order, sparse = self._stored[name]
        if sparse:
            from irkit.sparse.encodings import CSR_PARTS, Csr, decode_csr, unpack_columns

            values, columns, rows = (self._native.tensor(f"{name}.{p}") for p in CSR_PARTS)
            array = decode_csr(Csr(values, unpack_columns(columns, rows), rows, (shape[0], math.prod(shape[1:]))))
        else:
            array = self._native.tensor(name)
        t = TensorType(tuple(shape), DType.of(array.dtype), None, Encoding(tuple(order)))
        return t.from_storage(array)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


def _constant_names(native: Any) -> set[str]:
    return {n for n in native.tensor_names() if n not in RESERVED}


def _graph(native: Any, stored: Mapping[str, Any]) -> Graph:
    """The graph, parsed from its text."""
    import irkit
    from irkit.ir.verify import verify

    try:
        graph = irkit.parse(bytes(native.tensor("irkit.ir")).decode(), _Sidecar(native, stored))
        verify(graph)
    except (IrkitError, KeyError, TypeError, ValueError) as e:
        raise ArtifactError(f"irkit.ir can't be read: {e}") from None
    return graph
