"""Types of the IR: immutable, compared by value, and the only home of shape, dtype, quantization and storage."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from irkit.errors import IRError

Array = npt.NDArray[Any]


class DType(enum.Enum):
    """Element type of a tensor; the value is the name used in the text form."""

    F32 = "f32"
    F64 = "f64"
    I8 = "i8"
    U8 = "u8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of one element."""
        return _TO_NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _TO_NUMPY[self].itemsize

    @property
    def is_float(self) -> bool:
        """True for floating-point types."""
        return self in (DType.F32, DType.F64)

    @staticmethod
    def of(dtype: npt.DTypeLike) -> DType:
        """The DType of a NumPy dtype; IRError when irkit has none for it."""
        try:
            return _FROM_NUMPY[np.dtype(dtype)]
        except (KeyError, TypeError):
            raise IRError(f"no irkit dtype for {dtype!r}; supported: {', '.join(d.value for d in DType)}") from None


_TO_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.F32: np.dtype(np.float32),
    DType.F64: np.dtype(np.float64),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.I16: np.dtype(np.int16),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
}
_FROM_NUMPY = {v: k for k, v in _TO_NUMPY.items()}


@dataclass(frozen=True)
class Quant:
    """Affine quantization: ``real = scale * (q - zero)``.

    ``scale`` and ``zero`` hold one entry (per tensor, ``axis`` is None) or one per index of ``axis``. Scales are
    float32 values stored as Python floats; they are rounded to float32 on construction.
    """

    scale: tuple[float, ...]
    zero: tuple[int, ...] = (0,)
    axis: int | None = None

    def __post_init__(self) -> None:
        scale = tuple(float(np.float32(s)) for s in self.scale)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero", tuple(int(z) for z in self.zero))
        if not scale or len(scale) != len(self.zero):
            raise IRError(f"quant: {len(scale)} scales but {len(self.zero)} zero points")
        if self.axis is None and len(scale) != 1:
            raise IRError(f"quant: {len(scale)} scales need an axis")
        if not all(math.isfinite(s) and s > 0 for s in scale):
            raise IRError("quant: scales must be finite and positive")

    @staticmethod
    def per_tensor(scale: float, zero: int = 0) -> Quant:
        """One scale and zero point for the whole tensor."""
        return Quant((scale,), (zero,))

    def scale_array(self) -> npt.NDArray[np.float32]:
        """Scales, shape [n], float32."""
        return np.asarray(self.scale, np.float32)

    def zero_array(self) -> npt.NDArray[np.int32]:
        """Zero points, shape [n], int32."""
        return np.asarray(self.zero, np.int32)

    def broadcast(self, values: Array, rank: int) -> Array:
        """Reshape [n] ``values`` so that they broadcast along ``axis`` of a rank-``rank`` tensor."""
        if self.axis is None:
            return values.reshape(())
        shape = [1] * rank
        shape[self.axis] = -1
        return values.reshape(shape)


@dataclass(frozen=True)
class Encoding:
    """How a tensor is stored; never changes what it means.

    ``order`` lists logical axes from outermost to innermost in memory (None: row-major); ``sparse`` names a sparse
    storage of a constant (``"csr"``: rows are axis 0, columns the remaining axes flattened in storage order);
    ``winograd`` marks constant 3x3 filters that kernels transform for output tiles of so many rows and columns.
    """

    order: tuple[int, ...] | None = None
    sparse: str | None = None
    winograd: int | None = None

    def __post_init__(self) -> None:
        if self.order is not None and self.order == tuple(range(len(self.order))):
            object.__setattr__(self, "order", None)


ROW_MAJOR = Encoding()


