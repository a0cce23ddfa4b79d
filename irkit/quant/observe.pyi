import numpy as np
import numpy.typing as npt

class Histogram:
    limit: float
    lo: float
    hi: float
    count: int
    zeros: int
    bad: int
    def __init__(self) -> None: ...
    def add(self, array: npt.ArrayLike) -> None: ...
    @property
    def counts(self) -> npt.NDArray[np.int64]: ...
    @property
    def edges(self) -> npt.NDArray[np.float64]: ...
    @property
    def nbytes(self) -> int: ...
