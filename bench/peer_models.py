"""The networks of bench/zoo.py in other engines' formats, for bench/peers.py and bench/arm64.py count --peers.

    python -m bench.peer_models FORMAT FOLDER [NETWORK ...]

    irkit        NAME.irk, NAME.int8.irk and the input of all, NAME.in.npy
    onnx         NAME.onnx, NAME.int8.onnx; needs onnx, onnxscript, onnxruntime
    openvino     NAME.xml, NAME.int8.xml with their .bin; needs openvino, nncf, and NAME.onnx
    tflite       NAME.tflite, NAME.int8.tflite; needs litert-torch, ai-edge-quantizer
    executorch   NAME.pte, NAME.int8.pte; needs executorch
    ncnn         NAME.ncnn.param, NAME.ncnn.bin; needs pnnx
    mnn          NAME.mnn, NAME.int8.mnn (weights only); needs MNN, and NAME.onnx
    deepsparse   NAME.ds.onnx, NAME.int8.ds.onnx; needs onnx, onnxruntime (as for onnx: DeepSparse itself wants an older
                 onnx, which ONNX Runtime's quantizer refuses), and NAME.onnx

The sets of packages don't agree on their dependencies: give each an environment of its own. Int8 is what each engine's
own tool makes of eight random inputs: static, int8 weights by channel where it can. Existing files are kept. A network
that a tool refuses is named with the tool's message; the exit status is then 1.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1])]

from bench import zoo  # noqa: E402

SAMPLES = 8


def onnx(name: str, path: Path) -> None:
    """ONNX, float, input "x"."""
    import torch

    torch.onnx.export(
        zoo.NETS[name].build(), (zoo.inputs(name, 1)[0],), str(path), dynamo=True, opset_version=18,
        external_data=False, verbose=False, input_names=["x"], output_names=["y"],
    )  # fmt: skip


class Calibration:
    """Random inputs as ONNX Runtime's quantizer asks for them."""

    def __init__(self, name: str) -> None:
        self.samples = iter(zoo.inputs(name, SAMPLES))

    def get_next(self) -> dict[str, Any] | None:
        """The next one by input name."""
        x = next(self.samples, None)
        return None if x is None else {"x": x.numpy()}


def onnx_int8(name: str, path: Path) -> None:
    """ONNX with quantize and dequantize nodes, which ONNX Runtime fuses; activations uint8."""
    from onnxruntime import quantization as q

    source = path.with_name(f"{name}.onnx")
    prepared = path.with_name(f"{name}.prepared.onnx")
    q.quant_pre_process(str(source), str(prepared))
    q.quantize_static(
        str(prepared), str(path), Calibration(name), quant_format=q.QuantFormat.QDQ, per_channel=True,
        activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


def irkit(name: str, path: Path) -> None:
    """Compiled for this machine; and the input that all engines get."""
    np.save(path.with_name(f"{name}.in.npy"), zoo.inputs(name, 1)[0].numpy())
    zoo.compiled(name, "native-fp32").save(path)


def irkit_int8(name: str, path: Path) -> None:
    """The same in int8."""
    zoo.compiled(name, "native-int8").save(path)


def openvino(name: str, path: Path) -> None:
    """OpenVINO, weights in float32."""
    import openvino as ov

    ov.save_model(ov.convert_model(str(path.with_name(f"{name}.onnx"))), str(path), compress_to_fp16=False)


def openvino_int8(name: str, path: Path) -> None:
    """OpenVINO, quantized by NNCF."""
    import nncf
    import openvino as ov

    model = ov.Core().read_model(str(path.with_name(f"{name}.xml")))
    data = nncf.Dataset([x.numpy() for x in zoo.inputs(name, SAMPLES)])
    ov.save_model(nncf.quantize(model, data, subset_size=SAMPLES), str(path), compress_to_fp16=False)


def executorch(name: str, path: Path) -> None:
    """ExecuTorch for its XNNPACK backend."""
    import torch

    x = zoo.inputs(name, 1)[0]
    path.write_bytes(_lowered(torch.export.export(zoo.NETS[name].build(), (x,))))


def executorch_int8(name: str, path: Path) -> None:
    """The same, quantized statically."""
    import torch
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xq
    from torchao.quantization.pt2e import quantize_pt2e as pt2e

    samples = zoo.inputs(name, SAMPLES)
    quantizer = xq.XNNPACKQuantizer().set_global(xq.get_symmetric_quantization_config(is_per_channel=True))
    model = pt2e.prepare_pt2e(torch.export.export(zoo.NETS[name].build(), (samples[0],)).module(), quantizer)
    for x in samples:
        model(x)
    path.write_bytes(_lowered(torch.export.export(pt2e.convert_pt2e(model), (samples[0],))))


def _lowered(program: Any) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    return bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def ncnn(name: str, path: Path) -> None:
    """ncnn by its converter pnnx, which takes a traced module; weights in float32."""
    import torch

    x = zoo.inputs(name, 1)[0]
    with tempfile.TemporaryDirectory() as folder:
        torch.jit.trace(zoo.NETS[name].build(), x).save(f"{folder}/{name}.pt")
        shape = f"[{','.join(map(str, x.shape))}]f32"
        tool = Path(sys.executable).with_name("pnnx")
        subprocess.run(
            [str(tool), f"{name}.pt", f"inputshape={shape}", "fp16=0"], cwd=folder, check=True, capture_output=True
        )
        for suffix in (".ncnn.bin", ".ncnn.param"):
            path.with_name(f"{name}{suffix}").write_bytes((Path(folder) / f"{name}{suffix}").read_bytes())


def mnn(name: str, path: Path, *more: str) -> None:
    """MNN, through the converter in its Python module: the command around it installs and reports things."""
    source = path.with_name(f"{name}.onnx")
    words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(path), "--bizCode", "x", *more]
    code = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def mnn_int8(name: str, path: Path) -> None:
    """Weights in eight bits; activations become so when it runs."""
    mnn(name, path, "--weightQuantBits", "8")


