"""Exports the networks of bench/zoo.py to other engines' formats, for bench/arm64.py count --peers FOLDER.

    python bench/peer_models.py onnx FOLDER      NAME.onnx, NAME.int8.onnx; needs onnx, onnxscript, onnxruntime
    python bench/peer_models.py tflite FOLDER    NAME.tflite, NAME.int8.tflite; needs litert-torch, ai-edge-quantizer

The two sets of packages don't agree on their dependencies: give each an environment of its own. Int8 is what each
engine's own tool makes of eight random inputs: static, int8 weights by channel. Existing files are kept.
"""

from __future__ import annotations

import sys
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


def onnx_int8(name: str, path: Path) -> None:
    """ONNX with quantize and dequantize nodes, which ONNX Runtime fuses; activations uint8."""
    from onnxruntime import quantization as q

    source = path.with_name(f"{name}.onnx")
    prepared = path.with_name(f"{name}.prepared.onnx")
    q.quant_pre_process(str(source), str(prepared))

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        samples = iter(zoo.inputs(name, SAMPLES))

        def get_next(self) -> dict[str, Any] | None:
            x = next(self.samples, None)
            return None if x is None else {"x": x.numpy()}

    q.quantize_static(
        str(prepared), str(path), Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
        activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


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
    "onnx": {".onnx": onnx, ".int8.onnx": onnx_int8},
    "tflite": {".tflite": tflite, ".int8.tflite": tflite_int8},
}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in EXPORTS:
        sys.exit(f"usage: peer_models.py {'|'.join(EXPORTS)} FOLDER [NAME ...]")
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or zoo.NETS:
        for suffix, export in EXPORTS[sys.argv[1]].items():
            path = folder / f"{name}{suffix}"
            if not path.exists():
                export(name, path)
            print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
