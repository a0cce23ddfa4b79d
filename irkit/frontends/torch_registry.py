"""The table of handlers for PyTorch operations. A handler gets the builder and the operation's arguments, tensors as
Values, and returns a Value (or a sequence of them for operations with several results)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)
HANDLERS: dict[str, Handler] = {}


@dataclass(frozen=True)
class Absent:
    """Stands for a result that irkit does not compute; reported only when the model uses it."""

    why: str


def handles(*targets: str) -> Callable[[H], H]:
    """Register the decorated function for these operations, e.g. ``@handles("aten.relu.default")``."""

    def wrap(fn: H) -> H:
        for t in targets:
            if t in HANDLERS:
                raise ValueError(f"{t} has two handlers")
            HANDLERS[t] = fn
        return fn

    return wrap
