// Conversions between element types: plain loops, which the compiler vectorises where it pays.
#include "base/types.h"
#include "eltwise/eltwise.h"

namespace irk {
namespace {

template <class T>
struct Limits;
#define IRK_LIMITS(T, lo_, hi_)                                                         \
  template <>                                                                           \
  struct Limits<T> {                                                                    \
    static constexpr T lo = lo_, hi = hi_;                                              \
    static constexpr double end = -static_cast<double>(lo_) + (lo_ == 0 ? 256.0 : 0.0); \
  }
IRK_LIMITS(int8_t, INT8_MIN, INT8_MAX);
IRK_LIMITS(uint8_t, 0, UINT8_MAX);
IRK_LIMITS(int16_t, INT16_MIN, INT16_MAX);
IRK_LIMITS(int32_t, INT32_MIN, INT32_MAX);
IRK_LIMITS(int64_t, INT64_MIN, INT64_MAX);
#undef IRK_LIMITS

template <class From>
constexpr bool is_float = false;
template <>
constexpr bool is_float<float> = true;
template <>
constexpr bool is_float<double> = true;

// Float to integer truncates and saturates, NaN becomes 0; integer to integer wraps; to bool is x != 0.
template <class From, class To>
inline To convert(From x) {
  if constexpr (is_float<From> && !is_float<To>) {
    if (!(x > static_cast<From>(Limits<To>::lo))) return x == x ? Limits<To>::lo : 0;
    return x >= static_cast<From>(Limits<To>::end) ? Limits<To>::hi : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

template <class From, class To>
void cast_block(const void* src, void* dst, int64_t first, int64_t n) {
  const From* s = static_cast<const From*>(src) + first;
  To* d = static_cast<To*>(dst) + first;
  for (int64_t i = 0; i < n; ++i) d[i] = convert<From, To>(s[i]);
}

// bool is stored as one byte, 0 or 1.
template <class From>
void to_bool(const void* src, void* dst, int64_t first, int64_t n) {
  const From* s = static_cast<const From*>(src) + first;
  uint8_t* d = static_cast<uint8_t*>(dst) + first;
  for (int64_t i = 0; i < n; ++i) d[i] = s[i] != 0;
}

template <class From>
void cast_from(DType to, const void* src, void* dst, int64_t first, int64_t n) {
  switch (to) {
    case DType::f32:
      return cast_block<From, float>(src, dst, first, n);
    case DType::f64:
      return cast_block<From, double>(src, dst, first, n);
    case DType::i8:
      return cast_block<From, int8_t>(src, dst, first, n);
    case DType::u8:
      return cast_block<From, uint8_t>(src, dst, first, n);
    case DType::i16:
      return cast_block<From, int16_t>(src, dst, first, n);
    case DType::i32:
      return cast_block<From, int32_t>(src, dst, first, n);
    case DType::i64:
      return cast_block<From, int64_t>(src, dst, first, n);
    case DType::boolean:
      return to_bool<From>(src, dst, first, n);
  }
}

void cast_any(DType from, DType to, const void* src, void* dst, int64_t first, int64_t n) {
  switch (from) {
    case DType::f32:
      return cast_from<float>(to, src, dst, first, n);
    case DType::f64:
      return cast_from<double>(to, src, dst, first, n);
    case DType::i8:
      return cast_from<int8_t>(to, src, dst, first, n);
    case DType::u8:
      return cast_from<uint8_t>(to, src, dst, first, n);
    case DType::i16:
      return cast_from<int16_t>(to, src, dst, first, n);
    case DType::i32:
      return cast_from<int32_t>(to, src, dst, first, n);
    case DType::i64:
      return cast_from<int64_t>(to, src, dst, first, n);
    case DType::boolean:
      return cast_from<uint8_t>(to, src, dst, first, n);
  }
}

}  // namespace
}  // namespace irk

extern "C" void irk_eltwise_cast_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::eltwise::CastParams& p = *static_cast<const irk::eltwise::CastParams*>(params);
  int64_t first = begin * p.block, last = end * p.block < p.count ? end * p.block : p.count;
  irk::cast_any(static_cast<irk::DType>(p.from), static_cast<irk::DType>(p.to), bufs[0], bufs[1], first, last - first);
}
