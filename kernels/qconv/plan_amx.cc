// How amx.cc finds the rows of the product, how deep a step is, and how the rows are cut into blocks.
#include <math.h>

#include "base/ints.h"
#include "qconv/qconv.h"

#if defined(__x86_64__)
namespace irk {
namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

constexpr int64_t kTile = 16;     // rows of a tile
constexpr int64_t kStep = 64;     // most bytes of a row that a step takes
constexpr int64_t kFewRows = 96;  // with fewer rows per block the weights are read too often
constexpr int64_t kWideSteps = 4, kWideStepsResidual = 8;
constexpr int64_t kLargeWeights = 256 << 10;
constexpr int64_t kSliceBytes = 26 << 10, kSums = 128 << 10;                    // of all rows in L1; in L2
constexpr int64_t kSlicedWidth = 64, kTileSums = 4 * kTile * kSlicedWidth * 4;  // channels; bytes of their sums
constexpr int64_t kMostPlanes = 1 << 20;                                        // bytes of a block's planes

// Contiguous runs of a row, each cut into equal steps.
struct Runs {
  int64_t count, bytes;
  int64_t cuts() const { return ceil_div(bytes, kStep); }
  int64_t steps() const { return count * cuts(); }
  int64_t depth() const { return round_up(ceil_div(bytes, cuts()), 4); }
};

using Way = QTilePlan::Way;

Runs runs_of(const QConvParams& p, Way way) {
  switch (way) {
    case Way::merged:
      return {p.kh, p.kw * p.icg};
    case Way::separate:
      return {p.kh * p.kw, p.icg};
    case Way::interleaved:
      return {ceil_div(p.kh, p.sh), ceil_div(p.kw, p.sw) * p.sh * p.sw * p.icg};
    default:
      return {1, p.k};
  }
}

// Cycles per tile of rows, roughly: 16 for each multiplication, and some for each piece that a gathered row is made of.
double cost_of(const QConvParams& p, Way way) {
  const Runs r = runs_of(p, way);
  double cost = 16.0 * static_cast<double>(r.steps() * ceil_div(p.ocg, kTile));
  if (way == Way::gather) cost += 3.0 * kTile * static_cast<double>(p.merge_kw ? p.kh : p.kh * p.kw);
  return cost;
}

// Few rows and weights that the caches won't keep until the next call.
bool may_slice(const QConvParams& p, bool banded) {
  return !banded && p.groups == 1 && p.pixels > 2 * kTile && p.pixels <= 4 * kTile && p.ic % kStep == 0 &&
         p.oc % kSlicedWidth == 0 && p.k * p.oc >= kLargeWeights && !p.f32;
}

Way way_of(const QConvParams& p) {
  if (p.pointwise) return Way::in_place;
  Way best = p.groups == 1 && p.sw == 1 && p.dw == 1 ? Way::merged : Way::separate;
  const bool strided = p.sh > 1 || p.sw > 1;
  if (p.groups == 1 && p.dh == 1 && p.dw == 1 && strided && p.sw * p.ic <= 64 && p.sh * p.sw * p.ic <= 1024 &&
      cost_of(p, Way::interleaved) < cost_of(p, best))
    best = Way::interleaved;
  return cost_of(p, Way::gather) < cost_of(p, best) ? Way::gather : best;
}

int64_t plane_bytes(const QConvParams& p, const QTilePlan& q, int64_t lines) {
  const int64_t high = lines + (p.kh - 1) * p.dh / p.sh;
  return round_up(high * q.pitch * q.pixel + (q.cols - q.pitch) * q.pixel + 64, 64);
}

int64_t planes_bytes(const QConvParams& p, const QTilePlan& q, int64_t lines) {
  return q.phases_h * q.phases_w * plane_bytes(p, q, lines);
}

// The planes of `way`: their sizes for blocks of so many lines. False when they would be unreasonably large.
bool shape_planes(const QConvParams& p, Way way, QTilePlan* q) {
  const bool interleaved = way == Way::interleaved;
  q->pixel = interleaved ? p.sh * p.sw * p.ic : p.icg;
  q->phases_h = interleaved ? 1 : least(p.sh, (p.kh - 1) * p.dh + 1);
  q->phases_w = interleaved ? 1 : least(p.sw, (p.kw - 1) * p.dw + 1);
  q->cols = p.ow + (p.kw - 1) * p.dw / p.sw;
  // The columns of padding at the end of a line may be those at the start of the next.
  const int64_t right = p.sw == 1 && !interleaved ? most(q->cols - p.pl - p.iw, 0) : 0;
  q->pitch = q->cols - least(least(p.pl, right), q->cols - p.ow);
  return q->cols * q->pixel <= kMostPlanes && planes_bytes(p, *q, 1) <= kMostPlanes;
}

// Tiles of rows of so many lines when they go on from line to line; when each line has its own.
int64_t joint_tiles(const QConvParams& p, const QTilePlan& q, int64_t lines) {
  return ceil_div((lines - 1) * q.pitch + p.ow, kTile);
}
int64_t own_tiles(const QConvParams& p, int64_t lines) { return lines * ceil_div(p.ow, kTile); }

// What a block of so many lines takes, in cycles, roughly.
double cycles_of_block(const QConvParams& p, const QTilePlan& q, int64_t lines) {
  constexpr double kBegin = 1500, kFinish = 28, kCopy = 6;  // once; per tile of sums; per 64 bytes
  const double tiles = static_cast<double>(least(joint_tiles(p, q, lines), own_tiles(p, lines)));
  const double columns = static_cast<double>(ceil_div(p.ocg, kTile));
  return kBegin + tiles * columns * (16 * static_cast<double>(p.steps) + kFinish) +
         static_cast<double>(planes_bytes(p, q, lines)) / 64 * kCopy;
}

// Output lines per block: so many that few rows of tiles are wasted and few lines copied twice, and the planes stay in
// the cache.
int64_t lines_per_block(const QConvParams& p, const QTilePlan& q, int64_t threads) {
  // Large weights are better read once than small planes kept in L1.
  const int64_t room = p.group_bytes > 1 << 20 ? 192 << 10 : 36 << 10;
  // A first layer's outputs are most of what a block brings to L1, and no line is copied twice.
  const int64_t most_rows = q.picks ? 512 : 1024;
  int64_t best = 1;
  double best_cycles = -1;
  for (int64_t lines = 1; lines <= p.oh; lines++) {
    const int64_t rows = (lines - 1) * q.pitch + p.ow;
    const bool enough = (lines - 2) * q.pitch + p.ow >= kFewRows;  // without this line
    if (lines > 1 && ((enough && planes_bytes(p, q, lines) > room) || rows > most_rows)) break;
    const int64_t blocks = ceil_div(p.oh, lines), last = p.oh - (blocks - 1) * lines;
    const double whole = cycles_of_block(p, q, lines);
    const double cycles = threads == 1 ? static_cast<double>(blocks - 1) * whole + cycles_of_block(p, q, last)
                                       : static_cast<double>(ceil_div(blocks, threads)) * whole;
    if (best_cycles < 0 || cycles <= best_cycles) best = lines, best_cycles = cycles;
  }
  return best;
}

// What a block of so many rows takes, in loads of tiles: a tile of rows without a second one beside it takes more than
// half a pair.
int64_t cost_of_rows(int64_t rows) {
  const int64_t tiles = ceil_div(rows, kTile);
  return 2 * tiles + tiles % 2 + 1;
}

// Rows that a block should have, so many bytes each. Either they stay in L1 together with some weights and outputs, or
// the weights of 32 channels do: a block of 32 rows then makes the most of weights that come from L2.
int64_t rows_of_depth(const QConvParams& p, int64_t bytes) {
  const int64_t pair = 2 * kTile * bytes;
  if (p.group_bytes <= 512 << 10 && pair > 11 << 10 && pair <= 17 << 10) return 2 * kTile;
  const int64_t room = p.group_bytes > 1 << 20 ? 192 << 10 : pair > 17 << 10 ? 256 << 10 : 24 << 10;
  return least(round_up(most(room / (bytes + least(p.oc, 256)), 64), 32), 1024);
}

// Rows per block when rows are read in place: about so many, but threads get equal numbers of blocks.
int64_t rows_per_block(const QConvParams& p, int64_t rows, int64_t threads) {
  const int64_t blocks = ceil_div(p.pixels, rows);
  if (threads < 2 || p.pixels < threads * kTile || qconv_shares_columns(p, threads)) {
    const int64_t even = ceil_div(p.pixels, blocks);
    return blocks > 1 ? round_up(even, 32) : even;
  }
  int64_t best = 0, best_cost = 0;
  for (int64_t turns = 1; best == 0 || turns <= ceil_div(blocks, threads) + 2; turns++) {
    const int64_t even = ceil_div(p.pixels, turns * threads);
    // The shortest blocks are so for their depth; equal tiles for all threads are worth more than that.
    if (even > (rows == 2 * kTile ? 4 : 2) * rows) continue;
    const int64_t sizes[2] = {round_up(even, kTile), round_up(even, 2 * kTile)};
    for (const int64_t size : sizes) {
      const int64_t cost = ceil_div(ceil_div(p.pixels, size), threads) * cost_of_rows(size);
      if (best == 0 || cost < best_cost) best = size, best_cost = cost;
    }
  }
  return best;
}

// Offset of run i within a row.
int64_t run_at(const QConvParams& p, int64_t i) {
  const QTilePlan& q = p.tiled;
  if (q.way == Way::interleaved) return i * q.pitch * q.pixel;
  if (!q.planes()) return 0;
  const int64_t y = (q.way == Way::merged ? i : i / p.kw) * p.dh, x = q.way == Way::merged ? 0 : i % p.kw * p.dw;
  return (y % p.sh * q.phases_w + x % p.sw) * q.plane + (y / p.sh * q.pitch + x / p.sw) * q.pixel;
}

Status plan_interleaving(StepContext& ctx, const QConvParams& p, QTilePlan* q) {
  const int64_t half = p.sw * p.ic / 2, both = 2 * half;  // words of a piece; of a pixel
  q->picks = 0;
  // All that 64 bytes need lies within 64 bytes of each line.
  if (p.sh != 2 || p.sw * p.ic % 2 != 0 || half > 10) return Status();
  int64_t picks = 1;
  while (32 * picks % both != 0) picks++;
  const int64_t vectors = ceil_div(q->pitch * q->pixel, 64);
  q->pick = static_cast<int16_t*>(ctx.alloc->alloc(picks * 64));
  q->pick_from = static_cast<int32_t*>(ctx.alloc->alloc(vectors * 4));
  if (!q->pick || !q->pick_from) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  for (int64_t at = 0; at < 32 * picks; at++) {
    const int64_t word = at % both, pixel = at / both - at / 32 * 32 / both;
    q->pick[at] = static_cast<int16_t>(pixel * half + word % half + word / half * 32);
  }
  for (int64_t i = 0; i < vectors; i++) q->pick_from[i] = static_cast<int32_t>(32 * i / both * half * 2);
  q->picks = picks;
  return Status();
}

}  // namespace

