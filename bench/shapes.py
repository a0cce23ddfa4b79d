"""Shapes that real networks give the kernels: recorded from compiled networks in shapes.json, made into data again.

A shape is one step of a plan without its data: family, attributes, operands (dtype, storage shape, constant or not,
quantization), and the kernel table's row ("conv.f32") that runs it. Recorded are the networks of bench/zoo.py in fp32
and int8, and parts of others for what those lack: the blocks of MobileNetV3 and of ViT-Tiny at their sizes, decoders
of segmentation networks, label maps. `python -m bench.kernels record [NETWORK ...]` makes the file again, all of it or
what these networks give.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from irkit.errors import BenchError
from irkit.ir.types import Array, DType

FILE = Path(__file__).with_name("shapes.json")
LABELS = ("i16", "i32", "i64")
EXTREME = "qconv.s8s8any"
VALIDATED = ("qsoftmax", "resize")  # families whose integer constants (tables, indices) are kept as they are
MOST = 64  # shapes of one row: the heaviest, and some of the lightest


@dataclass
class Shape:
    """One step without data. ``inputs``: null where an operand is absent."""

    row: str
    family: str
    attrs: dict[str, Any]
    inputs: list[dict[str, Any] | None]
    outputs: list[dict[str, Any]]
    macs: int
    nets: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of all operands."""
        return sum(_nbytes(t) for t in (*self.inputs, *self.outputs) if t)

    @property
    def title(self) -> str:
        """The operands' shapes that tell it apart: input x first constant of rank 2 or more -> output."""
        first = next((t for t in self.inputs if t), None)
        weights = next((t for t in self.inputs[1:] if t and t["const"] and len(t["shape"]) > 1), None)
        parts = ["x".join(map(str, t["shape"])) for t in (first, weights) if t]
        return f"{' * '.join(parts)} -> {'x'.join(map(str, self.outputs[0]['shape']))}"


def load(path: Path = FILE) -> list[Shape]:
    """The recorded shapes."""
    return [Shape(**s) for s in json.loads(path.read_text())]


def save(shapes: Iterable[Shape], path: Path = FILE) -> None:
    """Write them, one a line."""
    lines = [json.dumps(asdict(s), separators=(",", ":"), allow_nan=False) for s in shapes]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


# ---- recording
def shapes_of(exe: Any, net: str) -> Iterator[Shape]:
    """The steps of a compiled model that a row of the kernel table runs on its own."""
    document = exe.plan.document
    for row, step, plan_row in zip(exe._native.steps(), document["steps"], exe.plan.rows, strict=True):
        if row["row"] is None:
            continue
        tensors = [None if t < 0 else _tensor(document["tensors"][t]) for t in (*step["in"], *step["out"])]
        for t, i in zip(tensors, step["in"], strict=False):
            if t and t["const"] and t["dtype"] == "i32" and step["family"] in VALIDATED:
                t["data"] = exe.plan.consts[document["tensors"][i]["loc"][1]].ravel().tolist()
        n = len(step["in"])
        outputs = [t for t in tensors[n:] if t is not None]
        name = ".".join(row["row"][:2])
        yield Shape(name, step["family"], step["attrs"], tensors[:n], outputs, plan_row.macs, [net])


def _tensor(t: dict[str, Any]) -> dict[str, Any]:
    quant = {k: t[k] for k in ("scale", "zero") if k in t}
    return {"dtype": t["dtype"], "shape": list(t["shape"]), "const": t["loc"][0] == "const", **quant}


def _nbytes(t: dict[str, Any]) -> int:
    return math.prod(t["shape"]) * np.dtype(DType(t["dtype"]).numpy).itemsize


def unique(shapes: Iterable[Shape], most: int = MOST) -> list[Shape]:
    """Those that differ, by row; of a row with more than ``most``, the heaviest three quarters and the lightest."""
    found: dict[str, Shape] = {}
    for s in shapes:
        key = json.dumps([s.row, s.family, _sizes(s.attrs), [t and t["shape"] for t in (*s.inputs, *s.outputs)]])
        kept = found.setdefault(key, s)
        kept.nets = sorted({*kept.nets, *s.nets})
    by_row: dict[str, list[Shape]] = {}
    for s in found.values():
        by_row.setdefault(s.row, []).append(s)
    out = []
    for row in sorted(by_row):
        mine = sorted(by_row[row], key=lambda s: (-s.macs, -s.bytes, s.title))
        light = most // 4
        out += mine if len(mine) <= most else [*mine[: most - light], *mine[-light:]]
    return out


