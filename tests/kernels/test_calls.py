"""Calls of a loaded model: from many threads, with many threads, with Python steps, after a fork; bad calls."""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from irkit import _native
from irkit.backend import executable
from irkit.errors import ArtifactError, InputError, RuntimeFailure
from tests.kernels.artifacts import MUL, TANH, Array, N, artifact, eltwise, reference, small_consts, small_plan, tensor

X = np.linspace(-2, 2, N, dtype=np.float32)
BIG = 1 << 20


def big_model(threads: int, steps: int = 3) -> _native.Model:
    """tanh(x * x), then tanh again and again, on a million elements: large enough to be split."""
    tensors = [tensor(["in", 0], [BIG])]
    tensors += [tensor(["arena", 4 * BIG * (i % 2)], [BIG]) for i in range(steps - 1)]
    tensors += [tensor(["out", 0], [BIG])]
    plan = {
        "version": 1,
        "inputs": [{"name": "x", "tensor": 0}],
        "outputs": [{"name": "y", "tensor": steps}],
        "tensors": tensors,
        "arena": 8 * BIG,
        "steps": [eltwise([MUL, 0, 0, 0, TANH, 1, 0, 0], [i], i + 1) for i in range(steps)],
    }
    return _native.load_plan(json.dumps(plan), {}, threads=threads)


def big_input(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(BIG, dtype=np.float32)


def test_same_bits_for_every_thread_count() -> None:
    m = big_model(1)
    x = big_input()
    kept = x.copy()
    (want,) = m.run([x])
    for threads in (2, 3, 4, 8):
        m.threads = threads
        assert m.threads == threads
        for _ in range(5):
            (y,) = m.run([x])
            assert y.tobytes() == want.tobytes()
    np.testing.assert_array_equal(x, kept)


def test_steps_get_the_threads_they_are_worth() -> None:
    big = big_model(2)
    assert big.step_threads == [2, 2, 2]
    big.threads = 1
    assert big.step_threads == [1, 1, 1]
    assert _native.load(artifact(), threads=2).step_threads == [1, 1]  # a thousand elements: not worth handing over


def test_sixteen_threads_call_one_model() -> None:
    m = big_model(2, steps=2)
    xs = [big_input(i) for i in range(4)]
    want = [m.run([x])[0].tobytes() for x in xs]
    small = _native.load(artifact(), threads=2)

    def work(k: int) -> int:
        wrong = 0
        for i in range(10):
            j = (k + i) % 4
            wrong += m.run([xs[j]])[0].tobytes() != want[j]
            wrong += small.run([X])[0].tobytes() != reference(X).tobytes()
            _native.load(artifact(), threads=2)  # others load and free meanwhile
        return wrong

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 0


def test_gil_is_released() -> None:
    m = big_model(1, steps=40)
    x = big_input()
    m.run([x])
    count, stop = 0, threading.Event()

    def spin() -> None:
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0.0002)  # lets go of the GIL

    old = sys.getswitchinterval()
    sys.setswitchinterval(60)  # a call that kept the GIL would now let nobody in
    t = threading.Thread(target=spin)
    t.start()
    try:
        before = count
        m.run([x])
        during = count - before
    finally:
        sys.setswitchinterval(old)
        stop.set()
        t.join()
    assert during > 10


def test_outputs_are_fresh() -> None:
    m = _native.load(artifact())
    (a,) = m.run([X])
    keep = a.copy()
    (b,) = m.run([-X])
    assert not np.shares_memory(a, b) and not np.shares_memory(a, X)
    assert a.flags.writeable and a.flags.owndata
    np.testing.assert_array_equal(a, keep)


def python_plan() -> str:
    plan = small_plan()
    for step in plan["steps"]:
        step["family"], step["attrs"] = "python", {}
    plan["steps"][1]["in"] = [2, -1]
    return json.dumps(plan)


