// Which form of epilogue a layer may have (QForm), and what makes more layers fit the quickest.
#pragma once
#include <math.h>

#include "base/ints.h"
#include "qconv/pack.h"

namespace irk {

// What any input may give: sums of a channel with weights of such sums.
struct QSumRange {
  int64_t least, most;
  QSumRange(const QWeightSums& w, int64_t bias, int64_t zx) {
    const int64_t positive = (w.magnitude + w.plain) / 2, negative = w.magnitude - positive;
    const int64_t least_x = -128 - zx, most_x = 127 - zx;
    least = bias + positive * least_x - negative * most_x;
    most = bias + positive * most_x - negative * least_x;
  }
  bool liftable() const { return least > -kQConvLiftable && most < kQConvLiftable; }
};

// A channel whose outputs are all the same, with sums too large to be lifted (a dead one, say, with a huge bias):
// another bias and multiplier, which give that output too. The output's form is low.
inline void qconv_shrink_constant(const QSumRange& range, int64_t* bias, float* m) {
  const auto output = [m](int64_t sum) {
    const float y = nearbyintf(static_cast<float>(sum) * *m);
    return y > 255 ? 255 : y > 0 ? static_cast<int64_t>(y) : 0;
  };
  const int64_t y = output(range.least), spread = max64(range.most - *bias, *bias - range.least);
  if (range.liftable() || *m < 0 || y != output(range.most)) return;
  if (spread >= kQConvLiftable / 2 || y * spread >= kQConvLiftable / 8) return;  // within a quarter of y
  *bias = kQConvLiftable / 2;
  *m = static_cast<float>(y) / static_cast<float>(kQConvLiftable / 2);
}

inline bool qconv_may_be_low(const QConvShape& s, Isa isa) {
#if defined(__x86_64__)
  const bool has_forms = isa == Isa::amx || isa == Isa::avx512vnni || isa == Isa::avx512;
#else
  constexpr bool has_forms = false;
  (void)isa;
#endif
  return has_forms && !s.f32 && s.zy == -128 && s.lo == -128 && s.hi == 127;
}

inline bool qconv_liftable_scale(float m) { return m == 0 || m >= kQConvLeastScale; }

inline int32_t qconv_lifted(int32_t bias) { return static_cast<int32_t>(static_cast<uint32_t>(bias) + kQConvLift); }

// liftable: the sums and scales of all channels are.
inline QForm qconv_form(const QConvShape& s, Isa isa, bool wide, bool liftable) {
  if (wide || !qconv_may_be_low(s, isa)) return QForm::plain;
  const bool lifted = s.residual ? s.zr == -128 && fabsf(s.mr) >= kQConvLeastScale : liftable;
  return lifted ? QForm::lifted : QForm::low;
}

}  // namespace irk
