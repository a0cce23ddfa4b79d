"""The op set: one function an op, grouped by family. Importing this package registers all of them."""

from irkit.ops.core import cast, const, copy, fused, relayout, return_

__all__ = ["cast", "const", "copy", "fused", "relayout", "return_"]