def test_python_steps() -> None:
    m = _native.load_plan(python_plan(), small_consts())
    with pytest.raises(RuntimeFailure, match=r"step 0 \(python, 'bias'\) has no kernel attached"):
        m.run([X])
    seen: list[Any] = []

    def bias(ins: list[Array | None], outs: list[Array]) -> None:
        assert ins[0] is not None and not ins[0].flags.writeable and outs[0].flags.writeable
        np.add(ins[0], ins[1], out=outs[0])

    def act(ins: list[Array | None], outs: list[Array]) -> None:
        seen.append(ins[1])
        np.maximum(ins[0], np.float32(0), out=outs[0])

    m.set_callback(0, bias)
    m.set_callback(1, act)
    np.testing.assert_array_equal(m.run([X])[0], reference(X))
    assert seen == [None]
    with pytest.raises(InputError, match="not callable"):
        m.set_callback(0, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="step 2 of 2"):
        m.set_callback(2, act)


def test_exception_of_a_python_step_comes_through() -> None:
    m = _native.load_plan(python_plan(), small_consts())

    def broken(ins: list[Array | None], outs: list[Array]) -> None:
        raise KeyError("which")

    m.set_callback(0, broken)
    with pytest.raises(KeyError, match="which"):
        m.run([X])
    m.set_callback(0, lambda ins, outs: np.add(ins[0], ins[1], out=outs[0]))
    m.set_callback(1, lambda ins, outs: np.maximum(ins[0], np.float32(0), out=outs[0]))
    np.testing.assert_array_equal(m.run([X])[0], reference(X))


def test_python_steps_from_many_threads() -> None:
    m = _native.load_plan(python_plan(), small_consts(), threads=2)
    m.set_callback(0, lambda ins, outs: np.add(ins[0], ins[1], out=outs[0]))
    m.set_callback(1, lambda ins, outs: np.maximum(ins[0], np.float32(0), out=outs[0]))
    with ThreadPoolExecutor(8) as pool:
        ys = list(pool.map(lambda k: m.run([X + np.float32(k)])[0], range(100)))
    for k, y in enumerate(ys):
        np.testing.assert_array_equal(y, reference(X + np.float32(k)))


def test_kernel_by_address() -> None:
    m = _native.load_plan(python_plan(), small_consts(), threads=4)
    m.set_callback(0, lambda ins, outs: np.add(ins[0], ins[1], out=outs[0]))

    @ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    def relu(bufs: Any, params: Any, begin: int, end: int) -> None:
        x, y = (ctypes.cast(bufs[i], ctypes.POINTER(ctypes.c_float)) for i in (0, 2))  # 1 is absent
        for i in range(begin, end):
            y[i] = max(x[i], 0.0)

    class Alive:
        pass

    alive = Alive()
    gone = weakref.ref(alive)
    address = ctypes.cast(relu, ctypes.c_void_p).value
    assert address
    m.set_kernel(1, address, items=N, grain=16, name="mine", keep_alive=alive)
    del alive
    assert gone() is not None
    for _ in range(3):
        np.testing.assert_array_equal(m.run([X])[0], reference(X))
    assert m.kernels == ["python", "mine"]
    with pytest.raises(RuntimeFailure, match="step 1: kernel without function"):
        m.set_kernel(1, address, items=N, grain=0)
    del m
    gc.collect()
    assert gone() is None


def test_profile_and_trace_and_description() -> None:
    m = _native.load(artifact(), isa="scalar")
    rows = m.profile([X], 3)
    assert [r[:2] for r in rows] == [("bias", "eltwise"), ("act", "eltwise")]
    assert all(0 < ns < 10**9 for *_, ns in rows) and "scalar" in rows[0][2]
    first, last = m.trace([X])
    np.testing.assert_array_equal(first[0], X + small_consts()["w"])
    np.testing.assert_array_equal(last[0], reference(X))
    assert m.inputs == [{"name": "x", "dtype": "f32", "shape": (N,), "scale": 0.0, "zero": 0}]
    assert m.outputs[0]["name"] == "y" and m.arena == 64 + 4 * N and m.isa == "scalar"
    assert [s["in"] for s in m.steps()] == [[0, 1], [2]]
    with pytest.raises(InputError, match="repeats"):
        m.profile([X], 0)


