// testing: the family of the C++ tests (built with IRKIT_TESTS only). y = factor * x + item, through the scratch.
#pragma once
#include <stdint.h>

namespace irk {

struct TestingParams {
  int64_t count, scratch;  // scratch in floats
  float factor;
  int n_in;
};

}  // namespace irk
