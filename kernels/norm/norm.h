// Layer normalisation of rows x n.
#pragma once
#include <stdint.h>

namespace irk {
namespace norm {

struct Params {
  int64_t rows, n;
  float eps;
};

}  // namespace norm
}  // namespace irk
