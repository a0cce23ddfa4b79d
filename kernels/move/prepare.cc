// Turns copy, concat and pad into regions. attrs:
//   op "copy":   dims, strides, offset: out[i] = in[offset + sum(i * strides)], dims row-major over the output
//   op "concat": axis, dims (of the output), strides (per input, one after the other)
//   op "pad":    dims (of the output), strides, before, after, mode "constant" | "reflect" | "edge", fill (element
//   bits)
#include "move/move.h"

#include <string.h>

#include "runtime/family.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

constexpr int64_t kBlockBytes = 16384;  // work of one item: far above its overhead, small enough to balance threads
constexpr int64_t kShort = 16;          // elements: fewer are not worth a loop of their own
constexpr int64_t kMaxStride = int64_t{1} << 48;

struct Axis {
  int64_t dim, dst, from;
};

struct Builder {
  StepContext& ctx;
  int64_t itemsize;
  MoveRegion* regions = nullptr;
  int count = 0;
  int64_t items = 0;

  void add(int src, int64_t dst_offset, int64_t from_offset, const Axis* axes, int rank);
};

// Drops axes of one element and merges neighbours that are contiguous in source and destination alike.
int simplify(const Axis* in, int rank, Axis* out) {
  int n = 0;
  for (int i = 0; i < rank; i++) {
    if (in[i].dim == 1) continue;
    Axis* last = n ? &out[n - 1] : nullptr;
    if (last && last->dst == in[i].dst * in[i].dim && last->from == in[i].from * in[i].dim)
      *last = {last->dim * in[i].dim, in[i].dst, in[i].from};
    else
      out[n++] = in[i];
  }
  return n;
}

void Builder::add(int src, int64_t dst_offset, int64_t from_offset, const Axis* axes, int rank) {
  Axis ax[kMaxRank];
  int n = simplify(axes, rank, ax);
  // Each element several times, side by side: the loop over elements is the long one.
  if (n >= 2 && ax[n - 1].from == 0 && ax[n - 1].dim < kShort && ax[n - 2].dim > ax[n - 1].dim) {
    const Axis t = ax[n - 1];
    ax[n - 1] = ax[n - 2];
    ax[n - 2] = t;
  }
  MoveRegion r = {};
  r.src = src;
  r.dst_offset = dst_offset;
  r.from_offset = from_offset;
  r.n = r.dst_step = r.from_step = 1;
  if (n) {
    n--;
    r.n = ax[n].dim;
    r.dst_step = ax[n].dst;
    r.from_step = ax[n].from;
  }
  r.kind = r.dst_step == 1 && r.from_step == 1 ? MoveKind::rows : MoveKind::strided;
  if (r.dst_step == 1 && r.from_step > 1) {
    for (int i = n - 1; i >= 0; i--) {
      if (ax[i].from != 1) continue;
      r.kind = MoveKind::transpose;
      r.a = ax[i].dim;
      r.a_dst = ax[i].dst;
      for (; i + 1 < n; i++) ax[i] = ax[i + 1];
      n--;
      break;
    }
  }
  r.rank = n;
  int64_t outer = 1;
  for (int i = 0; i < n; i++) {
    r.dims[i] = ax[i].dim;
    r.dst[i] = ax[i].dst;
    r.from[i] = ax[i].from;
    outer *= ax[i].dim;
  }
  int64_t along = r.n, across = 1;
  if (r.kind == MoveKind::transpose) {
    r.split_a = r.a >= r.n;
    along = r.split_a ? r.a : r.n;
    across = r.split_a ? r.n : r.a;
  }
  r.block = kBlockBytes / (itemsize * across);
  r.block = r.block < 64 ? 64 : r.block / 64 * 64;
  r.blocks = (along + r.block - 1) / r.block;
  r.first = items;
  r.items = outer * r.blocks;
  items += r.items;
  regions[count++] = r;
}

// Source strides for the axes of `dims` starting at element `offset`: in range for every index?
Status check_source(const StepContext& ctx, int input, const int64_t* dims, const int64_t* strides, int rank,
                    int64_t offset) {
  int64_t last = offset;
  for (int i = 0; i < rank; i++) {
    int64_t span;
    if (!mul_ok(dims[i] - 1, strides[i], &span) || !add_ok(last, span, &last))
      return fail(Code::bad_file, "%s: move: input %d: strides overflow", ctx.loc, input);
  }
  if (last >= ctx.in[input]->count)
    return fail(Code::bad_file, "%s: move: input %d: reads element %lld of %lld", ctx.loc, input,
                static_cast<long long>(last), static_cast<long long>(ctx.in[input]->count));
  return {};
}

void dst_strides(const int64_t* dims, int rank, Axis* ax) {
  int64_t s = 1;
  for (int i = rank - 1; i >= 0; i--) {
    ax[i].dim = dims[i];
    ax[i].dst = s;
    s *= dims[i];
  }
}

Status alloc_regions(Builder* b, int64_t n) {
  b->regions = static_cast<MoveRegion*>(b->ctx.alloc->alloc(n * static_cast<int64_t>(sizeof(MoveRegion))));
  return b->regions ? Status{} : fail(Code::out_of_memory, "%s: move: out of memory", b->ctx.loc);
}

