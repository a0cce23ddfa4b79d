// Integer reductions: exact in any order, plain loops. Sums wrap.
#include <type_traits>

#include "base/types.h"
#include "reduce/walk.h"

namespace irk {
namespace {
namespace reduce_impl {

template <class T>
inline T join(int32_t op, T a, T b) {
  typedef typename std::make_unsigned<T>::type U;
  if (op == max) return a > b ? a : b;
  if (op == min) return a < b ? a : b;
  return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}

template <class T>
void run_int(const Params& p, const T* x, T* y, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    Walk w;
    if (p.inner_kept) {
      const int64_t row = item / p.blocks, c0 = item % p.blocks * kBlock;
      const int64_t width = p.inner - c0 < kBlock ? p.inner - c0 : kBlock;
      const T* from = x + kept_offset(p, row) + c0;
      T acc[kBlock];
      for (int64_t c = 0; c < width; ++c) acc[c] = from[c];
      w.next(p);
      for (int64_t j = 1; j < p.red_count; ++j, w.next(p)) {
        for (int64_t c = 0; c < width; ++c) acc[c] = join(p.op, acc[c], from[w.at + c]);
      }
      for (int64_t c = 0; c < width; ++c) y[row * p.inner + c0 + c] = acc[c];
    } else {
      const T* from = x + kept_offset(p, item);
      T acc = from[0];
      for (int64_t j = 0; j < p.red_count; ++j, w.next(p)) {
        for (int64_t i = j == 0 ? 1 : 0; i < p.inner; ++i) acc = join(p.op, acc, from[w.at + i]);
      }
      y[item] = acc;
    }
  }
}

}  // namespace reduce_impl
}  // namespace
}  // namespace irk

extern "C" void irk_reduce_int_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  using namespace irk;
  using reduce_impl::run_int;
  const reduce::Params& p = *static_cast<const reduce::Params*>(params);
  switch (static_cast<DType>(p.dtype)) {
    case DType::i8:
      return run_int(p, static_cast<const int8_t*>(bufs[0]), static_cast<int8_t*>(bufs[1]), begin, end);
    case DType::u8:
      return run_int(p, static_cast<const uint8_t*>(bufs[0]), static_cast<uint8_t*>(bufs[1]), begin, end);
    case DType::i32:
      return run_int(p, static_cast<const int32_t*>(bufs[0]), static_cast<int32_t*>(bufs[1]), begin, end);
    case DType::i64:
      return run_int(p, static_cast<const int64_t*>(bufs[0]), static_cast<int64_t*>(bufs[1]), begin, end);
    default:
      return;
  }
}
