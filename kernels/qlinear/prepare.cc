// qlinear: in x i8 [..., K], w i8 [O, K], bias i32 [O]?, m f32 [O], residual i8 [..., O]?; out i8 or f32 [..., O].
// attrs zx zy zr mr lo hi. A 1x1 convolution over the rows: runs the kernels of qconv.
#include "qconv/qconv.h"

namespace irk {

Status irk_prepare_qlinear(StepContext& ctx, PreparedStep* out) {
  QConvShape s;
  if (ctx.n_in < 1 || !ctx.in[0]) return fail(Code::bad_file, "%s: input 0 is missing", ctx.loc);
  const int rank = ctx.in[0]->rank;
  IRK_TRY(qconv_read_common(ctx, rank, 2, &s));
  const Tensor &x = *ctx.in[0], &y = *ctx.out[0];
  s.ic = ctx.in[1]->dims[1];
  bool fits = rank >= 1 && x.dims[rank - 1] == s.ic && y.dims[rank - 1] == s.oc;
  for (int i = 0; fits && i + 1 < rank; i++) fits = x.dims[i] == y.dims[i];
  if (!fits) return fail(Code::bad_file, "%s: input, weights and output do not fit together", ctx.loc);
  s.iw = s.ow = x.count / s.ic;
  return qconv_build(ctx, s, true, out);
}

}  // namespace irk