def _sizes(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes without numbers that only data decides (scales, limits)."""
    return {k: v for k, v in attrs.items() if not isinstance(v, float)}


def networks() -> dict[str, Callable[[str], Any]]:
    """Makers of compiled models, by network; each takes a precision, or one of ``LABELS`` for label maps."""
    from bench import zoo

    found: dict[str, Callable[[str], Any]] = {n: partial(_of_zoo, n) for n in zoo.NETS}
    found |= {name: partial(_compiled, net, shape) for name, net, shape in parts()}
    return found | {"label_map": _label_map}


def record(names: Sequence[str] = ()) -> list[Shape]:
    """The shapes of all networks, compiled now; or of some, together with those that the file has of others."""
    from bench import zoo

    makers = networks()
    if unknown := set(names) - set(makers):
        raise BenchError(f"unknown network {', '.join(sorted(unknown))}; known: {', '.join(makers)}")
    found = [s for s in load() if s.row != EXTREME] if names else []
    for s in found:
        s.nets = [n for n in s.nets if n.rpartition(".")[0] not in names]
    found = [s for s in found if s.nets]
    for name in names or makers:
        for kind in LABELS if name == "label_map" else zoo.PRECISIONS:
            found += shapes_of(makers[name](kind), f"{name}.{kind}")
    return [*unique(found), extreme(found)]


def _of_zoo(name: str, precision: str) -> Any:
    from bench import zoo

    return zoo.compiled(name, f"native-{precision}")


def extreme(found: Sequence[Shape]) -> Shape:
    """A convolution whose weights are all -128: Armv8.0 has a kernel for pairs of those."""
    s = min((s for s in found if s.row == "qconv.s8s8" and s.macs > 1e6), key=lambda s: (s.macs, s.title))
    inputs = [t and {**t, **({"fill": -128} if t["const"] and t["dtype"] == "i8" else {})} for t in s.inputs]
    return replace(s, row=EXTREME, inputs=inputs)


def _compiled(net: Any, shape: tuple[int, ...], precision: str) -> Any:
    import torch

    import irkit

    gen = torch.Generator().manual_seed(7)
    samples = [torch.randn(shape, generator=gen) for _ in range(8)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "calibration saw")
        calibration = samples if precision == "int8" else None
        return irkit.compile(net, samples[0], target=f"native-{precision}", calibration=calibration)


def _label_map(dtype: str) -> Any:
    """Class numbers of a 512 x 512 picture: scaled up, turned, joined, counted, and turned to floats."""
    import irkit

    text = f"""func @main(%x: {dtype}[1,1,128,128], %y: {dtype}[1,512,512,1]) {{
  %big = resize2d(%x) {{size=[512,512], mode="nearest"}} : {dtype}[1,1,512,512]
  %last = permute(%big) {{perm=[0,2,3,1]}} : {dtype}[1,512,512,1]
  %both = concat(%last, %y) {{axis=3}} : {dtype}[1,512,512,2]
  %first = permute(%both) {{perm=[0,3,1,2]}} : {dtype}[1,2,512,512]
  %most = reduce_max(%first) {{axes=[2,3]}} : {dtype}[1,2]
  %real = cast(%first) {{dtype="f32"}} : f32[1,2,512,512]
  return(%most, %real)
}}"""
    return irkit.compile(irkit.parse(text))


def parts() -> list[tuple[str, Any, tuple[int, ...]]]:
    """(name, module, input shape) of parts of networks that bench/zoo.py lacks."""
    import torch
    from torch import nn
    from torch.nn import functional

    from tests.zoo import conv_bn, seeded

    class V3(nn.Module):
        """A block of MobileNetV3-Large (Howard et al., 2019, table 1)."""

        def __init__(self, cin: int, mid: int, out: int, k: int, se: bool, act: Any) -> None:
            super().__init__()
            self.expand = conv_bn(cin, mid, 1, act=act)
            self.depth = conv_bn(mid, mid, k, 1, mid, act)
            squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(mid, mid // 4, 1), nn.ReLU(), nn.Conv2d(mid // 4, mid, 1)]
            self.se = nn.Sequential(*squeeze, nn.Hardsigmoid()) if se else None
            self.project = conv_bn(mid, out, 1)

        def forward(self, x: Any) -> Any:
            y = self.depth(self.expand(x))
            y = self.project(y * self.se(y) if self.se is not None else y)
            return x + y if x.shape == y.shape else y

    class Attention(nn.Module):
        """A block of ViT-Tiny (Touvron et al., 2021): width 192, three heads."""

        def __init__(self, width: int = 192, heads: int = 3) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            b, n, d = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            a = torch.softmax(q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5, -1)
            x = x + self.out((a @ v).transpose(1, 2).reshape(b, n, d))
            return x + self.mlp(self.norm2(x))

    class Decoder(nn.Module):
        """What segmentation networks end with: scaled up both ways, joined, averaged, scored."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode, self.act = mode, nn.PReLU(64)
            self.left, self.right = nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, padding=1)
            self.up = nn.ConvTranspose2d(64, 32, 2, 2)
            self.score = nn.Conv2d(96, 21, 1)

        def forward(self, x: Any) -> Any:
            big = functional.interpolate(self.act(self.left(x)), scale_factor=2.0, mode=self.mode)
            big = torch.sigmoid(torch.cat([big, self.up(x)], 1))
            small = functional.avg_pool2d(functional.max_pool2d(big, 2), 2)
            return torch.softmax(self.score(big), 1), functional.leaky_relu(self.right(self.left(x)), 0.1), small

    class Branches(nn.Module):
        """Two branches of other scales, added, joined, averaged and weighed by a softmax, between convolutions."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(48, 48, 1), nn.Conv2d(48, 48, 3, padding=1)
            self.sum, self.both, self.weighed = nn.Conv2d(48, 48, 1), nn.Conv2d(96, 48, 1), nn.Conv2d(48, 48, 1)

        def forward(self, x: Any) -> Any:
            a, b = torch.tanh(self.a(x)), functional.hardswish(self.b(x))
            y = self.sum(functional.avg_pool2d(a + b, 3, 2, 1))
            return y, self.both(torch.cat([a, 20 * b], 1)), self.weighed(torch.softmax(b, 1))

    torch.manual_seed(0)
    v3 = [(40, 120, 40, 5, True, nn.ReLU, 28), (80, 200, 80, 3, False, nn.Hardswish, 14),
          (112, 672, 112, 3, True, nn.Hardswish, 14), (160, 960, 160, 5, True, nn.Hardswish, 7)]  # fmt: skip
    return [
        *((f"mobilenet_v3.{a[0]}x{a[-1]}", seeded(V3(*a[:-1])), (1, a[0], a[-1], a[-1])) for a in v3),
        ("vit_tiny", seeded(Attention()), (1, 197, 192)),
        ("decoder.nearest", seeded(Decoder("nearest")), (1, 64, 32, 32)),
        ("decoder.bilinear", seeded(Decoder("bilinear")), (1, 64, 32, 32)),
        ("branches", Branches().eval(), (1, 48, 28, 28)),
    ]


# ---- data for a shape
def step_model(shape: Shape, isa: str, threads: int) -> tuple[Any, list[Array]]:
    """A native model of that one step with made-up data, and the arrays to call it with."""
    from irkit import _native

    rng = np.random.default_rng(0)
    made = _arrays(shape, rng)
    tensors, inputs, consts, feed, where = [], [], {}, [], []
    for i, (t, a) in enumerate(zip(shape.inputs, made, strict=True)):
        if t is None or a is None:
            where.append(-1)
            continue
        row = {k: v for k, v in t.items() if k in ("scale", "zero")} | {
            "shape": list(a.shape),
            "dtype": DType.of(a.dtype).value,
        }
        if t["const"]:
            consts[f"c{i}"] = a
            row["loc"] = ["const", f"c{i}"]
        else:
            row["loc"] = ["in", len(feed)]
            inputs.append({"name": f"x{i}", "tensor": len(tensors)})
            feed.append(a)
        where.append(len(tensors))
        tensors.append(row)
    outputs = []
    for k, t in enumerate(shape.outputs):
        outputs.append({"name": f"y{k}", "tensor": len(tensors)})
        tensors.append({**{n: v for n, v in t.items() if n != "const"}, "loc": ["out", k]})
    step = {
        "family": shape.family,
        "in": where,
        "out": [o["tensor"] for o in outputs],
        "attrs": shape.attrs,
        "name": "",
    }
    plan = {"version": 1, "inputs": inputs, "outputs": outputs, "tensors": tensors, "arena": 0, "steps": [step]}
    return _native.load_plan(json.dumps(plan), consts, isa=isa, threads=threads), feed


def _arrays(shape: Shape, rng: np.random.Generator) -> list[Array | None]:
    """Data of each operand; sparse weights are made whole, with as many zeros as they had."""
    made: list[Array | None] = [None if t is None else _data(t, rng) for t in shape.inputs]
    if shape.family == "spmm":
        from irkit.sparse.encodings import encode_csr, pack_columns

        x, values, _, rows = shape.inputs[:4]
        assert x is not None and values is not None and rows is not None
        o, k = rows["shape"][0] - 1, x["shape"][-1]
        flat = np.zeros(o * k, np.float32)
        flat[rng.permutation(o * k)[: values["shape"][0]]] = 0.5
        csr = encode_csr(flat.reshape(o, k))
        made[1:4] = [csr.values, pack_columns(csr), csr.rows]
    return made


def _data(t: dict[str, Any], rng: np.random.Generator) -> Array:
    shape, dtype = t["shape"], np.dtype(DType(t["dtype"]).numpy)
    if "data" in t:
        return np.array(t["data"], dtype).reshape(shape)
    if "fill" in t:
        return np.full(shape, t["fill"], dtype)
    if dtype.kind == "f":
        low, high = (1e-3, 1e-2) if t["const"] else (-1, 1)  # constants may be multipliers: positive, small
        return rng.uniform(low, high, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    return (
        rng.integers(-100, 101, shape).astype(dtype) if dtype.kind == "i" else rng.integers(0, 101, shape).astype(dtype)
    )
