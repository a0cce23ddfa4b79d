#include "base/vec_avx512.h"

namespace {
using V = irk::VecAvx512;
}
#include "conv/broadcast.h"
#include "conv/few_kernel.h"
#include "conv/generic.h"
#include "conv/winograd_kernel.h"

namespace {
constexpr irk::ConvTiles kT = irk::kConvAvx512;
constexpr TileTable kNearTable = make_table<false, kT.rows[1], kT.rows[2], kT.rows[3], kT.rows[4]>();
constexpr TileTable kFarTable = make_table<true, kT.rows[1], kT.rows[2], kT.rows[3], kT.rows[4]>();
constexpr const int* kF = irk::kFewAvx512;
constexpr FewTable kFewTable = few_table<kF[1], kF[2], kF[3], kF[4]>(kF);
constexpr const int* kP = irk::kPlanarAvx512;
constexpr FewTable kPlanarTable = planar_table<1, kP[1], kP[2], kP[3], kP[4]>(kP);
constexpr FewTable kPairsTable = planar_table<2, kP[1], 0, 0, 0>(kP);
}  // namespace

extern "C" void irk_conv_f32_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const ConvParams& p = *static_cast<const ConvParams*>(params);
  if (p.few)
    return run_few(!p.few->planar     ? kFewTable
                   : p.few->pack == 2 ? kPairsTable
                                      : kPlanarTable,
                   bufs, *p.few, begin, end);
  run(p.prefetch ? kFarTable : kNearTable, bufs, params, begin, end);
}

extern "C" void irk_conv_winograd_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_winograd(static_cast<const WinogradParams*>(params)->prefetch ? kFarTable : kNearTable, bufs, params, begin, end);
}