Status prepare_copy(Builder* b, const int64_t* dims, int rank) {
  StepContext& ctx = b->ctx;
  int64_t strides[kMaxRank], offset;
  IRK_TRY(ctx.attr_ints("strides", rank, 0, kMaxStride, strides));
  IRK_TRY(ctx.attr_int("offset", 0, kMaxStride, &offset));
  IRK_TRY(check_source(ctx, 0, dims, strides, rank, offset));
  IRK_TRY(alloc_regions(b, 1));
  Axis ax[kMaxRank];
  dst_strides(dims, rank, ax);
  for (int i = 0; i < rank; i++) ax[i].from = strides[i];
  b->add(0, 0, offset, ax, rank);
  return {};
}

Status prepare_concat(Builder* b, const int64_t* dims, int rank) {
  StepContext& ctx = b->ctx;
  int64_t axis, strides[kMaxOperands * kMaxRank];
  if (rank < 1) return fail(Code::bad_file, "%s: move: concat of scalars", ctx.loc);
  IRK_TRY(ctx.attr_int("axis", 0, rank - 1, &axis));
  IRK_TRY(ctx.attr_ints("strides", rank * ctx.n_in, 0, kMaxStride, strides));
  IRK_TRY(alloc_regions(b, ctx.n_in));
  Axis ax[kMaxRank];
  dst_strides(dims, rank, ax);
  int64_t rest = 1, at = 0;
  for (int i = 0; i < rank; i++)
    if (i != axis) rest *= dims[i];
  for (int k = 0; k < ctx.n_in; k++) {
    int64_t part[kMaxRank];
    memcpy(part, dims, sizeof(int64_t) * static_cast<size_t>(rank));
    part[axis] = ctx.in[k]->count / rest;
    if (part[axis] < 1 || part[axis] * rest != ctx.in[k]->count || part[axis] > dims[axis] - at)
      return fail(Code::bad_file, "%s: move: concat input %d does not fit the output", ctx.loc, k);
    const int64_t* s = strides + k * rank;
    IRK_TRY(check_source(ctx, k, part, s, rank, 0));
    for (int i = 0; i < rank; i++) {
      ax[i].dim = part[i];
      ax[i].from = s[i];
    }
    b->add(k, at * ax[axis].dst, 0, ax, rank);
    at += part[axis];
  }
  if (at != dims[axis]) return fail(Code::bad_file, "%s: move: concat inputs do not fill the output", ctx.loc);
  return {};
}

enum class PadMode { constant, reflect, edge };

struct PadSpec {
  const int64_t* dims;
  int rank;
  int64_t before[kMaxRank], inner[kMaxRank], after[kMaxRank], strides[kMaxRank];
};

// Border of one axis after the other, the outer ones whole: 2 * rank + 1 regions.
void add_constant(Builder* b, const PadSpec& p, const Axis* full) {
  Axis ax[kMaxRank];
  int64_t at = 0;
  for (int i = 0; i < p.rank; i++) ax[i] = {full[i].dim, full[i].dst, 0};
  for (int i = 0; i < p.rank; i++) {
    ax[i].dim = p.before[i];
    if (p.before[i]) b->add(-1, at, 0, ax, p.rank);
    ax[i].dim = p.after[i];
    if (p.after[i]) b->add(-1, at + (p.before[i] + p.inner[i]) * full[i].dst, 0, ax, p.rank);
    ax[i].dim = p.inner[i];
    at += p.before[i] * full[i].dst;
  }
  for (int i = 0; i < p.rank; i++) ax[i].from = p.strides[i];
  b->add(0, at, 0, ax, p.rank);
}

// Every combination of before, inner and after, each a strided copy of its own: reflection runs backwards.
void add_mirrored(Builder* b, const PadSpec& p, const Axis* full, bool reflect) {
  int part[kMaxRank] = {};
  for (;;) {
    Axis ax[kMaxRank] = {};
    int64_t dst = 0, from = 0;
    bool empty = false;
    for (int i = 0; i < p.rank; i++) {
      const int64_t n = p.inner[i], s = p.strides[i];
      if (part[i] == 0) {
        ax[i] = {p.before[i], full[i].dst, reflect ? -s : 0};
        from += reflect ? p.before[i] * s : 0;
      } else if (part[i] == 1) {
        ax[i] = {n, full[i].dst, s};
        dst += p.before[i] * full[i].dst;
      } else {
        ax[i] = {p.after[i], full[i].dst, reflect ? -s : 0};
        dst += (p.before[i] + n) * full[i].dst;
        from += (reflect ? n - 2 : n - 1) * s;
      }
      empty = empty || ax[i].dim == 0;
    }
    if (!empty) b->add(0, dst, from, ax, p.rank);
    int i = p.rank - 1;
    while (i >= 0 && ++part[i] == 3) part[i--] = 0;
    if (i < 0) return;
  }
}

