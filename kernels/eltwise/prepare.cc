// eltwise: f32 programs over broadcast operands, and casts.
//
// Step: inputs f32 of any shape, one f32 output, 1 to 16 inputs. Attributes:
//   code     flat list of [op, a, b, c] per instruction (ops.inc); unused operands 0. Operand v >= 0 is input v, or
//   from
//            n_in on the result of instruction v - n_in; v < 0 is immediate -1 - v. The last instruction is the result.
//   imm      immediates as the bit patterns of f32 numbers (so that inf and every rounding survive)
//   strides  per input, per axis of the output in memory order: stride in elements, 0 where it is broadcast
// A step without `code` is a cast: one input and one output with the same elements in the same order.
#include "eltwise/eltwise.h"

#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

using namespace eltwise;

constexpr int64_t kTileBytes = 24 * 1024;  // what a tile's values may fill of L1
constexpr int64_t kMaxTile = 8192;
constexpr int64_t kWorthAThread = 32768;  // additions

struct OpInfo {
  int operands, cost;
};

bool op_info(int64_t op, OpInfo* out) {
  switch (op) {
#define IRK_ELT(code, name, operands, cost) \
  case code:                                \
    *out = {operands, cost};                \
    return true;
#include "eltwise/ops.inc"
#undef IRK_ELT
    default:
      return false;
  }
}

Status prepare_cast(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in != 1 || !ctx.in[0] || ctx.in[0]->count != ctx.out[0]->count) {
    return fail(Code::bad_file, "%s: cast wants one input with the output's %lld elements", ctx.loc,
                static_cast<long long>(ctx.out[0]->count));
  }
  CastParams* p = static_cast<CastParams*>(ctx.alloc->alloc(sizeof(CastParams)));
  if (!p) return fail(Code::out_of_memory, "%s: eltwise parameters", ctx.loc);
  *p = {ctx.out[0]->count, 4096, static_cast<int32_t>(ctx.in[0]->dtype), static_cast<int32_t>(ctx.out[0]->dtype)};
  step->fn = pick_kernel("eltwise", "cast", ctx.isa)->fn;
  step->params = p;
  step->items = (p->count + p->block - 1) / p->block;
  step->grain = 8;
  step->kernel = "eltwise.cast.scalar";
  return Status();
}

// Reads and checks code and imm; instruction operands become indices into inputs, results, immediates.
Status read_program(StepContext& ctx, Params* p, int64_t* cost) {
  int64_t code[4 * kMaxInstrs], imm[kMaxImms];
  int n_code = 0, n_imm = 0;
  IRK_TRY(ctx.attr_ints_n("code", 4 * kMaxInstrs, -kMaxImms, 4 * kMaxInstrs, code, &n_code));
  IRK_TRY(ctx.attr_ints_n("imm", kMaxImms, INT32_MIN, INT32_MAX, imm, &n_imm));
  if (n_code == 0 || n_code % 4) return fail(Code::bad_file, "%s: code holds %d numbers, not 4 each", ctx.loc, n_code);
  p->n_in = ctx.n_in;
  p->n_instr = n_code / 4;
  p->n_imm = n_imm;
  for (int i = 0; i < n_imm; ++i) {
    int32_t bits = static_cast<int32_t>(imm[i]);
    memcpy(&p->imm[i], &bits, 4);
  }

  for (int i = 0; i < p->n_instr; ++i) {
    const int64_t* c = code + 4 * i;
    OpInfo info;
    if (!op_info(c[0], &info)) {
      return fail(Code::bad_file, "%s: instruction %d has unknown code %lld", ctx.loc, i, static_cast<long long>(c[0]));
    }
    *cost += info.cost;
    int32_t at[3];
    for (int k = 0; k < 3; ++k) {
      int64_t v = k < info.operands ? c[1 + k] : 0;
      if (v >= p->n_in + i || v < -n_imm || (k < info.operands && p->n_in == 0)) {
        return fail(Code::bad_file, "%s: instruction %d reads %lld: not an earlier value", ctx.loc, i,
                    static_cast<long long>(v));
      }
      at[k] = static_cast<int32_t>(v >= 0 ? v : p->n_in + p->n_instr - 1 - v);
    }
    const bool imm_b = info.operands > 1 && c[2] < 0;
    if (c[1] < 0 && (info.operands == 1 || info.operands == 3 || imm_b)) {
      return fail(Code::bad_file, "%s: instruction %d has only immediates", ctx.loc, i);
    }
    if (info.operands == 3 && (c[2] >= 0 || c[3] >= 0)) {
      return fail(Code::bad_file, "%s: instruction %d wants immediate limits", ctx.loc, i);
    }
    p->code[i] = {static_cast<int32_t>(c[0]), at[0], at[1], at[2], c[1] < 0, imm_b, 0};
  }
  return Status();
}

