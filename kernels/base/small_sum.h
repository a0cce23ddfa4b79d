// Which int8 sums may be scaled by float additions instead of conversions (see base/requant_neon.h).
#pragma once
#include <stdint.h>

namespace irk {

constexpr double kSmallSum = 4194303;    // largest |sum|, bias included: below 2^22
constexpr double kSmallScaled = 32500;   // largest |sum| * m: fits int16 with any zero point added
constexpr float kSmallMagic = 12582912;  // 1.5 * 2^23: neighbouring floats differ by one from 2^23 to 2^24

// The bias with the bits of kSmallMagic added.
constexpr int32_t small_sum_bias(int32_t bias) { return bias + 0x4B400000; }

}  // namespace irk
