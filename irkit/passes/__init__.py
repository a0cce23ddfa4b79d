"""The passes. Importing this package registers all of them."""

from irkit.passes import canonicalize, cse, dce, fold_bn, fold_constants, fuse, layout, prune, sparsify

__all__ = ["canonicalize", "cse", "dce", "fold_bn", "fold_constants", "fuse", "layout", "prune", "sparsify"]
