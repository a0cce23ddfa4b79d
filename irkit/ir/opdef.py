"""The function is the op: its signature gives operands and attributes, its docstring the documentation, its body the
meaning on NumPy arrays. Verifier, text form, interpreter, folding and conformance tests derive from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.errors import IRError
from irkit.ir.types import TensorType

InferResult = TensorType | tuple[TensorType, ...]
Infer = Callable[..., InferResult]


@dataclass(frozen=True)
class Case:
    """A small sample of an op: operand arrays (None where absent; QArray where quantized) and attributes."""

    operands: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Param:
    """One operand of an op."""

    name: str
    optional: bool = False
    variadic: bool = False


@dataclass(frozen=True, eq=False)
class OpDef:
    """An op: identity-equal; made by :func:`op`, found by name in :data:`REGISTRY`."""

    name: str
    fn: Callable[..., Any]
    infer: Infer
    operands: tuple[Param, ...]
    attrs: Mapping[str, Any]  # name -> default, or REQUIRED
    tags: frozenset[str]
    cases: Callable[[], Iterable[Case]]
    has_body: bool

    @property
    def doc(self) -> str:
        """The op's documentation."""
        return inspect.getdoc(self.fn) or ""

    @property
    def variadic(self) -> bool:
        """True when the last operand repeats."""
        return bool(self.operands) and self.operands[-1].variadic

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()
REGISTRY: dict[str, OpDef] = {}


def _no_cases() -> Iterable[Case]:
    return ()


def op(
    *, infer: Infer, tags: str = "", cases: Callable[[], Iterable[Case]] = _no_cases, name: str | None = None
) -> Callable[[Callable[..., Any]], OpDef]:
    """Register the decorated function as an op.

    Positional parameters are operands (default None: optional; ``*xs``: variadic), keyword-only ones attributes. A
    keyword-only parameter called ``body`` means that the op carries a region. ``infer`` gets the operands' types
    (None where absent) and the attributes and returns the result types.

    Tags in use: ``anchor`` (conv/linear, fusion grows from it), ``elementwise`` (result element depends on the
    operands' elements at the broadcast position only), ``unary``, ``view`` (moves no data in the right storage order),
    ``same_scale`` (commutes with quantization: result may carry the operand's quant), ``int8`` (quantized op).
    """

    def wrap(fn: Callable[..., Any]) -> OpDef:
        opname = name or fn.__name__
        params: list[Param] = []
        attrs: dict[str, Any] = {}
        has_body = False
        for p in inspect.signature(fn).parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                params.append(Param(p.name, variadic=True))
            elif p.kind is p.KEYWORD_ONLY:
                if p.name == "body":
                    has_body = True
                else:
                    attrs[p.name] = REQUIRED if p.default is p.empty else p.default
            else:
                if p.default not in (p.empty, None):
                    raise IRError(f"op {opname}: operand {p.name} may only default to None")
                params.append(Param(p.name, optional=p.default is None))
        if not inspect.getdoc(fn):
            raise IRError(f"op {opname} has no docstring")
        if opname in REGISTRY:
            raise IRError(f"op {opname} is defined twice")
        d = OpDef(opname, fn, infer, tuple(params), attrs, frozenset(tags.split()), cases, has_body)
        REGISTRY[opname] = d
        return d

    return wrap


def lookup(name: str) -> OpDef:
    """The op of that name; IRError when there is none."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise IRError(f"unknown op {name!r}") from None