Status qconv_plan_tiles(StepContext& ctx, bool banded, QConvParams* out) {
  QConvParams& p = *out;
  QTilePlan& q = p.tiled;
  if (may_slice(p, banded)) {
    q.way = Way::sliced;
    q.depth = kStep, q.pieces = 1;
    p.steps = p.k / kStep;
    p.nr = kSlicedWidth;
    q.slices = ceil_div(p.pixels * p.k, kSliceBytes);
    q.group = q.slices == 1 ? 2 : kSums / kTileSums;
    return Status();
  }
  Way way = way_of(p);
  if (way != Way::in_place && way != Way::gather && !shape_planes(p, way, &q)) way = Way::gather;
  const Runs r = runs_of(p, way);
  q.way = way;
  q.depth = r.depth();
  p.steps = r.steps();
  // With few steps the outputs decide: four vectors of channels are a whole cache line of them, already in order. With
  // many, tiles of rows and columns alike read the fewest bytes.
  if (!p.f32 && p.ocg > 32 && p.steps <= (p.residual ? kWideStepsResidual : kWideSteps)) p.nr = 64;
  q.at = p.steps <= kFewSteps ? q.few : static_cast<int32_t*>(ctx.alloc->alloc(p.steps * 4));
  if (!q.at) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  q.pieces = way == Way::interleaved ? p.kh * ceil_div(p.kw, p.sw) : r.count;
  return way == Way::interleaved ? plan_interleaving(ctx, p, &q) : Status();
}

