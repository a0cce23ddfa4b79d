#include <arm_neon.h>

#include "qlut/generic.h"

namespace {

// Four table lookups of 64 bytes; an index out of range leaves the lane as it is.
struct Lookup {
  uint8x16x4_t t[4];
  explicit Lookup(const uint8_t* table) {
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++) t[i].val[j] = vld1q_u8(table + 64 * i + 16 * j);
  }
  int64_t operator()(const uint8_t* x, uint8_t* y, int64_t n) const {
    const uint8x16_t next = vdupq_n_u8(64);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      uint8x16_t v = vld1q_u8(x + i);
      uint8x16_t r = vqtbl4q_u8(t[0], v);
      for (int k = 1; k < 4; k++) {
        v = vsubq_u8(v, next);
        r = vqtbx4q_u8(r, t[k], v);
      }
      vst1q_u8(y + i, r);
    }
    return i;
  }
};

}  // namespace

extern "C" void irk_qlut_one_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_one<Lookup>(bufs, params, begin, end);
}
