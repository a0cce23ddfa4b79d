// Walking the outer kept and reduced dimensions of a reduction.
#pragma once
#include "reduce/reduce.h"

namespace irk {
namespace {
namespace reduce_impl {

using namespace irk::reduce;

inline int64_t kept_offset(const Params& p, int64_t i) {
  int64_t at = 0;
  for (int k = p.n_kept - 1; k >= 0; --k) {
    at += i % p.kept_dim[k] * p.kept_stride[k];
    i /= p.kept_dim[k];
  }
  return at;
}

// Offsets of the outer reduced indices, in memory order.
struct Walk {
  int64_t idx[kMaxDims] = {0};
  int64_t at = 0;
  void next(const Params& p) {
    for (int k = p.n_red - 1; k >= 0; --k) {
      at += p.red_stride[k];
      if (++idx[k] < p.red_dim[k]) return;
      at -= p.red_dim[k] * p.red_stride[k];
      idx[k] = 0;
    }
  }
};

}  // namespace reduce_impl
}  // namespace
}  // namespace irk
