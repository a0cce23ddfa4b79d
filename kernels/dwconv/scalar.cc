#include "base/vec_scalar.h"

namespace {
using V = irk::VecScalar;
}
#if defined(__OPTIMIZE_SIZE__)
#include "dwconv/generic.h"
namespace {
Kernels choose(const DwParams&) { return kAny; }
}  // namespace
#else
#include "dwconv/fixed.h"
#endif

extern "C" void irk_dwconv_f32_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_rows(bufs, params, begin, end, choose(*static_cast<const DwParams*>(params)));
}
