// Whole numbers, as planning needs them. Nothing for ISA files: what they use must be their own.
#pragma once
#include "base/types.h"

namespace irk {
namespace {

constexpr int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

}  // namespace
}  // namespace irk
