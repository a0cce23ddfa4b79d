"""What a call promises: no Python inside, no allocation but the outputs, no GIL, inputs untouched, any thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import irkit
from irkit.errors import InputError
from tests.e2e.samples import ZOO


@pytest.fixture(scope="module")
def exe(compiled: Callable[[str, str], Any]) -> Any:
    return compiled("onet", "int8")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return ZOO["onet"].inputs(1, 4)[0]


def test_no_python_between_first_and_last_step(exe: Any, x: np.ndarray) -> None:
    calls: list[str] = []
    native = exe._native
    arrays = [x]
    sys.setprofile(lambda frame, event, arg: calls.append(f"{event} {getattr(arg, '__name__', frame.f_code.co_name)}"))
    try:
        native.run(arrays)
    finally:
        sys.setprofile(None)
    assert [c for c in calls if not c.endswith("setprofile")] == ["c_call run", "c_return run"]


def test_inputs_are_never_written_and_outputs_never_alias(exe: Any, x: np.ndarray) -> None:
    mine = x.copy()
    mine.flags.writeable = False
    first = exe(mine)
    kept = [y.copy() for y in first]
    second = exe(ZOO["onet"].inputs(2, 9)[1])
    assert np.array_equal(mine, x)
    for a, k, b in zip(first, kept, second, strict=True):
        assert np.array_equal(a, k) and not np.shares_memory(a, b) and not np.shares_memory(a, mine)


def test_sixteen_threads_share_one_model(exe: Any) -> None:
    xs = ZOO["onet"].inputs(4, 11)
    want = [[y.tobytes() for y in exe(x)] for x in xs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for r in range(50):
            k = (i + r) % len(xs)
            if [y.tobytes() for y in exe(xs[k])] != want[k]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_gil_is_free_during_a_call(compiled: Callable[[str, str], Any]) -> None:
    exe = compiled("efficientnet_lite0", "fp32")
    x = ZOO["efficientnet_lite0"].inputs(1, 0)[0]
    exe(x)
    span: list[float] = []

    def call() -> None:
        span.append(time.perf_counter())
        exe._native.profile([x], 20)  # one native call of some hundred milliseconds
        span.append(time.perf_counter())

    t = threading.Thread(target=call)
    t.start()
    ticks = []
    while t.is_alive():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
    t.join()
    start, end = span
    middle = [u for u in ticks if start + (end - start) / 4 < u < end - (end - start) / 4]
    assert middle  # this thread ran Python while the call was under way


BAD = {
    "no input": ((), "expected 1 input"),
    "two inputs": ((0, 0), "expected 1 input"),
    "list": (([[0.0]],), "got list"),
    "None": ((None,), "got NoneType"),
    "rank": ((np.zeros((3, 48, 48), np.float32),), r"expected shape \(1, 3, 48, 48\), got \(3, 48, 48\)"),
    "shape": ((np.zeros((1, 3, 48, 47), np.float32),), "expected shape"),
    "batch": ((np.zeros((2, 3, 48, 48), np.float32),), "expected shape"),
    "zero size": ((np.zeros((0, 3, 48, 48), np.float32),), "expected shape"),
    "scalar": ((np.float32(1),), "got float32"),
    **{
        str(np.dtype(d)): ((np.zeros((1, 3, 48, 48), d),), "expected dtype f32, got")
        for d in ("f8", "f2", "i8", "i4", "u1", "?", "c8", ">f4", "O")
    },
    "double tensor": ((torch.zeros(1, 3, 48, 48, dtype=torch.float64),), "expected dtype f32, got float64"),
    "meta tensor": ((torch.zeros(1, 3, 48, 48, device="meta"),), "device meta"),
    "string": (("x.npy",), "got str"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_names_expected_and_got(exe: Any, kind: str) -> None:
    args, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        exe(*args)


def test_odd_but_valid_inputs_give_the_same_bits(exe: Any, x: np.ndarray) -> None:
    want = [y.tobytes() for y in exe(x)]
    padded = np.zeros((1, 3, 48, 96), np.float32)
    padded[..., ::2] = x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(x.shape)
    unaligned[:] = x
    flipped = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    fortran = np.asfortranarray(x)
    wants_grad = torch.from_numpy(x.copy()).requires_grad_()
    for odd in (padded[..., ::2], unaligned, flipped, fortran, wants_grad, torch.from_numpy(fortran)):
        assert [y.tobytes() for y in exe(odd)] == want


def test_environment_sets_threads_and_isa(exe: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exe.save(tmp_path / "m.irk")
    monkeypatch.setenv("IRKIT_THREADS", "3")
    monkeypatch.setenv("IRKIT_ISA", "scalar")
    m = irkit.load(path)
    assert m.threads == 3
    assert all(r.kernel.endswith("scalar") for r in m.plan.rows if r.macs)
    monkeypatch.setenv("IRKIT_THREADS", "many")
    with pytest.raises(InputError, match="IRKIT_THREADS: expected an integer from 1 to 256, got 'many'"):
        irkit.load(path)
