"""irkit-run with the n-th allocation failing, for every n: a status and a message, never a crash or half a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.builds import run, tool
from tests.kernels.artifacts import N, artifact, reference

MODEL, INPUT, OUTPUT, RUN = 3, 4, 5, 6
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

static long left = -1;
__attribute__((constructor)) static void start(void) { left = atol(getenv("FAIL_AT")); }
static int refuse(void) { return left >= 0 && left-- == 0; }
void* malloc(size_t n) {
  static void* (*real)(size_t);
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "malloc");
  return refuse() ? (errno = ENOMEM, NULL) : real(n);
}
void* calloc(size_t n, size_t m) {
  static void* (*real)(size_t, size_t);
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "calloc");
  return refuse() ? (errno = ENOMEM, NULL) : real(n, m);
}
int posix_memalign(void** p, size_t a, size_t n) {
  static int (*real)(void**, size_t, size_t);
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "posix_memalign");
  return refuse() ? ENOMEM : real(p, a, n);
}
"""
pytestmark = pytest.mark.slow


def test_every_allocation(tmp_path: Path) -> None:
    (tmp_path / "shim.c").write_text(SHIM)
    shim = tmp_path / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    (tmp_path / "m.irk").write_bytes(artifact())
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, np.linspace(-3, 2, N, dtype=np.float32))
    command = [*tool("native"), tmp_path / "m.irk", "-i", x, "-o", y, "--threads", "2"]
    failed = 0
    for n in range(500):
        y.unlink(missing_ok=True)
        done = run(command, LD_PRELOAD=str(shim), FAIL_AT=str(n))
        if done.returncode == 0:
            assert np.array_equal(np.load(y), reference(np.load(x)))
            if failed and n > failed + 20:  # one that libc can do without may come between
                break
            continue
        failed = n
        assert done.returncode in (MODEL, INPUT, OUTPUT, RUN), f"{n}: {done.returncode}"
        assert done.stderr.startswith("irkit-run: ") and "memory" in done.stderr, f"{n}: {done.stderr}"
        assert not y.exists()
    assert failed > 10 and {p.name for p in tmp_path.iterdir()} == {"shim.c", "shim.so", "m.irk", "x.npy", "y.npy"}
