// The activation at the end of a float convolution or matrix product.
#pragma once
#include <stdint.h>

namespace irk {

// None and relu are clips; leaky_relu and prelu are `leaky` with a slope for every channel.
enum class Act : int32_t { clip = 0, leaky, hardswish };

struct ActParams {
  Act act;
  float lo, hi;  // clip; -inf and inf for the others
};

}  // namespace irk
