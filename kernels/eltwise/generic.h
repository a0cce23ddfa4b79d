// Runs elementwise programs; V is one of base/vec_<isa>.h.
#pragma once
#include <string.h>

#include "base/loops.h"
#include "eltwise/eltwise.h"

namespace irk {
namespace {
namespace eltwise_impl {

using namespace irk::eltwise;

template <class V, class Fn>
IRK_INLINE void loop2(const float* a, const float* b, float* d, int64_t n, const Instr& in, Fn fn) {
  typedef typename V::F F;
  if (in.b_scalar) {
    const F s = V::set(*b);
    map<V>(a, d, n, [s, fn](F x) __attribute__((always_inline)) { return fn(x, s); });
  } else if (in.a_scalar) {
    const F s = V::set(*a);
    map<V>(b, d, n, [s, fn](F x) __attribute__((always_inline)) { return fn(s, x); });
  } else {
    map2<V>(a, b, d, n, fn);
  }
}

template <class V>
void execute(const Instr& in, const float* const* val, float* d, int64_t n) {
  typedef typename V::F F;
  const float *a = val[in.a], *b = val[in.b];
  switch (in.op) {
#define IRK_CASE1(name, expr)                                                 \
  case op_##name:                                                             \
    map<V>(a, d, n, [](F x) __attribute__((always_inline)) { return expr; }); \
    break
#define IRK_CASE2(name, expr)                                                               \
  case op_##name:                                                                           \
    loop2<V>(a, b, d, n, in, [](F x, F y) __attribute__((always_inline)) { return expr; }); \
    break
    IRK_CASE1(copy, x);
    IRK_CASE1(relu, vmath::relu<V>(x));
    IRK_CASE1(neg, vmath::neg<V>(x));
    IRK_CASE1(abs, vmath::abs<V>(x));
    IRK_CASE1(exp, vmath::exp<V>(x));
    IRK_CASE1(log, vmath::log<V>(x));
    IRK_CASE1(sqrt, V::sqrt(x));
    IRK_CASE1(rsqrt, V::div(V::set(1.0f), V::sqrt(x)));
    IRK_CASE1(reciprocal, V::div(V::set(1.0f), x));
    IRK_CASE1(sigmoid, vmath::sigmoid<V>(x));
    IRK_CASE1(tanh, vmath::tanh<V>(x));
    IRK_CASE1(erf, vmath::erf<V>(x));
    IRK_CASE1(silu, vmath::silu<V>(x));
    IRK_CASE1(hardsigmoid, vmath::hardsigmoid<V>(x));
    IRK_CASE1(hardswish, vmath::hardswish<V>(x));
    IRK_CASE1(softplus, vmath::softplus<V>(x));
    IRK_CASE1(mish, vmath::mish<V>(x));
    IRK_CASE1(sign, vmath::sign<V>(x));
    IRK_CASE1(floor, V::floor(x));
    IRK_CASE1(ceil, V::ceil(x));
    IRK_CASE1(square, V::mul(x, x));
    IRK_CASE1(gelu, vmath::gelu<V>(x));
    IRK_CASE1(gelu_tanh, vmath::gelu_tanh<V>(x));
    IRK_CASE2(add, V::add(x, y));
    IRK_CASE2(sub, V::sub(x, y));
    IRK_CASE2(mul, V::mul(x, y));
    IRK_CASE2(div, V::div(x, y));
    IRK_CASE2(maximum, vmath::maximum<V>(x, y));
    IRK_CASE2(minimum, vmath::minimum<V>(x, y));
    IRK_CASE2(leaky, vmath::leaky<V>(x, y));
    IRK_CASE2(elu, vmath::elu<V>(x, y));
#undef IRK_CASE1
#undef IRK_CASE2
    case op_pow:
      for (int64_t i = 0; i < n; ++i) d[i] = vmath::pow1(in.a_scalar ? *a : a[i], in.b_scalar ? *b : b[i]);
      break;
    case op_clip: {
      const F lo = V::set(*b), hi = V::set(*val[in.c]);
      map<V>(a, d, n, [lo, hi](F x) __attribute__((always_inline)) { return vmath::clip<V>(x, lo, hi); });
      break;
    }
    default:
      break;
  }
}

// rows x cols of a strided operand, made contiguous.
template <class V>
void line_up(const float* p, int64_t s1, int64_t s0, int64_t rows, int64_t cols, float* d) {
  for (int64_t r = 0; r < rows; ++r, p += s1, d += cols) {
    if (s0 == 1) {
      map<V>(p, d, cols, [](typename V::F x) { return x; });
    } else {
      for (int64_t c = 0; c < cols; ++c) d[c] = p[c * s0];
    }
  }
}

template <class V>
void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const Params& p = *static_cast<const Params*>(params);
  float* out = static_cast<float*>(bufs[p.n_in]);
  float* scratch = static_cast<float*>(bufs[p.n_in + 1]);
  const float* val[kMaxInputs + kMaxInstrs + kMaxImms];
  const float* lined[kMaxInputs];  // what a slot holds: the address it was copied from, and how much
  int64_t lined_n[kMaxInputs];
  for (int i = 0; i < p.n_in; ++i) {
    lined[i] = nullptr;
    lined_n[i] = 0;
  }
  const int n_val = p.n_in + p.n_instr;
  for (int i = 0; i < p.n_instr; ++i) val[p.n_in + i] = scratch + p.code[i].slot * p.slot_floats;
  for (int i = 0; i < p.n_imm; ++i) val[n_val + i] = p.imm + i;
  const int64_t tiles = p.tiles_r * p.tiles_c;
  for (int64_t item = begin; item < end; ++item) {
    int64_t outer = item / tiles, t = item % tiles;
    const int64_t r0 = t / p.tiles_c * p.tile_rows, c0 = t % p.tiles_c * p.tile_cols;
    const int64_t rows = p.rows - r0 < p.tile_rows ? p.rows - r0 : p.tile_rows;
    const int64_t cols = p.cols - c0 < p.tile_cols ? p.cols - c0 : p.tile_cols;
    const int64_t n = rows * cols;
    float* dst = out + (outer * p.rows + r0) * p.cols + c0;
    int64_t idx[kMaxOuter];
    for (int k = p.n_outer - 1; k >= 0; --k) {
      idx[k] = outer % p.outer_dims[k];
      outer /= p.outer_dims[k];
    }
    for (int i = 0; i < p.n_in; ++i) {
      const Operand& o = p.in[i];
      const float* src = static_cast<const float*>(bufs[i]) + r0 * o.s1 + c0 * o.s0;
      for (int k = 0; k < p.n_outer; ++k) src += idx[k] * o.outer[k];
      if (o.mode == lined_up) {
        float* slot = scratch + o.slot * p.slot_floats;
        if (lined[i] != src || lined_n[i] < n) {
          line_up<V>(src, o.s1, o.s0, rows, cols, slot);
          lined[i] = src;
          lined_n[i] = n;
        }
        src = slot;
      }
      val[i] = src;
    }
    for (int i = 0; i + 1 < p.n_instr; ++i) {
      execute<V>(p.code[i], val, scratch + p.code[i].slot * p.slot_floats, n);
    }
    execute<V>(p.code[p.n_instr - 1], val, dst, n);
  }
}

}  // namespace eltwise_impl
}  // namespace
}  // namespace irk
