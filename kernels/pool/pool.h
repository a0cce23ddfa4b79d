// Pooling over [outer, H, W, inner]: the lanes of a vector are neighbours along inner (channels-last).
#pragma once
#include "pool/windows.h"

namespace irk {

constexpr int64_t kPoolBlock = 256;  // lanes of one work item

struct PoolParams {
  PoolShape shape;
  int64_t blocks;  // of kPoolBlock lanes
};

}  // namespace irk