def test_bad_calls_name_the_input() -> None:
    m = _native.load(artifact())
    odd = np.frombuffer(bytes(4 * N + 1), np.uint8)[1:].view(np.float32)
    cases: list[tuple[Any, str]] = [
        ([], r"expected 1 input\(s\), got 0"),
        ([X, X], r"expected 1 input\(s\), got 2"),
        ([X.astype(np.float64)], r"input 0 'x': expected float32\(1024,\), got float64\(1024,\)"),
        ([X.astype(">f4")], "got >f4"),
        ([X.astype(np.int32)], "got int32"),
        ([X.astype(complex)], "got complex128"),
        ([X.astype(object)], "got object"),
        ([X[:-1]], r"got float32\(1023,\)"),
        ([X[None]], r"got float32\(1, 1024\)"),
        ([np.zeros((), np.float32)], r"got float32\(\)"),
        ([np.zeros(0, np.float32)], r"got float32\(0,\)"),
        ([np.zeros(2 * N, np.float32)[::2]], "not C-contiguous and aligned"),
        ([X[::-1]], "not C-contiguous and aligned"),
        ([np.broadcast_to(np.float32(1), N)], "not C-contiguous and aligned"),
        ([odd], "not C-contiguous and aligned"),
        ([X.tolist()], "is not a NumPy array but <class 'list'>"),
        ([None], "is not a NumPy array but <class 'NoneType'>"),
    ]
    for inputs, message in cases:
        with pytest.raises(InputError, match=message):
            m.run(inputs)
    frozen = X.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(m.run([frozen])[0], reference(X))
    for threads in (0, -1, 257):
        with pytest.raises(InputError, match="threads must be"):
            m.threads = threads


def test_isa_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    best = _native.isas()[-1]
    monkeypatch.delenv("IRKIT_ISA", raising=False)
    assert _native.isas()[0] == "scalar" and _native.effective_isa() == best
    results = set()
    for isa in _native.isas():
        m = _native.load(artifact(), isa=isa)
        assert m.isa == isa
        monkeypatch.setenv("IRKIT_ISA", isa)
        assert _native.load(artifact()).isa == isa
        results.add(m.run([X])[0].tobytes())
    assert len(results) == 1
    monkeypatch.setenv("IRKIT_ISA", "mmx")
    with pytest.raises(InputError, match="unknown ISA level 'mmx'; this build has scalar"):
        _native.load(artifact())


def test_every_row_has_a_scalar_sibling() -> None:
    rows = _native.kernel_rows()
    assert rows
    scalar = {(family, types) for family, types, isa, *_ in rows if isa == "scalar"}
    assert {(family, types) for family, types, *_ in rows} == scalar


def test_threads_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, want in (("3", 3), ("256", 256), ("", len(os.sched_getaffinity(0)))):
        monkeypatch.setenv("IRKIT_THREADS", value)
        assert _native.default_threads() == want == executable.default_threads()
    monkeypatch.setenv("IRKIT_THREADS", "2")
    assert _native.load(artifact()).threads == 2
    for bad in ("0", "257", "-1", "many", "2x", " 2", "1.5", "9" * 30):
        monkeypatch.setenv("IRKIT_THREADS", bad)
        for call in (_native.default_threads, executable.default_threads, lambda: _native.load(artifact())):
            with pytest.raises(InputError, match=f"IRKIT_THREADS: expected an integer from 1 to 256, got '{bad}'"):
                call()
        assert _native.load(artifact(), threads=1).threads == 1  # not read when there is no need


def _child(conn: Any, m: _native.Model, x: Array) -> None:
    conn.send([m.run([x])[0].tobytes() for _ in range(3)])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_model_works_after_fork() -> None:
    m = big_model(2)
    x = big_input()
    want = m.run([x])[0].tobytes()
    ctx = multiprocessing.get_context("fork")
    here, there = ctx.Pipe()
    p = ctx.Process(target=_child, args=(there, m, x))
    p.start()
    assert here.poll(60), "the child hangs"
    assert here.recv() == [want] * 3
    p.join(60)
    assert p.exitcode == 0
    assert m.run([x])[0].tobytes() == want


def test_memory_does_not_grow() -> None:
    blob = artifact()
    m = _native.load(blob)

    def work(n: int) -> None:
        for _ in range(n):
            m.run([X])
            with pytest.raises(ArtifactError):
                _native.load(blob[:-1])
            _native.load(blob)

    work(500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(3000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024  # KiB
