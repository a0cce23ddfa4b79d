// Limits on what a file may ask for. Constants, so that no file can move them.
#pragma once
#include <stdint.h>

namespace irk {

constexpr int64_t kMaxHeaderBytes = 16 << 20;  // safetensors header
constexpr int64_t kMaxPlanBytes = 64 << 20;    // plan JSON
constexpr int64_t kMaxDim = INT64_C(1) << 31;  // one dimension
constexpr int64_t kMaxTensorBytes = INT64_C(1) << 36;
constexpr int64_t kMaxArenaBytes = INT64_C(1) << 36;
constexpr int64_t kMaxScratchBytes = INT64_C(1) << 32;  // one thread's scratch in a step
constexpr int64_t kMaxTensors = 1 << 18;
constexpr int64_t kMaxSteps = 1 << 17;
constexpr int64_t kMaxPorts = 4096;  // inputs, outputs
constexpr int64_t kMaxNameBytes = 1024;

}  // namespace irk
