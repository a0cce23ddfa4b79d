"""The limits of this machine, measured: arithmetic by instruction set, reads by level of the memory hierarchy.

Loops of our own (kernels/peaks): independent accumulators of fused multiply-adds, dot or matrix products; reads of a
buffer of half a cache's size (memory: one larger than the last cache, as far as there is room). Threads run the same
loop at once, each on its own buffer; what all of them did is divided by the time from the first start to the last end.
The best of several tries counts, since all that can go wrong makes it less. GOP/s count a multiply-accumulate as two
operations; GB/s are 1e9 bytes read a second.

Measured once per machine and thread count and kept in the cache folder (``IRKIT_CACHE``); ``irkit bench --peaks``
measures again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irkit.bench.machine import busy_seconds, cache_folder, cache_sizes, cpu_name, now
from irkit.ir.types import Array

VERSION = 1  # of the loops: measurements of others are not used
TRIES, TRY_NS = 9, 6e6
LEVELS = ("L1", "L2", "L3", "memory")
_USUAL = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}  # where the system does not tell
_MOST_MEMORY = 1 << 29

Span = tuple[int, int, float]  # start and end, ns, and the work done


@dataclass(frozen=True)
class Peaks:
    """Limits for one number of threads.

    gops: GOP/s by "<fp32|int8>.<isa>"; gbs: GB/s read by level, all threads together; sizes: bytes of each level that
    these threads have together (memory: no entry); others: CPUs that other processes kept busy meanwhile.
    """

    threads: int
    gops: dict[str, float]
    gbs: dict[str, float]
    sizes: dict[str, int]
    others: float
    date: str

    def level(self, nbytes: float) -> str:
        """The fastest level that holds that many bytes."""
        return next((n for n in LEVELS if nbytes <= self.sizes.get(n, 0)), "memory")


def peaks(threads: int, again: bool = False) -> Peaks:
    """The limits for that many threads: as kept for this machine, else measured now (two seconds or so) and kept."""
    path = _file()
    kept = {} if again and threads == 1 else _read(path)
    if not again and str(threads) in kept:
        return kept[str(threads)]
    kept[str(threads)] = found = measure(threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps({n: vars(p) for n, p in sorted(kept.items())}, indent=1) + "\n")
    part.replace(path)
    return found


def _file() -> Path:
    from irkit import _native

    about = json.dumps([VERSION, cpu_name(), os.cpu_count(), cache_sizes(), _native.isas()])
    return cache_folder() / f"peaks-{hashlib.sha256(about.encode()).hexdigest()[:12]}.json"


def _read(path: Path) -> dict[str, Peaks]:
    try:
        return {n: Peaks(**p) for n, p in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # none, or not ours: measured anew


def measure(threads: int) -> Peaks:
    """Measure all limits for that many threads."""
    from irkit import _native

    busy, cpu, start = busy_seconds() or 0.0, time.process_time(), time.monotonic()
    gops = {}
    for kind, isa in _native.peak_loops():

        def loop(_: int, rounds: int, kind: str = kind, isa: str = isa) -> Span:
            return _native.peak_run(kind, isa, rounds)

        gops[f"{kind}.{isa}"] = _best(loop, threads)
    known = cache_sizes() or _USUAL
    gbs, sizes = {}, {}
    for level in (*sorted(known), "memory"):
        if level == "memory":
            each = min(2 * max(known.values()), _MOST_MEMORY) // threads
        else:
            shared = level != "L1" and level == max(known)  # a core's own, or one for all of them
            sizes[level] = known[level] * (1 if shared else threads)
            each = known[level] // 2 // (threads if shared else 1)
            each = min(each, 16 * known.get("L2", each)) if shared else each  # enough not to fit the level before
        data = [_aligned(max(1024, each // 1024 * 1024)) for _ in range(threads)]

        def read(i: int, rounds: int, data: list[Array] = data) -> Span:
            return _native.peak_read(data[i], rounds)

        gbs[level] = _best(read, threads)
    wall = time.monotonic() - start
    others = ((busy_seconds() or 0.0) - busy - (time.process_time() - cpu)) / wall
    return Peaks(threads, gops, gbs, sizes, round(max(0.0, others), 2), now())


def _best(loop: Callable[[int, int], Span], threads: int) -> float:
    """Work per ns of the best of several tries, all threads together."""
    rounds = 1
    while True:  # until a try is long enough
        begin, end, _ = loop(0, rounds)
        if end - begin > TRY_NS / 4:
            break
        rounds *= 4
    rounds = max(1, round(rounds * TRY_NS / (end - begin)))
    return max(_together(loop, rounds, threads) for _ in range(TRIES))


def _together(loop: Callable[[int, int], Span], rounds: int, threads: int) -> float:
    spans: list[Span] = []
    barrier = threading.Barrier(threads)

    def work(i: int) -> None:
        barrier.wait()
        spans.append(loop(i, rounds))

    team = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for t in team:
        t.start()
    for t in team:
        t.join()
    return sum(s[2] for s in spans) / (max(s[1] for s in spans) - min(s[0] for s in spans))


def _aligned(nbytes: int) -> Array:
    """Bytes at a multiple of 64, all touched."""
    a = np.ones(nbytes + 64, np.uint8)
    at = -a.ctypes.data % 64
    return a[at : at + nbytes]
