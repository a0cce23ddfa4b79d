// f32 reductions; V is one of base/vec_<isa>.h. The order of every sum depends on the shape only: along a kept
// innermost dimension chunks of kChunk rows, then the chunks; along a reduced one the lanes of base/fold.h, chunk by
// chunk.
#pragma once
#include "base/fold.h"
#include "reduce/walk.h"

namespace irk {
namespace {
namespace reduce_impl {

template <class V>
IRK_INLINE typename V::F finish(const Params& p, typename V::F v) {
  return p.op == mean ? V::div(v, V::set(p.count)) : v;
}

// K vectors side by side, every row of them; `part` lanes when not -1 (K = 1 then).
template <class V, class Op, int K>
IRK_INLINE void group(const Params& p, const float* x, float* y, int64_t part) {
  typedef typename V::F F;
  F acc[K], tot[K];
  for (int k = 0; k < K; ++k) tot[k] = V::set(Op::identity);
  Walk w;
  for (int64_t j = 0; j < p.red_count;) {
    const int64_t stop = p.red_count - j < kChunk ? p.red_count : j + kChunk;
    for (int k = 0; k < K; ++k) acc[k] = V::set(Op::identity);
    if (p.n_red == 1) {
      const float* r = x + j * p.red_stride[0];
      for (; j < stop; ++j, r += p.red_stride[0]) {
        for (int k = 0; k < K; ++k) acc[k] = Op::template join<V>(acc[k], load_some<V>(r + k * V::N, part));
      }
    } else {
      for (; j < stop; ++j, w.next(p)) {
        for (int k = 0; k < K; ++k) acc[k] = Op::template join<V>(acc[k], load_some<V>(x + w.at + k * V::N, part));
      }
    }
    for (int k = 0; k < K; ++k) tot[k] = Op::template join<V>(tot[k], acc[k]);
  }
  for (int k = 0; k < K; ++k) store_some<V>(y + k * V::N, finish<V>(p, tot[k]), part);
}

template <class V, class Op>
void columns(const Params& p, const float* x, float* y, int64_t width) {
  constexpr int K = 8;
  int64_t c = 0;
  for (; c + K * V::N <= width; c += K * V::N) group<V, Op, K>(p, x + c, y + c, -1);
  for (; c + V::N <= width; c += V::N) group<V, Op, 1>(p, x + c, y + c, -1);
  if (c < width) group<V, Op, 1>(p, x + c, y + c, width - c);
}

template <class V, class Op>
float along(const Params& p, const float* x) {
  Walk w;
  if (p.red_count * p.inner < kShort) {
    float acc = Op::identity;
    for (int64_t j = 0; j < p.red_count; ++j, w.next(p)) {
      for (int64_t i = 0; i < p.inner; ++i) acc = Lanes<V, Op>::one(acc, x[w.at + i]);
    }
    return acc;
  }
  Lanes<V, Op> acc, tot;
  acc.clear();
  tot.clear();
  int64_t since = 0;
  for (int64_t j = 0; j < p.red_count; ++j, w.next(p)) {
    for (int64_t i = 0; i < p.inner;) {
      const int64_t n = p.inner - i < kChunk * kLanes ? p.inner - i : kChunk * kLanes;
      const float* q = x + w.at + i;
      acc.take(n, [q](int64_t at, int64_t part) __attribute__((always_inline)) { return load_some<V>(q + at, part); });
      i += n;
      since += n;
      if (since >= kChunk * kLanes) {
        tot.join(acc);
        acc.clear();
        since = 0;
      }
    }
  }
  tot.join(acc);
  return tot.total();
}

template <class V, class Op>
void run_op(const Params& p, const float* x, float* y, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    if (p.inner_kept) {
      const int64_t row = item / p.blocks, c = item % p.blocks * kBlock;
      columns<V, Op>(p, x + kept_offset(p, row) + c, y + row * p.inner + c,
                     p.inner - c < kBlock ? p.inner - c : kBlock);
    } else {
      float t[V::N];
      V::store(t, finish<V>(p, V::set(along<V, Op>(p, x + kept_offset(p, item)))));
      y[item] = t[0];
    }
  }
}

template <class V>
void run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const Params& p = *static_cast<const Params*>(params);
  const float* x = static_cast<const float*>(bufs[0]);
  float* y = static_cast<float*>(bufs[1]);
  if (p.op == max) {
    run_op<V, MaxOp>(p, x, y, begin, end);
  } else if (p.op == min) {
    run_op<V, MinOp>(p, x, y, begin, end);
  } else {
    run_op<V, SumOp>(p, x, y, begin, end);
  }
}

}  // namespace reduce_impl
}  // namespace
}  // namespace irk