def deepsparse(name: str, path: Path) -> None:
    """ONNX as DeepSparse 1.8 reads it: opset 13, IR 8, and means over an image as global pooling."""
    import onnx

    model = onnx.load(str(path.with_name(f"{name}.onnx")))
    nodes = []
    for node in model.graph.node:
        if node.op_type == "ReduceMean":
            pooled = f"{node.output[0]}.pooled"
            nodes.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled]))
            nodes.append(onnx.helper.make_node("Flatten", [pooled], list(node.output)))
        else:
            if node.op_type == "Reshape":
                del node.attribute[:]  # "allowzero" is younger
            nodes.append(node)
    known = {"Add", "Clip", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Relu", "Reshape", "Softmax"}
    if other := {n.op_type for n in nodes} - known:
        raise ValueError(f"opset 13 may have other forms of {', '.join(sorted(other))}")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.ir_version, model.opset_import[0].version = 8, 13
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def deepsparse_int8(name: str, path: Path) -> None:
    """The same with quantize and dequantize nodes, weights symmetric and by tensor, as it wants them."""
    from onnxruntime import quantization as q

    q.quantize_static(
        str(path.with_name(f"{name}.ds.onnx")), str(path), Calibration(name), quant_format=q.QuantFormat.QDQ,
        per_channel=False, activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
        extra_options={"WeightSymmetric": True},
    )  # fmt: skip


def channels_last(x: Any) -> Any:
    return x.permute(0, 2, 3, 1).contiguous() if x.dim() == 4 else x


def tflite(name: str, path: Path) -> None:
    """LiteRT, float; images channels last, as its users have them."""
    import litert_torch

    net, x = zoo.NETS[name].build(), zoo.inputs(name, 1)[0]
    if x.dim() == 4:
        net = litert_torch.to_channel_last_io(net, args=[0])
    litert_torch.convert(net, (channels_last(x),)).export(str(path))


def tflite_int8(name: str, path: Path) -> None:
    """LiteRT, int8 weights and activations."""
    from ai_edge_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(str(path.with_name(f"{name}.tflite")))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    samples = [{"args_0": np.asarray(channels_last(x))} for x in zoo.inputs(name, SAMPLES)]
    tool.quantize(tool.calibrate({"serving_default": samples})).export_model(str(path), overwrite=True)


EXPORTS: dict[str, dict[str, Callable[[str, Path], None]]] = {
    "irkit": {".irk": irkit, ".int8.irk": irkit_int8},
    "onnx": {".onnx": onnx, ".int8.onnx": onnx_int8},
    "openvino": {".xml": openvino, ".int8.xml": openvino_int8},
    "tflite": {".tflite": tflite, ".int8.tflite": tflite_int8},
    "executorch": {".pte": executorch, ".int8.pte": executorch_int8},
    "ncnn": {".ncnn.param": ncnn},
    "mnn": {".mnn": mnn, ".int8.mnn": mnn_int8},
    "deepsparse": {".ds.onnx": deepsparse, ".int8.ds.onnx": deepsparse_int8},
}


def main(words: list[str]) -> int:
    """Export; 2 for wrong usage, 1 when something failed."""
    if len(words) < 2 or words[0] not in EXPORTS or set(words[2:]) - set(zoo.NETS):
        known = f"networks: {', '.join(zoo.NETS)}"
        print(f"usage: python -m bench.peer_models {'|'.join(EXPORTS)} FOLDER [NETWORK ...]; {known}", file=sys.stderr)
        return 2
    folder, failed = Path(words[1]), 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in words[2:] or zoo.NETS:
        for suffix, export in EXPORTS[words[0]].items():
            path = folder / f"{name}{suffix}"
            try:
                if not path.exists():
                    export(name, path)
            except Exception as e:  # whatever a tool raises: the others go on
                failed += 1
                path.unlink(missing_ok=True)
                last = (str(e).strip().splitlines() or [""])[-1]
                print(f"{path}: {type(e).__name__}: {last[:300]}", file=sys.stderr)
                continue
            print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