// Reads strides, checks that no index leaves an input, collapses the output's axes to outer dimensions, rows and cols.
// in_place: the inputs that are read as the output is written, element by element.
Status read_geometry(StepContext& ctx, Params* p, uint64_t* in_place) {
  const Tensor& out = *ctx.out[0];
  int64_t st[kMaxInputs * kMaxRank];
  IRK_TRY(ctx.attr_ints("strides", p->n_in * out.rank, 0, INT64_MAX, st));
  int64_t dims[kMaxRank], s[kMaxInputs][kMaxRank];
  int r = 0;
  for (int i = 0; i < p->n_in; ++i) {
    int64_t last = 0;
    for (int k = 0; k < out.rank; ++k) {
      int64_t step;
      if (!mul_ok(out.dims[k] - 1, st[i * out.rank + k], &step) || !add_ok(last, step, &last)) last = INT64_MAX;
    }
    if (last >= ctx.in[i]->count) {
      return fail(Code::bad_file, "%s: strides of input %d reach element %lld of %lld", ctx.loc, i,
                  static_cast<long long>(last), static_cast<long long>(ctx.in[i]->count));
    }
    if (is_dense(out, st + i * out.rank)) *in_place |= uint64_t{1} << i;
  }
  for (int k = 0; k < out.rank; ++k) {
    if (out.dims[k] == 1) continue;
    bool merge = r > 0;
    for (int i = 0; i < p->n_in && merge; ++i) merge = s[i][r - 1] == st[i * out.rank + k] * out.dims[k];
    if (merge) {
      dims[r - 1] *= out.dims[k];
    } else {
      dims[r++] = out.dims[k];
    }
    for (int i = 0; i < p->n_in; ++i) s[i][r - 1] = st[i * out.rank + k];
  }
  p->cols = r > 0 ? dims[r - 1] : 1;
  p->rows = r > 1 ? dims[r - 2] : 1;
  p->n_outer = r > 2 ? r - 2 : 0;
  for (int k = 0; k < p->n_outer; ++k) p->outer_dims[k] = dims[k];
  for (int i = 0; i < p->n_in; ++i) {
    Operand& o = p->in[i];
    o.s0 = r > 0 ? s[i][r - 1] : 0;
    o.s1 = r > 1 ? s[i][r - 2] : 0;
    for (int k = 0; k < p->n_outer; ++k) o.outer[k] = s[i][k];
  }
  return Status();
}

// Chooses tiles and how each operand is read in them. Called with rising knowledge: `want` floats per tile.
void choose_tile(Params* p, int64_t want) {
  if (p->cols * 2 > want) {
    int64_t chunks = (p->cols + want - 1) / want;
    p->tile_rows = 1;
    p->tile_cols = ((p->cols + chunks - 1) / chunks + 15) / 16 * 16;
    if (p->tile_cols > p->cols) p->tile_cols = p->cols;
  } else {
    p->tile_cols = p->cols;
    p->tile_rows = want / p->cols < p->rows ? want / p->cols : p->rows;
  }
  p->tiles_r = (p->rows + p->tile_rows - 1) / p->tile_rows;
  p->tiles_c = (p->cols + p->tile_cols - 1) / p->tile_cols;
  const bool one_row = p->tile_rows == 1;
  for (int i = 0; i < p->n_in; ++i) {
    Operand& o = p->in[i];
    if (o.s0 == 0 && (one_row || o.s1 == 0)) {
      o.mode = scalar;
    } else if (o.s0 == 1 && (one_row || o.s1 == p->cols)) {
      o.mode = direct;
    } else {
      o.mode = lined_up;
    }
  }
  // Only a binary instruction takes a scalar, and only one.
  for (int i = 0; i < p->n_instr; ++i) {
    Instr& in = p->code[i];
    const bool binary = in.op >= op_add && in.op < op_clip;
    const bool a = in.a_scalar || (in.a < p->n_in && p->in[in.a].mode == scalar);
    const bool b = in.b_scalar || (in.b < p->n_in && p->in[in.b].mode == scalar);
    if (a && (!binary || b)) p->in[in.a < p->n_in ? in.a : in.b].mode = lined_up;
  }
}