QPiece qconv_piece(const QConvParams& p, int64_t i) {
  const QTilePlan& q = p.tiled;
  const Runs r = runs_of(p, q.way);
  const int64_t padded = r.cuts() * q.depth;  // of a run
  if (q.way != Way::interleaved) return {i * padded, i * r.bytes, r.bytes};
  const int64_t across = ceil_div(p.kw, p.sw), y = i / across, x = i % across;
  return {y / p.sh * padded + x * q.pixel + y % p.sh * p.sw * p.ic, (y * p.kw + x * p.sw) * p.ic,
          least(p.sw, p.kw - x * p.sw) * p.ic};
}

// Fitted to the layers of seven networks on one core of a Xeon with AMX: nine in ten are within 0.73 to 1.26 of it.
double qconv_tiles_ns(const QConvParams& p, double rows, double columns) {
  const double products = ceil(rows / kTile) * ceil(columns / kTile) * static_cast<double>(p.steps);
  const double copied = p.tiled.way == Way::in_place ? 0 : rows * static_cast<double>(p.sh * p.sw * p.icg);
  return 119 + 9.6 * products + (p.residual ? 0.107 : 0.032) * rows * columns +
         0.0195 * columns * static_cast<double>(p.k) + 0.0152 * copied + 1.27 * rows;
}

