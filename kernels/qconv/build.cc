// Packs weights for the chosen kernel and plans how the work is cut.
#include <math.h>
#include <string.h>

#include "base/ints.h"
#include "qconv/forms.h"
#include "qconv/pack.h"
#include "runtime/kernel_name.h"

namespace irk {
namespace {

// How the kernels of an ISA want their operands; the tile itself comes from the table row.
struct Packing {
  int vec;        // accumulator lanes; a last, narrower tile is a whole number of vectors
  int size;       // bytes of an element of packed weights and of the scratch copy
  int depth;      // the scratch copy and the weights are padded to a multiple of this depth
  int shift;      // added to the activations by the kernel
  bool rows;      // the kernel runs under rows.h
  bool panels;    // ... and arranges the rows of a block in its own order
  bool paired;    // tiles of two vectors interleave their channels (x86 packs work within 128-bit lanes)
  int64_t grain;  // multiply-accumulates of kGrainNs
  int64_t byte;   // as many of them take the time of a byte of output, or of a byte copied to scratch
};

Packing packing_of(Isa isa) {
  switch (isa) {
    case Isa::amx:
      return {16, 1, 64, 0, false, false, true, 0, 0};  // see qconv_tiles_ns
    case Isa::avx512vnni:
      return {16, 1, 4, 128, false, false, true, 900000, 16};
    case Isa::avx512:
      return {16, 2, 2, 0, false, false, true, 400000, 10};
    case Isa::avx2:
      return {8, 2, 2, 0, false, false, true, 180000, 10};
    case Isa::neoni8mm:
      return {4, 1, 8, 0, true, true, false, 600000, 0};
    case Isa::neondot:
      return {4, 1, 4, 0, true, false, false, 400000, 0};
    case Isa::neon:
      return {4, 1, 4, 0, true, false, false, 100000, 0};
    default:
      return {1, 1, 1, 0, false, false, false, 50000, 0};
  }
}

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Matrix instructions take as long for one row as for a whole tile of them (AMX 16, SMMLA 2): dot products are faster
// then.
const KernelRow* for_few_rows(const KernelRow* row, int64_t rows) {
  if (row->isa == Isa::amx && rows < 4) return pick_kernel("qconv", "s8s8", Isa::avx512vnni);
  if (row->isa == Isa::neoni8mm && rows < 2) return pick_kernel("qconv", "s8s8", Isa::neondot);
  return row;
}

// Some channel has more than one weight of -128.
bool has_pair_of_minus_128(const QConvShape& s) {
  const int64_t k = s.kh * s.kw * (s.ic / s.groups);
  for (int64_t c = 0; c < s.oc; c++) {
    const int8_t *const row = s.w + c * k, *const end = row + k;
    const void* const first = memchr(row, 0x80, static_cast<size_t>(k));
    const int8_t* const rest = first ? static_cast<const int8_t*>(first) + 1 : end;
    if (memchr(rest, 0x80, static_cast<size_t>(end - rest))) return true;
  }
  return false;
}

// A block of rows is used by all column tiles: as many as `bytes` hold, or a few tiles when rows are long.
int64_t rows_in_cache(const QConvParams& p, int64_t bytes, int64_t row_bytes, int64_t mr) {
  const int64_t rows = most(bytes / (row_bytes + least(p.oc, 256)), 4 * mr);
  return least(round_up(rows, mr), 448);
}

// Blocks of about so many rows of the product; threads get equal numbers of them.
void cut_pixels(const QConvShape& s, int64_t rows, int64_t mr, int64_t threads, QConvParams* p) {
  int64_t blocks = ceil_div(p->pixels, rows);
  if (!qconv_shares_columns(*p, threads) && p->pixels >= threads * mr) blocks = round_up(blocks, threads);
  p->block_rows = s.band ? s.band * s.ow : ceil_div(p->pixels, blocks);
  p->m_blocks = ceil_div(p->pixels, p->block_rows);
  if (s.band || p->m_blocks == 1) return;
  p->block_rows = round_up(p->block_rows, mr);
  p->m_blocks = ceil_div(p->pixels, p->block_rows);
}

// Blocks of rows that rows.h reads in place, and the scratch for what it can't. kpad: depth of the packed weights.
Status plan_rows(StepContext& ctx, const QConvShape& s, const Packing& pk, int64_t mr, int64_t kpad, QConvParams* p,
                 int64_t* scratch) {
  QRows& q = p->rows;
  q.flat = p->pointwise;
  q.in_bytes = s.n * s.ih * s.iw * s.ic;
  q.parts = p->merge_kw ? s.kh : s.kh * s.kw;
  q.part = p->k / q.parts;
  q.gather = q.parts > 1 && q.part % 16 != 0;
  const bool padded = s.pt > 0 || s.pl > 0 || (s.oh - 1) * s.sh + (s.kh - 1) * s.dh >= s.ih ||
                      (s.ow - 1) * s.sw + (s.kw - 1) * s.dw >= s.iw;
  q.lines = padded || q.gather;
  q.cols = (s.ow - 1) * s.sw + (s.kw - 1) * s.dw + 1;
  q.pitch = (q.lines ? q.cols : s.iw) * s.ic;
  int64_t* at = static_cast<int64_t*>(ctx.alloc->alloc((q.parts + 1) * 8));
  if (!at) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  for (int64_t i = 0; i < q.parts; i++)
    at[i] = p->merge_kw ? i * s.dh * q.pitch : i / s.kw * s.dh * q.pitch + i % s.kw * s.dw * s.ic;
  at[q.parts] = 0;
  q.part_at = at;
  q.segs = q.gather ? 1 : q.parts;
  q.run = q.gather ? kpad : q.part;  // what follows a gathered row meets weights of zero
  q.seg = q.gather ? at + q.parts : at;
  q.lda = (q.parts - 1) * q.part + round_up(q.part, 16);

  const int64_t line_rows = q.gather ? q.lda : q.lines ? ceil_div(s.sh * q.pitch, s.ow) : s.sw * s.ic;
  const int64_t rows = rows_in_cache(*p, 49152, pk.panels ? kpad : q.flat ? p->k : line_rows, mr);
  int64_t lines_bytes = 0;
  if (q.flat) {
    cut_pixels(s, rows, mr, ctx.threads, p);
  } else {
    q.image_blocks = ceil_div(s.oh, s.band ? s.band : most(1, rows / s.ow));
    q.block_lines = s.band ? s.band : ceil_div(s.oh, q.image_blocks);
    q.image_blocks = ceil_div(s.oh, q.block_lines);
    p->block_rows = q.block_lines * s.ow;
    p->m_blocks = s.n * q.image_blocks;
    if (q.lines) lines_bytes = ((q.block_lines - 1) * s.sh + (s.kh - 1) * s.dh + 1) * q.pitch;
  }
  // A copy of the input's last rows, unless whole vectors fit there.
  if (!q.lines && q.run % 16 != 0) lines_bytes = 16 * round_up(q.run, 16);
  q.at_lines = round_up(p->block_rows * 8, 64);
  q.at_rows = q.at_lines + round_up(lines_bytes + 64, 64);
  q.at_panels = q.at_rows + (q.gather ? round_up(p->block_rows * q.lda + 64, 64) : 0);
  *scratch = q.at_panels + (pk.panels ? (p->block_rows + 1) * kpad : 0) + 64;
  return Status();
}

// Cuts of the columns after which threads get about equal shares of `blocks` blocks of rows.
int64_t even_cuts(int64_t blocks, int64_t tiles, int64_t threads) {
  int64_t best = 1, best_cost = 0;
  for (int64_t cuts = 1; cuts <= least(tiles, 16); cuts++) {
    const int64_t cost = ceil_div(blocks * cuts, threads) * ceil_div(tiles, cuts);
    if (best_cost == 0 || cost < best_cost) best = cuts, best_cost = cost;
  }
  return best;
}

}  // namespace

Status qconv_build(StepContext& ctx, const QConvShape& s, bool linear, PreparedStep* out) {
  const KernelRow* row = pick_kernel("qconv", "s8s8", ctx.isa);
  if (!row) return fail(Code::internal, "%s: no qconv kernel", ctx.loc);
  row = for_few_rows(row, s.n * s.oh * s.ow);
  const Packing pk = packing_of(row->isa);
  // neon.cc adds two products in int16, which two of (-128)^2 would leave.
  if (row->isa == Isa::neon && has_pair_of_minus_128(s)) row = pick_kernel("qconv", "s8s8any", row->isa);
  QConvParams* p = static_cast<QConvParams*>(ctx.alloc->alloc(sizeof(QConvParams)));
  if (!p) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  *p = QConvParams();
  p->ih = s.ih, p->iw = s.iw, p->ic = s.ic, p->oh = s.oh, p->ow = s.ow, p->oc = s.oc;
  p->kh = s.kh, p->kw = s.kw, p->sh = s.sh, p->sw = s.sw, p->pt = s.pt, p->pl = s.pl, p->dh = s.dh, p->dw = s.dw;
  p->groups = s.groups, p->icg = s.ic / s.groups, p->ocg = s.oc / s.groups;
  p->zx = static_cast<int32_t>(s.zx), p->zy = static_cast<int32_t>(s.zy), p->zr = static_cast<int32_t>(s.zr);
  p->lo = static_cast<int32_t>(s.lo), p->hi = static_cast<int32_t>(s.hi), p->mr = s.mr;
  p->residual = s.residual, p->f32 = s.f32;
  p->pointwise = s.kh == 1 && s.kw == 1 && s.sh == 1 && s.sw == 1 && s.oh == s.ih && s.ow == s.iw;
  p->merge_kw = s.groups == 1 && (s.dw == 1 || s.kw == 1);
  p->pixels = s.n * s.oh * s.ow;
  p->clamped = s.lo > -128 || s.hi < 127;
  const int64_t room = s.iw - (s.kw - 1) * s.dw - 1 + s.pl;  // of the first tap's column, counted from the padding
  p->ow_first = least(ceil_div(s.pl, s.sw), s.ow);
  p->ow_last = room < s.pl ? p->ow_first : most(least(room / s.sw + 1, s.ow), p->ow_first);
  p->k = s.kh * s.kw * p->icg;
  p->nr = row->nr;

  // Rows of the copy: no padding in between unless they would all fall on the same cache sets.
  int64_t kpad = round_up(p->k, pk.depth);
  p->steps = kpad / row->kr;
  p->lda = kpad;
#if defined(__x86_64__)
  const bool tiled = row->isa == Isa::amx;
  if (tiled) {
    IRK_TRY(qconv_plan_tiles(ctx, s.band > 0, p));
    kpad = p->steps * p->tiled.depth;
  }
#else
  constexpr bool tiled = false;
#endif
  if (p->lda * pk.size % 2048 == 0) p->lda += 64 / pk.size;

  p->tiles = ceil_div(p->ocg, p->nr);
  p->tile_bytes = p->nr * kpad * pk.size;
  const int64_t last = p->ocg - (p->tiles - 1) * p->nr;
  const int64_t last_width = tiled && last > 2 * pk.vec ? p->nr : round_up(last, pk.vec);  // amx.cc: 1, 2 or 4 vectors
  p->group_bytes = round_up((p->tiles - 1) * p->tile_bytes + last_width * kpad * pk.size, 64);
  int64_t bytes, w_bytes;
  if (!mul_ok(p->group_bytes, s.groups, &w_bytes) || !mul_ok(p->tiles * p->nr, s.groups, &bytes))
    return fail(Code::unsupported, "%s: weights too large", ctx.loc);
  uint8_t* w = static_cast<uint8_t*>(ctx.alloc->alloc(w_bytes));
  const int64_t channels = p->tiles * p->nr * s.groups;
  int32_t* bias = static_cast<int32_t*>(ctx.alloc->alloc(channels * 4));
  float* m = static_cast<float*>(ctx.alloc->alloc(channels * 4));
  if (!w || !bias || !m) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  memset(bias, 0, static_cast<size_t>(channels) * 4);
  memset(m, 0, static_cast<size_t>(channels) * 4);

  p->narrow = true;
  const double reach = static_cast<double>(most(s.zx + 128, 127 - s.zx));
  const double added = s.residual ? static_cast<double>(most(s.zr + 128, 127 - s.zr)) * fabs(s.mr) : 0;
  bool liftable = true;
  const bool may_low = !s.residual && qconv_may_be_low(s, row->isa);
  // Tile by tile: weights are in the cache when they are packed.
  const QWeightForm form = {row->isa, p->nr,      row->kr,
                            pk.vec,   pk.size,    pk.paired,
                            kpad,     last_width, tiled && p->tiled.way == QTilePlan::sliced};
  for (int64_t tile = 0; tile < p->tiles * s.groups; tile++) {
    const int64_t g = tile / p->tiles, t = tile % p->tiles, width = form.width(*p, t);
    const int64_t begin = g * p->ocg + t * p->nr, n = least(p->nr, p->ocg - t * p->nr);
    const int8_t* const src = s.w + begin * p->k;
    for (int64_t i = 0; i < n; i++) {
      const int64_t c = begin + i, slot = tile * p->nr + form.place(width, i);
      int64_t b = s.bias ? s.bias[c] : 0;
      const QWeightSums sums = qconv_weight_sums(src + i * p->k, p->k);
      const double most_acc = static_cast<double>(sums.magnitude) * reach + fabs(static_cast<double>(b));
      IRK_TRY(qconv_check_channel(ctx, c, most_acc, s.m[c]));
      const double most_out = most_acc * fabs(s.m[c]) + added;
      if (most_out > kQConvSafe) p->wide = true;
      if (most_out > 32000) p->narrow = false;
      float scale = s.m[c];
      if (may_low) qconv_shrink_constant(QSumRange(sums, b, s.zx), &b, &scale);
      liftable = liftable && QSumRange(sums, b, s.zx).liftable() && qconv_liftable_scale(scale);
      bias[slot] = static_cast<int32_t>(static_cast<uint32_t>(b - (s.zx + pk.shift) * sums.plain));
      m[slot] = scale;
    }
    uint8_t* const dst = w + g * p->group_bytes + t * p->tile_bytes;
    qconv_pack_tile(*p, form, width, src, n, dst);
    uint8_t* const end = dst + width * kpad * pk.size;
    if (t == p->tiles - 1) memset(end, 0, static_cast<size_t>(w + (g + 1) * p->group_bytes - end));
  }
  p->form = qconv_form(s, row->isa, p->wide, liftable);
  if (p->form == QForm::lifted && !s.residual)
    for (int64_t i = 0; i < channels; i++) bias[i] = qconv_lifted(bias[i]);
  p->w = w, p->bias = bias, p->m = m;

  // What so many rows and columns take, in grains. Weights that serve few rows are limited by memory: a byte read then
  // costs as much as some 14 products. Rows of a 1x1 convolution that are whole vectors are read where they are.
  const auto cost = [&](double rows, double columns) {
#if defined(__x86_64__)
    if (tiled) return qconv_tiles_ns(*p, rows, columns) / kGrainNs;
#endif
    const double k = static_cast<double>(p->k);
    const double copied = p->pointwise && s.ic % 64 == 0 ? 0 : rows * static_cast<double>(p->lda);
    const double products = rows * columns * k + static_cast<double>(most(14, pk.byte)) * columns * k +
                            static_cast<double>(pk.byte) * (rows * columns + copied);
    return products / static_cast<double>(pk.grain);
  };
  // Small steps are best cut as for one thread: cuts of the columns, which share lines of the output, cost more there
  // than they save.
  const double whole =
      static_cast<double>(s.groups) * cost(static_cast<double>(p->pixels), static_cast<double>(p->ocg));
  const int threads = whole < 1 ? 1 : ctx.threads;
#if defined(__x86_64__)
  if (tiled) qconv_plan_blocks(s.band, threads, p, &out->scratch);
#endif
  if (pk.rows) {
    IRK_TRY(plan_rows(ctx, s, pk, row->mr, kpad, p, &out->scratch));
  } else if (!tiled) {
    const int64_t rows = rows_in_cache(*p, 24576, p->lda * pk.size, row->mr);
    cut_pixels(s, rows, row->mr, threads, p);
    out->scratch = round_up(round_up(p->block_rows, row->mr) * p->lda * pk.size + 256, 64);
  }
  // Few blocks of rows: cut the columns too, so that threads get equal shares.
  const int64_t have = p->m_blocks * s.groups;
  const int64_t cuts = s.band ? 1 : even_cuts(have, p->tiles, threads);
  p->block_tiles = ceil_div(p->tiles, cuts);
  p->n_blocks = ceil_div(p->tiles, p->block_tiles);

  const double item_cost = cost(static_cast<double>(least(p->block_rows, p->pixels)),
                                static_cast<double>(least(p->block_tiles * p->nr, p->ocg)));
  out->fn = row->fn;
  out->in_place = uint64_t{s.residual} << 4;  // each epilogue reads the residual of the outputs that it writes then
  out->params = p;
  out->items = p->groups * p->m_blocks * p->n_blocks;
  out->grain = most(1, static_cast<int64_t>(1 / item_cost));
  out->grains = static_cast<double>(out->items) * item_cost;
  // Items that cut columns copy the same rows: few calls, each with many of them.
  if (p->n_blocks > 1) out->grain = most(out->grain, ceil_div(out->items, most(8, threads)));
  out->kernel = linear ? IRK_KERNEL_NAME("qlinear.s8s8", row) : IRK_KERNEL_NAME("qconv.s8s8", row);
  return Status();
}

}  // namespace irk