// Gives each temporary a slot by its last use, behind the slots of lined-up operands; returns the number of slots.
int assign_slots(Params* p) {
  int slots = 0;
  for (int i = 0; i < p->n_in; ++i) {
    if (p->in[i].mode == lined_up) p->in[i].slot = slots++;
  }
  int last[kMaxInstrs], owner[kMaxInstrs], n_free = 0;  // owner[s]: instruction whose result is in temporary s
  for (int i = 0; i < p->n_instr; ++i) last[i] = -1;
  for (int i = 0; i < p->n_instr; ++i) {
    const int32_t reads[3] = {p->code[i].a, p->code[i].b, p->code[i].c};
    for (int32_t v : reads) {
      if (v >= p->n_in && v < p->n_in + p->n_instr) last[v - p->n_in] = i;
    }
  }
  for (int i = 0; i + 1 < p->n_instr; ++i) {
    int t = 0;
    while (t < n_free && last[owner[t]] > i) ++t;  // a value last read here may be overwritten in place
    if (t == n_free) ++n_free;
    owner[t] = i;
    p->code[i].slot = slots + t;
  }
  return slots + n_free;
}

}  // namespace

Status irk_prepare_eltwise(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_out != 1 || !ctx.out[0]) return fail(Code::bad_file, "%s: eltwise wants one output", ctx.loc);
  if (!ctx.has("code")) return prepare_cast(ctx, step);
  if (ctx.n_in < 1 || ctx.n_in > kMaxInputs) {
    return fail(Code::bad_file, "%s: eltwise wants 1 to %d inputs, got %d", ctx.loc, kMaxInputs, ctx.n_in);
  }
  for (int i = 0; i < ctx.n_in; ++i) IRK_TRY(ctx.want_in(i, DType::f32, -1));
  IRK_TRY(ctx.want_out(0, DType::f32, -1));
  Params* p = static_cast<Params*>(ctx.alloc->alloc(sizeof(Params)));
  if (!p) return fail(Code::out_of_memory, "%s: eltwise parameters", ctx.loc);
  memset(p, 0, sizeof *p);
  int64_t cost = 0;
  IRK_TRY(read_program(ctx, p, &cost));
  IRK_TRY(read_geometry(ctx, p, &step->in_place));

  choose_tile(p, kMaxTile);
  int slots = assign_slots(p);
  if (slots > 0) {
    int64_t want = kTileBytes / 4 / (slots + 2);
    choose_tile(p, want < 256 ? 256 : want);
    slots = assign_slots(p);
  }
  for (int i = 0; i < p->n_instr; ++i) {
    Instr& in = p->code[i];
    in.a_scalar = in.a_scalar || (in.a < p->n_in && p->in[in.a].mode == scalar);
    in.b_scalar = in.b_scalar || (in.b < p->n_in && p->in[in.b].mode == scalar);
  }
  const int64_t tile = p->tile_rows * p->tile_cols;
  p->slot_floats = (tile + 15) / 16 * 16;
  const KernelRow* row = pick_kernel("eltwise", "f32", ctx.isa);
  step->fn = row->fn;
  step->params = p;
  step->items = ctx.out[0]->count / (p->rows * p->cols) * p->tiles_r * p->tiles_c;
  step->grain = kWorthAThread / (tile * cost) + 1;
  step->scratch = slots * p->slot_floats * 4;
  step->kernel = IRK_KERNEL_NAME("eltwise.f32", row);
  return Status();
}

}  // namespace irk
