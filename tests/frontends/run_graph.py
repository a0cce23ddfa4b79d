"""Running a graph on NumPy and judging the result by the framework's own rounding errors."""

import numpy as np

from irkit.ir import tree
from irkit.ir.interp import run


def evaluate(graph, *inputs):
    """The nested outputs of ``graph``, by the interpreter."""
    return tree.rebuild(graph.terminator.attrs["tree"], run(graph, *inputs))


def leaves(x):
    """Arrays of a nested structure, in order."""
    if isinstance(x, dict):
        return [a for v in x.values() for a in leaves(v)]
    if isinstance(x, (list, tuple)):
        return [a for v in x for a in leaves(v)]
    return [] if x is None else [np.asarray(x.detach() if hasattr(x, "detach") else x)]


def assert_as_good(ours, framework, exact):
    """``ours`` is as near to the float64 result ``exact`` as the framework's float32 result is: at most 4 times its
    largest error plus 16 units of float32 rounding at the tensor's scale. Integers and booleans must be equal."""
    a, b, c = leaves(ours), leaves(framework), leaves(exact)
    assert len(a) == len(b) == len(c)
    for x, y, z in zip(a, b, c, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype, f"{x.dtype}{x.shape} instead of {y.dtype}{y.shape}"
        if x.dtype.kind != "f":
            np.testing.assert_array_equal(x, y)
            continue
        finite = np.isfinite(z)
        np.testing.assert_array_equal(x[~finite], y[~finite])
        if not finite.any():
            continue
        x, y, z = x[finite].astype(np.float64), y[finite].astype(np.float64), z[finite].astype(np.float64)
        bound = 4 * np.abs(y - z).max() + 16 * np.finfo(np.float32).eps * np.abs(z).max()
        worst = np.abs(x - z).max()
        assert worst <= bound, f"error {worst:.3g}, allowed {bound:.3g}"