@dataclass(frozen=True)
class TensorType:
    """Logical shape and dtype, with quantization and storage encoding."""

    shape: tuple[int, ...]
    dtype: DType = DType.F32
    quant: Quant | None = None
    encoding: Encoding = field(default=ROW_MAJOR)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(d) for d in self.shape))
        if any(d < 0 for d in self.shape):
            raise IRError(f"negative dimension in shape {self.shape}")
        order = self.encoding.order
        if order is not None and sorted(order) != list(range(len(self.shape))):
            raise IRError(f"storage order {order} is not a permutation of the axes of shape {self.shape}")
        q = self.quant
        if q is None or q.axis is None:
            return
        if not 0 <= q.axis < len(self.shape) or len(q.scale) != self.shape[q.axis]:
            raise IRError(f"quant with {len(q.scale)} scales on axis {q.axis} does not fit shape {self.shape}")

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.size * self.dtype.itemsize

    @property
    def order(self) -> tuple[int, ...]:
        """Logical axes from outermost to innermost in memory."""
        return self.encoding.order or tuple(range(self.rank))

    @property
    def storage_shape(self) -> tuple[int, ...]:
        """The shape in memory order."""
        return tuple(self.shape[a] for a in self.order)

    @property
    def memory_axes(self) -> tuple[int, ...]:
        """Axes of extent above one in memory order: types of one shape that agree here have the same bytes."""
        return tuple(a for a in self.order if self.shape[a] != 1)

    def logical(self) -> TensorType:
        """The same type without storage encoding: what the verifier compares."""
        return self if self.encoding == ROW_MAJOR else replace(self, encoding=ROW_MAJOR)

    def with_order(self, order: tuple[int, ...] | None) -> TensorType:
        """The same type stored in another axis order."""
        return replace(self, encoding=replace(self.encoding, order=order))

    def to_storage(self, array: Array) -> Array:
        """Contiguous copy (or view) of a logical array in memory order."""
        return np.asarray(np.transpose(array, self.order), order="C")

    def from_storage(self, array: Array) -> Array:
        """Logical view of an array that is in memory order."""
        return np.transpose(array.reshape(self.storage_shape), np.argsort(self.order))


def reshape_groups(x: tuple[int, ...], y: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of axes of equal extent that a reshape from ``x`` to ``y`` maps to each other, in order.

    Axes of extent one are left out; neither shape may hold a zero.
    """
    mine = [a for a, d in enumerate(x) if d != 1]
    its = [a for a, d in enumerate(y) if d != 1]
    groups = []
    i = j = 0
    while i < len(mine):
        left, right = [mine[i]], [its[j]]
        p, q = x[mine[i]], y[its[j]]
        while p != q:
            if p < q:
                i += 1
                left.append(mine[i])
                p *= x[mine[i]]
            else:
                j += 1
                right.append(its[j])
                q *= y[its[j]]
        groups.append((left, right))
        i, j = i + 1, j + 1
    return groups


@dataclass(frozen=True)
class QArray:
    """A quantized value as reference functions see it: integer data with its quantization."""

    data: Array
    quant: Quant

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data."""
        return self.data.shape

    def real(self) -> npt.NDArray[np.float64]:
        """The real numbers meant, in float64: scale * (q - zero)."""
        q = self.quant
        zero = q.broadcast(q.zero_array().astype(np.float64), self.data.ndim)
        scale = q.broadcast(q.scale_array().astype(np.float64), self.data.ndim)
        return np.asarray((self.data.astype(np.float64) - zero) * scale)


class Literal:
    """A constant array as an attribute: read-only, compared by dtype, shape and bytes."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: npt.ArrayLike) -> None:
        a = np.asarray(array)
        DType.of(a.dtype)
        if a.flags.writeable or not a.flags.c_contiguous:
            a = np.array(a, order="C", copy=True)  # np.ascontiguousarray would promote rank 0 to 1
            a.flags.writeable = False
        self.array: Array = a
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Literal):
            return NotImplemented
        a, b = self.array, other.array
        return a.dtype == b.dtype and a.shape == b.shape and hash(self) == hash(other) and a.tobytes() == b.tobytes()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.array.dtype.str, self.array.shape, self.array.tobytes()))
        return self._hash

    def __repr__(self) -> str:
        return f"Literal({DType.of(self.array.dtype).value}{list(self.array.shape)})"