Status prepare_pad(Builder* b, const int64_t* dims, int rank, uint64_t* fill) {
  StepContext& ctx = b->ctx;
  PadSpec p = {};
  p.dims = dims;
  p.rank = rank;
  const char* name;
  IRK_TRY(ctx.attr_ints("strides", rank, 0, kMaxStride, p.strides));
  IRK_TRY(ctx.attr_ints("before", rank, 0, kMaxStride, p.before));
  IRK_TRY(ctx.attr_ints("after", rank, 0, kMaxStride, p.after));
  IRK_TRY(ctx.attr_str("mode", &name));
  PadMode mode;
  if (strcmp(name, "constant") == 0)
    mode = PadMode::constant;
  else if (strcmp(name, "reflect") == 0)
    mode = PadMode::reflect;
  else if (strcmp(name, "edge") == 0)
    mode = PadMode::edge;
  else
    return fail(Code::bad_file, "%s: move: unknown pad mode", ctx.loc);
  int64_t regions = 1;
  for (int i = 0; i < rank; i++) {
    p.inner[i] = dims[i] - p.before[i] - p.after[i];
    const int64_t room = mode == PadMode::reflect ? p.inner[i] - 1 : kMaxStride;
    if (p.inner[i] < 1 || p.before[i] > room || p.after[i] > room)
      return fail(Code::bad_file, "%s: move: pads %lld, %lld do not fit axis %d of %lld", ctx.loc,
                  static_cast<long long>(p.before[i]), static_cast<long long>(p.after[i]), i,
                  static_cast<long long>(dims[i]));
    const int64_t sides = (p.before[i] > 0) + (p.after[i] > 0);
    regions = mode == PadMode::constant ? regions + sides : regions * (1 + sides);  // at most 3^8
  }
  IRK_TRY(check_source(ctx, 0, p.inner, p.strides, rank, 0));
  if (mode == PadMode::constant) {
    int64_t bits;
    IRK_TRY(ctx.attr_int("fill", INT64_MIN, INT64_MAX, &bits));
    memcpy(fill, &bits, sizeof bits);
  }
  IRK_TRY(alloc_regions(b, regions));
  Axis full[kMaxRank];
  dst_strides(dims, rank, full);
  if (mode == PadMode::constant)
    add_constant(b, p, full);
  else
    add_mirrored(b, p, full, mode == PadMode::reflect);
  return {};
}

}  // namespace

Status irk_prepare_move(StepContext& ctx, PreparedStep* step) {
  if (ctx.n_in < 1 || ctx.n_out != 1) return fail(Code::bad_file, "%s: move: one or more inputs, one output", ctx.loc);
  if (!ctx.out[0]) return fail(Code::bad_file, "%s: move: output is absent", ctx.loc);
  const Tensor& out = *ctx.out[0];
  const int64_t itemsize = dtype_size(out.dtype);
  for (int i = 0; i < ctx.n_in; i++) IRK_TRY(ctx.want_in(i, out.dtype, -1));

  const char* op;
  int64_t dims[kMaxRank];
  int rank;
  IRK_TRY(ctx.attr_str("op", &op));
  IRK_TRY(ctx.attr_ints_n("dims", kMaxRank, 1, kMaxStride, dims, &rank));
  int64_t total = 1;
  for (int i = 0; i < rank; i++)
    if (!mul_ok(total, dims[i], &total)) return fail(Code::bad_file, "%s: move: dims overflow", ctx.loc);
  if (total != out.count) return fail(Code::bad_file, "%s: move: dims do not cover the output", ctx.loc);

  MoveParams* p = static_cast<MoveParams*>(ctx.alloc->alloc(sizeof(MoveParams)));
  if (!p) return fail(Code::out_of_memory, "%s: move: out of memory", ctx.loc);
  *p = {};
  Builder b{ctx, itemsize};
  const bool concat = strcmp(op, "concat") == 0;
  if (!concat && ctx.n_in != 1) return fail(Code::bad_file, "%s: move: %s takes one input", ctx.loc, op);
  if (strcmp(op, "copy") == 0)
    IRK_TRY(prepare_copy(&b, dims, rank));
  else if (concat)
    IRK_TRY(prepare_concat(&b, dims, rank));
  else if (strcmp(op, "pad") == 0)
    IRK_TRY(prepare_pad(&b, dims, rank, &p->fill));
  else
    return fail(Code::bad_file, "%s: move: unknown op", ctx.loc);

  p->n_in = ctx.n_in;
  p->count = b.count;
  p->regions = b.regions;
  const char* types = itemsize == 1 ? "b1" : itemsize == 2 ? "b2" : itemsize == 4 ? "b4" : "b8";
  const KernelRow* row = pick_kernel("move", types, ctx.isa);
  if (!row) return fail(Code::internal, "%s: move: no kernel", ctx.loc);
  step->fn = row->fn;
  step->params = p;
  step->items = b.items;
  const int64_t per_item = out.bytes / b.items;
  step->grain = per_item >= 32768 ? 1 : 32768 / (per_item + 1) + 1;
  step->kernel = concat         ? IRK_KERNEL_NAME("move.concat", row)
                 : op[0] == 'p' ? IRK_KERNEL_NAME("move.pad", row)
                                : IRK_KERNEL_NAME("move.copy", row);
  return {};
}

}  // namespace irk
