// The loops of AVX2 and AVX-512, which differ in nothing but the vectors. An ISA file defines V: types F (floats) and I
// (whole numbers), and the operations on them.
#pragma once
#include "peaks/chain.h"
#include "base/types.h"

namespace {

void peak_fp32(int64_t rounds) {
  V::F a = V::floats(0.999f), b = V::floats(1e-3f);
#define DEFINE(i) V::F c##i = V::floats(i);
  IRK_12(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
#define STEP(i)              \
  c##i = V::fma(a, b, c##i); \
  IRK_OPAQUE(c##i);
    IRK_12(STEP)
#undef STEP
  }
}

// Bytes widened to 16 bits: a product of pairs and an addition of 32-bit sums.
void peak_int8(int64_t rounds) {
  V::I a = V::shorts(3), b = V::shorts(5);
#define DEFINE(i) V::I c##i = V::ints(i);
  IRK_12(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
    IRK_OPAQUE(a);
#define STEP(i)             \
  {                         \
    V::I p = V::madd(a, b); \
    IRK_OPAQUE(p);          \
    c##i = V::add(c##i, p); \
    IRK_OPAQUE(c##i);       \
  }
    IRK_12(STEP)
#undef STEP
  }
}

int64_t peak_read(const void* data, int64_t bytes, int64_t rounds) {
  const V::I* p = static_cast<const V::I*>(data);
#define DEFINE(i) V::I s##i = V::ints(0);
  IRK_8(DEFINE)
#undef DEFINE
  for (int64_t r = 0; r < rounds; r++)
    for (int64_t i = 0; i < bytes / static_cast<int64_t>(sizeof(V::I)); i += 8) {
#define STEP(k)                               \
  s##k = V::either(s##k, V::load(p + i + k)); \
  IRK_OPAQUE(s##k);
      IRK_8(STEP)
#undef STEP
    }
#define JOIN(k) s0 = V::either(s0, s##k);
  IRK_8(JOIN)
#undef JOIN
  return V::low(s0);
}

}  // namespace
