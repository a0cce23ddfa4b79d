// Which int8 sums may be scaled by float additions instead of conversions (RequantSmallNeon in base/requant_neon.h):
// the output's zero point is even, its clamp cuts nothing off, there is no residual, and of every channel
#pragma once
#include <stdint.h>

namespace irk {

constexpr double kSmallScaled = 32500;   // |sum| * m fits int16 with any zero point added
constexpr double kSmallSum = 4194303;    // |sum|, bias included, is below 2^22
constexpr float kSmallMagic = 12582912;  // 1.5 * 2^23: from 2^23 to 2^24 neighbouring floats differ by one

// What sums that are small altogether start from: the bits of kSmallMagic are added.
constexpr int32_t small_sum_bias(int32_t bias) {
  return static_cast<int32_t>(static_cast<uint32_t>(bias) + 0x4B400000u);
}

}  // namespace irk
