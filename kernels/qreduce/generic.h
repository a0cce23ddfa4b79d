// Integer sums are exact in any order, so lanes run along the outputs where these are neighbours in the input (global
// pooling of channels-last data), else along the summed axis.
#pragma once
#include "base/lanes.h"
#include "qreduce/qreduce.h"

namespace {

using irk::QreduceParams;

// f(input offset) for every index of the summed axes but the innermost.
template <class Fn>
void each_sum_row(const QreduceParams& p, Fn f) {
  int64_t idx[irk::kMaxRank] = {}, at = 0;
  for (;;) {
    f(at);
    int k = p.sum_rank - 1;
    for (; k >= 0; k--) {
      at += p.sum_strides[k];
      if (++idx[k] < p.sum_dims[k]) break;
      at -= p.sum_strides[k] * p.sum_dims[k];
      idx[k] = 0;
    }
    if (k < 0) return;
  }
}

template <class L>
void finish(const QreduceParams& p, typename L::I sum, int8_t* y) {
  const typename L::F lo = L::set(static_cast<float>(-128 - p.zy)), hi = L::set(static_cast<float>(127 - p.zy));
  const typename L::F f = L::mul(L::to_f(L::addi(sum, L::seti(p.bias))), L::set(p.m));
  L::store8(y, L::addi(L::rint(L::clamp(f, lo, hi)), L::seti(p.zy)));
}

// V vectors of neighbouring outputs.
template <class L, int V>
void mean_lanes(const QreduceParams& p, const int8_t* x, int8_t* y) {
  typename L::I acc[V];
  for (int v = 0; v < V; v++) acc[v] = L::seti(0);
  each_sum_row(p, [&](int64_t at) {
    const int8_t* row = x + at;
    for (int64_t j = 0; j < p.sum_n; j++, row += p.sum_step)
      for (int v = 0; v < V; v++) acc[v] = L::addi(acc[v], L::load8(row + v * L::N));
  });
  for (int v = 0; v < V; v++) finish<L>(p, acc[v], y + v * L::N);
}

inline int32_t sum_bytes(const int8_t* x, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i];
  return sum;
}

void mean_one(const QreduceParams& p, const int8_t* x, int8_t* y) {
  int32_t sum = 0;
  each_sum_row(p, [&](int64_t at) {
    if (p.sum_step == 1)
      sum += sum_bytes(x + at, p.sum_n);
    else
      for (int64_t j = 0; j < p.sum_n; j++) sum += x[at + j * p.sum_step];
  });
  finish<One>(p, sum, y);
}

template <class L>
void run_qreduce(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QreduceParams& p = *static_cast<const QreduceParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  int8_t* y = static_cast<int8_t*>(bufs[1]);
  for (int64_t item = begin; item < end; item++) {
    const int64_t row = item / p.blocks, lane = item % p.blocks * irk::kQreduceBlock;
    const int64_t n = p.n - lane < irk::kQreduceBlock ? p.n - lane : irk::kQreduceBlock;
    int64_t at = lane * p.step;
    for (int64_t k = p.rank - 1, r = row; k >= 0; k--) {
      at += r % p.dims[k] * p.strides[k];
      r /= p.dims[k];
    }
    int8_t* to = y + row * p.n + lane;
    int64_t i = 0;
    if (p.step == 1) {
      for (; i + 4 * L::N <= n; i += 4 * L::N) mean_lanes<L, 4>(p, x + at + i, to + i);
      for (; i + L::N <= n; i += L::N) mean_lanes<L, 1>(p, x + at + i, to + i);
    }
    for (; i < n; i++) mean_one(p, x + at + i * p.step, to + i);
  }
}

}  // namespace

#define IRK_QREDUCE(isa, L)                                                                                 \
  extern "C" void irk_qreduce_s8_##isa(void* const* bufs, const void* params, int64_t begin, int64_t end) { \
    run_qreduce<L>(bufs, params, begin, end);                                                               \
  }
