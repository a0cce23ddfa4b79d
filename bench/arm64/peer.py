"""Runs one model of another engine to be counted, inside the emulated arm64 Python: peer.py litert|ort MODEL.

Marks 1 and 2 (see count.cc) enclose the engine's bare invocation, with the input in place: two that warm up, a call of
nothing, whose cost is Python's own, and the one that counts. One thread; no garbage collection in between. Prints the
engine's version.
"""

import contextlib
import gc
import os
import sys
from importlib.metadata import version

import numpy as np

MARK = 0x69726B00


def mark(id):
    with contextlib.suppress(OSError):  # no such process: it is the call that counts
        os.getpriority(0, MARK + id)


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(path, num_threads=1)
    net.allocate_tensors()
    (i,) = net.get_input_details()
    x = np.random.default_rng(1).standard_normal(i["shape"], np.float32)
    if i["dtype"] == np.int8:
        scale, zero = i["quantization"]
        x = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
    net.set_tensor(i["index"], x)
    return net.invoke, version("ai-edge-litert")


def ort(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    net = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (i,) = net.get_inputs()
    x = np.random.default_rng(1).standard_normal(i.shape, np.float32)
    bound = net.io_binding()
    bound.bind_cpu_input(i.name, x)
    for o in net.get_outputs():
        bound.bind_output(o.name)
    return lambda: net.run_with_iobinding(bound), onnxruntime.__version__


invoke, engine_version = {"litert": litert, "ort": ort}[sys.argv[1]](sys.argv[2])
gc.collect()
gc.disable()
for f in (invoke, invoke, lambda: None, invoke):
    mark(1)
    f()
    mark(2)
print(engine_version)
