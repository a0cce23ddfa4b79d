"""The tables of handlers for Keras layers and keras.ops operations, and what a handler may ask of the importer.

A handler gets the importer, the layer or operation, and the call's arguments with tensors as Values; it returns a
Value or a nested structure of Values. A layer without a handler is looked into: its ``call`` is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from irkit.frontends.builder import Builder
from irkit.ir.graph import Value
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)
LAYERS: dict[str, Handler] = {}
OPERATIONS: dict[str, Handler] = {}


class Importer(Protocol):
    """What handlers use."""

    b: Builder

    def value(self, x: Any, like: Value | None = None) -> Value:
        """A Value of a Value, variable, array or number (in the dtype of ``like`` when it is a Python number)."""

    def weight(self, variable: Any, form: Callable[[Array], Array] | None = None) -> Value:
        """A layer's variable as a constant, under its path; ``form`` puts it into the layout of irkit's op."""

    def activate(self, fn: Any, x: Value) -> Value:
        """The layer's activation (a function, a layer or None) of ``x``."""

    def elementwise(self, opdef: OpDef, *xs: Value, **attrs: Any) -> Value:
        """Emit an element-wise op, in front of a permute that all operands went through."""


def layer(*names: str) -> Callable[[H], H]:
    """Register the decorated function for these classes of ``keras.layers``."""
    return _register(LAYERS, names)


def operation(*names: str) -> Callable[[H], H]:
    """Register the decorated function for these classes of operations behind ``keras.ops``, e.g. ``"Relu"``."""
    return _register(OPERATIONS, names)


def _register(table: dict[str, Handler], names: Sequence[str]) -> Callable[[H], H]:
    def wrap(fn: H) -> H:
        for n in names:
            if n in table:
                raise ValueError(f"{n} has two handlers")
            table[n] = fn
        return fn

    return wrap
