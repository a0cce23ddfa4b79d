// Lookup returns how many elements a vector kernel did; the rest goes one by one.
#pragma once
#include "qlut/qlut.h"

namespace {

struct PlainLookup {
  explicit PlainLookup(const uint8_t*) {}
  int64_t operator()(const uint8_t*, uint8_t*, int64_t) const { return 0; }
};

template <class Lookup>
void run_one(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QlutParams& p = *static_cast<const irk::QlutParams*>(params);
  const int64_t lo = begin * p.block, hi = end * p.block < p.n ? end * p.block : p.n;
  const uint8_t *x = static_cast<const uint8_t*>(bufs[0]) + lo, *t = p.tables;
  uint8_t* y = static_cast<uint8_t*>(bufs[2]) + lo;
  const Lookup lookup(t);
  for (int64_t i = lookup(x, y, hi - lo); i < hi - lo; i++) y[i] = t[x[i]];
}

[[maybe_unused]] inline void run_channel(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QlutParams& p = *static_cast<const irk::QlutParams*>(params);
  const uint8_t* x = static_cast<const uint8_t*>(bufs[0]);
  uint8_t* y = static_cast<uint8_t*>(bufs[2]);
  if (p.inner == 1) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t c = 0; c < p.channels; c++) y[i * p.channels + c] = p.tables[c * 256 + x[i * p.channels + c]];
    return;
  }
  for (int64_t row = begin; row < end; row++) {
    const uint8_t* t = p.tables + row % p.channels * 256;
    for (int64_t i = row * p.inner; i < (row + 1) * p.inner; i++) y[i] = t[x[i]];
  }
}

}  // namespace