void qconv_plan_blocks(int64_t band, int64_t threads, QConvParams* out, int64_t* scratch) {
  QConvParams& p = *out;
  QTilePlan& q = p.tiled;
  const bool planes = q.planes(), gather = q.way == Way::gather;
  if (q.way == Way::sliced) {
    p.block_rows = p.pixels, p.m_blocks = 1;
    q.at_copy = 0;
    q.at_line = p.pixels * ceil_div(p.steps, q.slices) * kStep;
    *scratch = q.at_line + least(q.group, p.tiles) * kTileSums;
    return;
  }
  int64_t copy;
  if (planes) {
    q.block_lines = band ? band : lines_per_block(p, q, qconv_shares_columns(p, threads) ? 1 : threads);
    q.image_blocks = ceil_div(p.oh, q.block_lines);
    const bool own = own_tiles(p, q.block_lines) < joint_tiles(p, q, q.block_lines);
    q.line_tiles = own ? own_tiles(p, 1) : 0;
    p.block_rows = q.block_lines * p.ow;
    p.m_blocks = p.pixels / (p.oh * p.ow) * q.image_blocks;
    q.lda = q.pixel;
    q.plane = plane_bytes(p, q, q.block_lines);
    copy = planes_bytes(p, q, q.block_lines) + kTile * q.pixel + 128;
  } else {
    const int64_t row = gather ? p.lda : p.k;
    q.lda = gather ? p.lda : p.ic;
    const int64_t rows = rows_of_depth(p, row);
    p.block_rows = band ? band * p.ow : rows_per_block(p, rows, threads);
    p.m_blocks = ceil_div(p.pixels, p.block_rows);
    copy = gather ? round_up(p.block_rows, kTile) * p.lda + 256 : 3 * kTile * p.ic + p.steps * q.depth + 128;
  }
  const Runs r = runs_of(p, q.way);
  for (int64_t i = 0; i < r.count; i++)
    for (int64_t c = 0; c < r.cuts(); c++) q.at[i * r.cuts() + c] = static_cast<int32_t>(run_at(p, i) + c * q.depth);
  const int64_t rows = planes ? q.block_lines * most(q.pitch, kTile * q.line_tiles) : p.block_rows;
  q.at_from = round_up((rows + 64) * 8, 64);
  q.at_tiles = 2 * q.at_from;
  q.at_spoilt = q.at_tiles + round_up((rows + 64) / kTile * 8, 64);
  q.at_copy = q.at_spoilt + round_up(p.oc * (p.f32 ? 4 : 1) + 128, 64);
  q.at_line = q.at_copy + round_up(copy, 64);
  q.line_bytes = planes ? round_up(q.cols * p.sw * p.icg + 192, 64) : 0;
  *scratch = q.at_line + q.line_bytes;
}

}  // namespace irk
#endif
