#include "base/vec_neon.h"

namespace {
using V = irk::VecNeon;
}
#include "conv/lanes.h"
#include "conv/generic.h"
#include "conv/winograd_kernel.h"

namespace {
constexpr irk::ConvTiles kT = irk::kConvNeon;
constexpr TileTable kTable = make_table<false, kT.rows[1], kT.rows[2], kT.rows[3], kT.rows[4]>();
}  // namespace

extern "C" void irk_conv_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run(kTable, bufs, params, begin, end);
}

extern "C" void irk_conv_winograd_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_winograd(kTable, bufs, params, begin, end);
}
