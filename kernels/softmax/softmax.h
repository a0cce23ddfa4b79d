// softmax over the middle of [outer, n, inner].
#pragma once
#include <stdint.h>

namespace irk {
namespace softmax {

constexpr int64_t kBlock = 256;   // inner > 1: positions of one work item
constexpr float kLeast = -80.0f;  // exp of less counts as 0

struct Params {
  int64_t outer, n, inner;
  int64_t blocks;  // work items per outer index when inner > 1
  int32_t log;
};

}  // namespace softmax
}  // namespace irk
