"""Other engines, as the worker process of irkit/bench/worker.py holds them: a class each, an array in and an array out.

A class has ``title``, ``module`` (what must be importable), ``files`` (the suffixes of a network's files by precision;
the first is what is loaded), ``version``, and ``load(path, threads)``, which gives the function of a call. ``prepare``
turns inputs into what that function takes, ``finish`` its answer into what others give; neither is timed: a user of
LiteRT has channels last, and int8 where the model takes int8. This file needs NumPy and, when it is used, the engine.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


class Engine:
    """What all have."""

    title = module = package = ""
    files: dict[str, tuple[str, ...]] = {}  # noqa: RUF012

    def __init__(self) -> None:
        __import__(self.module)
        self.version = metadata.version(self.package or self.module)


class OnnxRuntime(Engine):
    """ONNX Runtime, its CPU provider."""

    title, module = "ONNX Runtime", "onnxruntime"
    files = {"fp32": (".onnx",), "int8": (".int8.onnx",)}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """One session; what it has of threads is for the inside of an operator."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: session.run(None, {name: x})[0]


class OpenVino(Engine):
    """OpenVINO for latency, float layers in float32 (its default on CPUs with AMX is bfloat16)."""

    title, module = "OpenVINO", "openvino"
    files = {"fp32": (".xml", ".bin"), "int8": (".int8.xml", ".int8.bin")}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """One request, used again and again."""
        import openvino

        how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        request = openvino.Core().compile_model(path, "CPU", how).create_infer_request()
        return lambda x: request.infer([x], share_inputs=True)[0]


class LiteRt(Engine):
    """LiteRT with its default delegate, XNNPACK."""

    title, module, package = "LiteRT", "ai_edge_litert", "ai-edge-litert"
    files = {"fp32": (".tflite",), "int8": (".int8.tflite",)}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """One interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        (self.input,), (self.output, *_) = interpreter.get_input_details(), interpreter.get_output_details()
        at, to = self.input["index"], self.output["index"]

        def run(x: Any) -> Any:
            interpreter.set_tensor(at, x)
            interpreter.invoke()
            return interpreter.get_tensor(to)

        return run

    def prepare(self, inputs: list[Any]) -> list[Any]:
        """Channels last, quantized where the model is."""
        (x,) = inputs
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x
        scale, zero = self.input["quantization"]
        return [np.clip(np.rint(x / scale) + zero, -128, 127).astype(self.input["dtype"]) if scale else x]

    def finish(self, y: Any) -> Any:
        """As real numbers."""
        scale, zero = self.output["quantization"]
        return (y.astype(np.float32) - zero) * scale if scale else y


class ExecuTorch(Engine):
    """ExecuTorch with its XNNPACK backend."""

    title, module = "ExecuTorch", "executorch"
    files = {"fp32": (".pte",), "int8": (".int8.pte",)}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """The method "forward"; arrays are wrapped without a copy."""
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        self.program = Runtime.get().load_program(path)  # the method does not keep it alive
        method = self.program.load_method("forward")
        return lambda x: method.execute([torch.from_numpy(x)])[0].numpy()


class Ncnn(Engine):
    """ncnn in float32 throughout; it has no int8 for x86 that its own tools make without a real data set."""

    title = module = "ncnn"
    files = {"fp32": (".ncnn.param", ".ncnn.bin")}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """One network, an extractor a call, as it is meant to be used."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = threads
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{name}", False)
        stem = path.removesuffix(".param")
        if net.load_param(path) or net.load_model(f"{stem}.bin"):
            raise OSError(f"ncnn does not load {path}")

        def run(x: Any) -> Any:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(x))
            return np.array(extractor.extract("out0")[1])

        return run

    def prepare(self, inputs: list[Any]) -> list[Any]:
        """It has no batches."""
        return [x[0] for x in inputs]


class Mnn(Engine):
    """MNN in float32; int8 is its weights only, which it calls low memory."""

    title = module = "MNN"
    files = {"fp32": (".mnn",), "int8": (".int8.mnn",)}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """One session; its tensors are copied to and from the user's, as they may be blocked by channels."""
        import MNN

        how = {"backend": "CPU", "numThread": threads, "precision": "high"}
        how |= {"memory": "low"} if ".int8." in Path(path).name else {}
        self.net = MNN.Interpreter(path)
        session = self.net.createSession(how)
        source, target = self.net.getSessionInput(session), self.net.getSessionOutput(session)
        order, kind = MNN.Tensor_DimensionType_Caffe, MNN.Halide_Type_Float
        answer = MNN.Tensor(target.getShape(), kind, np.zeros(target.getShape(), np.float32), order)

        def run(x: Any) -> Any:
            source.copyFrom(MNN.Tensor(x.shape, kind, x, order))
            self.net.runSession(session)
            target.copyToHostTensor(answer)
            return np.array(answer.getNumpyData())

        return run


class DeepSparse(Engine):
    """DeepSparse, which is fast where weights are zeros."""

    title, module = "DeepSparse", "deepsparse"
    files = {"fp32": (".ds.onnx",), "int8": (".int8.ds.onnx",)}  # noqa: RUF012

    def load(self, path: str, threads: int) -> Any:
        """One engine for a batch of one."""
        from deepsparse import compile_model

        engine = compile_model(path, batch_size=1, num_cores=threads)
        return lambda x: engine.run([x])[0]


ENGINES: dict[str, type[Engine]] = {
    "ort": OnnxRuntime, "openvino": OpenVino, "litert": LiteRt, "executorch": ExecuTorch, "ncnn": Ncnn, "mnn": Mnn,
    "deepsparse": DeepSparse,
}  # fmt: skip
