// int8 elementwise arithmetic over the lanes of any ISA. Each element: exact integers, then float32 operations that
// round once each, so lanes and tails agree bit for bit.
#pragma once
#include "base/lanes.h"
#include "qeltwise/qeltwise.h"
#include "qeltwise/quantize.h"

namespace {

using irk::QeltwiseParams;

// Float result -> int8: clamp first (bounds are integers, so it commutes with rounding), then round.
template <class L>
struct Rounder {
  typename L::F lo, hi;
  typename L::I zy;
  explicit Rounder(int32_t zero, int32_t min, int32_t max)
      : lo(L::set(static_cast<float>(min - zero))), hi(L::set(static_cast<float>(max - zero))), zy(L::seti(zero)) {}
  typename L::I operator()(typename L::F v) const { return L::addi(L::rint(L::clamp(v, lo, hi)), zy); }
};

template <class L>
struct AddOp {
  typename L::F ma, mb;
  typename L::I za, zb;
  Rounder<L> round;
  explicit AddOp(const QeltwiseParams& p)
      : ma(L::set(p.ma)), mb(L::set(p.mb)), za(L::seti(p.za)), zb(L::seti(p.zb)), round(p.zy, p.lo, p.hi) {}
  typename L::I operator()(typename L::I a, typename L::I b) const {
    return round(L::add(L::mul(L::to_f(L::subi(a, za)), ma), L::mul(L::to_f(L::subi(b, zb)), mb)));
  }
};

template <class L>
struct MulOp {
  typename L::F m;
  typename L::I za, zb;
  Rounder<L> round;
  explicit MulOp(const QeltwiseParams& p)
      : m(L::set(p.ma)), za(L::seti(p.za)), zb(L::seti(p.zb)), round(p.zy, p.lo, p.hi) {}
  typename L::I operator()(typename L::I a, typename L::I b) const {
    return round(L::mul(L::to_f(L::muli(L::subi(a, za), L::subi(b, zb))), m));
  }
};

// Walks items: f(row index, offset of a, offset of b, offset in the output, first lane, lanes).
template <class Fn>
void each_block(const QeltwiseParams& p, int64_t begin, int64_t end, Fn f) {
  int64_t idx[irk::kMaxRank];
  int64_t row = begin / p.blocks, block = begin % p.blocks, a = 0, b = 0;
  for (int64_t k = p.rank - 1, r = row; k >= 0; k--) {
    idx[k] = r % p.dims[k];
    r /= p.dims[k];
    a += idx[k] * p.sa[k];
    b += idx[k] * p.sb[k];
  }
  for (int64_t item = begin; item < end; item++) {
    const int64_t lo = block * p.block, n = p.n - lo < p.block ? p.n - lo : p.block;
    f(row, a + lo * p.step_a, b + lo * p.step_b, row * p.n + lo, lo, n);
    if (++block < p.blocks) continue;
    block = 0;
    row++;
    for (int k = p.rank - 1; k >= 0; k--) {
      a += p.sa[k];
      b += p.sb[k];
      if (++idx[k] < p.dims[k]) break;
      a -= p.sa[k] * p.dims[k];
      b -= p.sb[k] * p.dims[k];
      idx[k] = 0;
    }
  }
}

// n elements as a contiguous run: the operand itself or a copy in tmp.
inline const int8_t* contiguous(const int8_t* x, int64_t step, int64_t n, int8_t* tmp) {
  if (step == 1) return x;
  for (int64_t i = 0; i < n; i++) tmp[i] = x[i * step];
  return tmp;
}

template <class L, class Op>
void run_binary(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  const int8_t *a = static_cast<const int8_t*>(bufs[0]), *b = static_cast<const int8_t*>(bufs[1]);
  int8_t* y = static_cast<int8_t*>(bufs[2]);
  const Op op(p);
  each_block(p, begin, end, [&](int64_t, int64_t oa, int64_t ob, int64_t oy, int64_t, int64_t n) {
    int8_t ta[irk::kQeltwiseBlock], tb[irk::kQeltwiseBlock];
    const int8_t *xa = contiguous(a + oa, p.step_a, n, ta), *xb = contiguous(b + ob, p.step_b, n, tb);
    int64_t i = 0;
    for (; i + L::N <= n; i += L::N) L::store8(y + oy + i, op(L::load8(xa + i), L::load8(xb + i)));
    if (i < n) {
      const size_t rest = static_cast<size_t>(n - i);
      int8_t ra[L::N] = {}, rb[L::N] = {}, ry[L::N];
      memcpy(ra, xa + i, rest);
      memcpy(rb, xb + i, rest);
      L::store8(ry, op(L::load8(ra), L::load8(rb)));
      memcpy(y + oy + i, ry, rest);
    }
  });
}

template <class L>
void run_requantize(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  int8_t* y = static_cast<int8_t*>(bufs[1]);
  const typename L::I zx = L::seti(p.za);
  const typename L::F m = L::set(p.ma);
  const Rounder<L> round(p.zy, p.lo, p.hi);
  const auto one = [&](const int8_t* from, int8_t* to) {
    L::store8(to, round(L::mul(L::to_f(L::subi(L::load8(from), zx)), m)));
  };
  each_block(p, begin, end, [&](int64_t, int64_t, int64_t, int64_t o, int64_t, int64_t n) {
    int64_t i = 0;
    for (; i + L::N <= n; i += L::N) one(x + o + i, y + o + i);
    if (i < n) {
      const size_t rest = static_cast<size_t>(n - i);
      int8_t rx[L::N] = {}, ry[L::N];
      memcpy(rx, x + o + i, rest);
      one(rx, ry);
      memcpy(y + o + i, ry, rest);
    }
  });
}

// The multipliers and zero points of `count` lanes from `lane` on.
template <class L>
struct Scale {
  typename L::F m;
  typename L::I z;
  Scale(const QeltwiseParams& p, int64_t row) {
    const int64_t c = p.m && !p.per_lane ? row % p.channels : 0;
    m = L::set(p.m && !p.per_lane ? p.m[c] : p.ma);
    z = L::seti(p.m && !p.per_lane ? p.z[c] : p.za);
  }
  void lanes(const QeltwiseParams& p, int64_t lane, int64_t count) {
    if (!p.per_lane) return;
    if (count >= L::N) {
      m = L::load(p.m + lane);
      z = L::loadi(p.z + lane);
      return;
    }
    float tm[L::N] = {};
    int32_t tz[L::N] = {};
    memcpy(tm, p.m + lane, static_cast<size_t>(count) * sizeof(float));
    memcpy(tz, p.z + lane, static_cast<size_t>(count) * sizeof(int32_t));
    m = L::load(tm);
    z = L::loadi(tz);
  }
};

// n < kStep values.
template <class L>
void quantize_part(const Quantizer<L>& q, const float* x, int64_t n, int8_t* y) {
  float rx[Quantizer<L>::kStep] = {};
  memcpy(rx, x, static_cast<size_t>(n) * sizeof(float));
  q(rx, y);
}

constexpr int64_t kAhead = 1024;  // floats: a page, beyond which no CPU fetches by itself

// n pixels of planes that are `plane` apart.
template <class L>
void quantize_pixels(const Quantizer<L>& q, int64_t planes, const float* x, int64_t plane, int64_t n, int8_t* y) {
  constexpr int64_t S = Quantizer<L>::kStep;
  int64_t i = 0;
  if (planes == 3)
    for (; i + S <= n; i += S) {
      for (int c = 0; S >= 16 && c < 3; c++)
        for (int k = 0; k < S; k += 16) __builtin_prefetch(x + c * plane + i + k + kAhead, 0, 3);
      q.triples(x + i, plane, y + 3 * i);
    }
  for (; i < n; i += S) {
    const int64_t count = n - i < S ? n - i : S;
    for (int64_t c = 0; c < planes; c++) {
      int8_t t[S];
      const float* from = x + c * plane + i;
      if (count == S) {
        q(from, t);
      } else {
        quantize_part(q, from, count, t);
      }
      for (int64_t k = 0; k < count; k++) y[(i + k) * planes + c] = t[k];
    }
  }
}

// one(scale, from, to) for each vector; the last one of a row, in part, by way of buffers.
template <class L, class From, class To, class F>
IRK_INLINE void each_vector(const QeltwiseParams& p, const From* x, To* y, int64_t begin, int64_t end, const F& one) {
  each_block(p, begin, end, [&](int64_t row, int64_t, int64_t, int64_t o, int64_t lane, int64_t n) {
    Scale<L> s(p, row);
    int64_t i = 0;
    for (; i + L::N <= n; i += L::N) {
      s.lanes(p, lane + i, L::N);
      one(s, x + o + i, y + o + i);
    }
    if (i < n) {
      const size_t rest = static_cast<size_t>(n - i);
      From rx[L::N] = {};
      To ry[L::N];
      memcpy(rx, x + o + i, rest * sizeof(From));
      s.lanes(p, lane + i, n - i);
      one(s, rx, ry);
      memcpy(y + o + i, ry, rest * sizeof(To));
    }
  });
}

template <class L>
void run_quantize_lanes(const QeltwiseParams& p, const float* x, int8_t* y, int64_t begin, int64_t end) {
  // Beyond +-256 any zero point saturates; so far rint is exact.
  const typename L::F far_lo = L::set(-256.0f), far_hi = L::set(256.0f);
  const typename L::I lo = L::seti(-128), hi = L::seti(127);
  each_vector<L>(p, x, y, begin, end, [&](const Scale<L>& s, const float* from, int8_t* to) {
    const typename L::F v = L::clamp(L::nan_to_zero(L::mul(L::load(from), s.m)), far_lo, far_hi);
    L::store8(to, L::clampi(L::addi(L::rint(v), s.z), lo, hi));
  });
}

template <class L>
void run_quantize(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  const float* x = static_cast<const float*>(bufs[0]);
  int8_t* y = static_cast<int8_t*>(bufs[p.n_in]);
  if (p.per_lane) return run_quantize_lanes<L>(p, x, y, begin, end);
  each_block(p, begin, end, [&](int64_t row, int64_t, int64_t, int64_t o, int64_t lane, int64_t n) {
    const Quantizer<L> q(p.m ? p.m[row % p.channels] : p.ma, p.m ? p.z[row % p.channels] : p.za);
    if (p.planes) return quantize_pixels(q, p.planes, x + row * p.planes * p.n + lane, p.n, n, y + o * p.planes);
    constexpr int64_t S = Quantizer<L>::kStep;
    int64_t i = 0;
    for (; i + S <= n; i += S) q(x + o + i, y + o + i);
    if (i >= n) return;
    int8_t rest[S];
    quantize_part(q, x + o + i, n - i, rest);
    memcpy(y + o + i, rest, static_cast<size_t>(n - i));
  });
}

template <class L>
void run_dequantize(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QeltwiseParams& p = *static_cast<const QeltwiseParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  float* y = static_cast<float*>(bufs[p.n_in]);
  each_vector<L>(p, x, y, begin, end, [&](const Scale<L>& s, const int8_t* from, float* to) {
    L::store(to, L::mul(L::to_f(L::subi(L::load8(from), s.z)), s.m));
  });
}

}  // namespace

#define IRK_QELTWISE(op, isa, fn)                                                                                \
  extern "C" void irk_qeltwise_##op##_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    fn(bufs, params, begin, end);                                                                                \
  }
#define IRK_QELTWISE_ALL(isa, L)                    \
  IRK_QELTWISE(quantize, isa, run_quantize<L>)      \
  IRK_QELTWISE(dequantize, isa, run_dequantize<L>)  \
  IRK_QELTWISE(requantize, isa, run_requantize<L>)  \
  IRK_QELTWISE(add, isa, (run_binary<L, AddOp<L>>)) \
  IRK_QELTWISE(mul, isa, (run_binary<L, MulOp<L>>))
