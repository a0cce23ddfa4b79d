"""Sound graphs that the verifier's tests start from."""

from __future__ import annotations

import numpy as np

from irkit.ir.graph import Graph
from irkit.ir.parse import parse_graph

CNN = """
func @cnn(%x: f32[1,3,8,8]) {
  %w = const() {value=@w} : f32[4,3,3,3]
  %b = const() {value=f32[4]<0.0, 1.0, 2.0, 3.0>} : f32[4]
  %c = conv2d(%x, %w, %b) {pads=[1,1,1,1]} : f32[1,4,8,8] loc("features.0")
  %r = relu(%c) : f32[1,4,8,8] loc("features.1")
  %p = max_pool2d(%r) {kernel=[2,2], strides=[2,2]} : f32[1,4,4,4] loc("features.2")
  %q = permute(%p) {perm=[0,2,3,1]} : f32[1,4,4,4] loc("perm")
  %f = reshape(%q) {shape=[1,64]} : f32[1,64] loc("flat")
  %s = softmax(%f) {axis=1} : f32[1,64] loc("prob")
  return(%s, %r)
}
"""
FUSED = """
func @fused(%x: f32[2,3], %y: f32[2,3]) {
  %a, %b = fused(%x, %y) : f32[2,3], f32[2,3] loc("block") func @body(%i: f32[2,3], %j: f32[2,3]) {
    %k = add(%i, %j) : f32[2,3] loc("block.add")
    %l = clip(%k) {lo=0.0, hi=6.0} : f32[2,3] loc("block.act")
    return(%k, %l)
  }
  %z = mul(%a, %b) : f32[2,3] loc("mul")
  %m = concat(%z, %a, %b) {axis=1} : f32[2,9] loc("cat")
  return(%m)
}
"""
QUANT = """
#q0 = quant {scale=[0.5], zero=[3]}
#q1 = quant {scale=[0.25], zero=[-7]}
func @quant(%x: i8[1,4]{q=#q0}, %y: i8[4,1]{q=#q1}) {
  %c = copy(%x) : i8[1,4]{q=#q0} loc("copy")
  %p = permute(%c) {perm=[1,0]} : i8[4,1]{q=#q0} loc("perm")
  %k = concat(%y, %y) {axis=1} : i8[4,2]{q=#q1} loc("cat")
  return(%p, %k)
}
"""
SIDECAR = {"w": np.ones((4, 3, 3, 3), np.float32)}
SOURCES = {"cnn": CNN, "fused": FUSED, "quant": QUANT}


def fresh(name: str) -> Graph:
    return parse_graph(SOURCES[name], SIDECAR)
