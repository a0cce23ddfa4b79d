// AMX where few rows meet large weights: tiles are all rows of the product (at most 64) times 16 channels, so that the
// weights, which come from L3 or memory, are read once, and at a rate that these have. The rows' depth is cut into
// slices that stay in L1; sums of a group of channels are kept from slice to slice. Weights are fetched ahead all the
// time.
#pragma once
#include <immintrin.h>

#include "base/unroll.h"
#include "qconv/amx_finish.h"

namespace irk {
namespace {

constexpr int64_t kMostTiles = 4;                       // of rows
constexpr int64_t kWide = 64;                           // channels that are finished together
constexpr int64_t kWideSums = 16 * kMostTiles * kWide;  // their sums
constexpr int64_t kStepBytes = 1024;                    // weights of 16 channels and a step

// Weights in the order in which they are used: of a group of tiles, slice by slice, 16 channels after 16 channels.
struct SlicedOrder {
  const QConvParams& p;
  int64_t group, end;                 // tiles: first of the group, first that isn't wanted
  int64_t slice = 0, tile, part = 0;  // 16 channels of the tile
  SlicedOrder(const QConvParams& params, int64_t from, int64_t to) : p(params), group(from), end(to), tile(from) {}
  int64_t group_end() const { return group + p.tiled.group < end ? group + p.tiled.group : end; }
  bool done() const { return group >= end; }
  int64_t first_step() const { return slice * p.steps / p.tiled.slices; }
  int64_t steps() const { return (slice + 1) * p.steps / p.tiled.slices - first_step(); }
  const uint8_t* weights() const { return p.w + tile * p.tile_bytes + (part * p.steps + first_step()) * kStepBytes; }
  void next() {
    if (++part < kWide / 16) return;
    part = 0;
    if (++tile < group_end()) return;
    if (++slice == p.tiled.slices) slice = 0, group = group_end();
    tile = group;
  }
};

// Fetches weights in that order, so many cache lines at a time.
struct SlicedAhead {
  SlicedOrder order;
  const uint8_t* at;
  int64_t left;  // lines of this tile
  SlicedAhead(const QConvParams& p, int64_t from, int64_t to) : order(p, from, to) { enter(); }
  void enter() {
    at = order.done() ? nullptr : order.weights();
    left = order.done() ? 0 : order.steps() * (kStepBytes / 64);
  }
  IRK_INLINE void fetch(int64_t lines) {
    while (lines > 0 && left > 0) {
      const int64_t n = lines < left ? lines : left;
      for (int64_t i = 0; i < n; i++, at += 64) _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
      lines -= n, left -= n;
      if (left > 0) return;
      order.next();
      enter();
    }
  }
};

// Copies the rows of steps [step, end): 64 bytes of all of them, then the next 64.
void copy_sliced(const QConvParams& p, const int8_t* x, int64_t step, int64_t end, int8_t* to) {
  alignas(64) int8_t outside[64];
  _mm512_store_si512(outside, _mm512_set1_epi8(static_cast<char>(p.zx)));
  const int8_t* from[16 * kMostTiles];
  int64_t move[16 * kMostTiles];
  const int64_t pieces = p.ic / 64;
  while (step < end) {
    const int64_t tap = step / pieces, stop = (tap + 1) * pieces < end ? (tap + 1) * pieces : end;
    const int64_t down = tap / p.kw * p.dh - p.pt, right = tap % p.kw * p.dw - p.pl;
    for (int64_t i = 0; i < p.pixels; i++) {
      const int64_t line = i / p.ow, y = line % p.oh * p.sh + down, x0 = i % p.ow * p.sw + right;
      const bool inside = y >= 0 && y < p.ih && x0 >= 0 && x0 < p.iw;
      from[i] = inside ? x + ((line / p.oh * p.ih + y) * p.iw + x0) * p.ic : outside;
      move[i] = inside ? 64 : 0;
    }
    for (; step < stop; step++) {
      const int64_t c = step % pieces;
      for (int64_t i = 0; i < p.pixels; i++, to += 64)
        _mm512_store_si512(to, _mm512_loadu_si512(from[i] + c * move[i]));
    }
  }
  asm volatile("" ::: "memory");  // tile loads read what has just been written
}

// Scaled values that may leave int32 have the plain form.
template <Out kOut, QForm form>
using FinisherSliced = Finish<4, kOut, form, form != QForm::plain>;

// Outputs of rows [i, end) of a tile. Not inlined: weights are waited for anyway, and what multiplies is the same for
// all epilogues.
using FinishSliced = void (*)(void* finish, const Sums& s, int64_t i, int64_t end);
template <Out kOut, QForm form>
IRK_NOINLINE void finish_sliced(void* finish, const Sums& s, int64_t i, int64_t end) {
  auto& f = *static_cast<FinisherSliced<kOut, form>*>(finish);
  if (i == 0) f.scales(s.m);
  for (; i < end; i++) f(s, i);
}

// Accumulators of 16 channels are stored only when the first multiplications of the next 16 have begun: a store makes
// what follows wait for its accumulator.
IRK_INLINE void store_sliced(int i, int32_t* sums) {
  if (i == 0) _tile_stored(0, sums, kWide * 4);
  if (i == 1) _tile_stored(1, sums + 16 * kWide, kWide * 4);
  if (i == 2) _tile_stored(2, sums + 32 * kWide, kWide * 4);
  if (i == 3) _tile_stored(3, sums + 48 * kWide, kWide * 4);
}

// A slice of 16 channels.
struct SlicedTile {
  const int8_t* a;
  int64_t row_bytes;  // 64 bytes of all rows
  const uint8_t* w;
  const int32_t* start;  // bias, the same in all rows, or sums so far
  int64_t start_row;
  int64_t steps;
  int32_t* late;  // sums of the 16 channels before, to be stored
};

// R tiles of rows, the last of which may be short. Meanwhile finishes rows [row, row_end) of the tile before.
template <int R>
IRK_NOINLINE void multiply_sliced(const SlicedTile& t, SlicedAhead& ahead, int64_t row, int64_t row_end,
                                  FinishSliced finish, void* finisher, const Sums& before) {
  const char* const start = reinterpret_cast<const char*>(t.start);
  const int8_t* a = t.a;
  const uint8_t* w = t.w;
  int64_t passed = 0, done = row;
  const auto step = [&](auto first) IRK_LAMBDA {
    const auto begin = [&](auto i) IRK_LAMBDA {
      if (!first) return;
      if (t.late) store_sliced(i, t.late);
      const char* const from = start + 16 * i * t.start_row;
      if (i == 0) _tile_loadd(0, from, t.start_row);
      if (i == 1) _tile_loadd(1, from, t.start_row);
      if (i == 2) _tile_loadd(2, from, t.start_row);
      if (i == 3) _tile_loadd(3, from, t.start_row);
    };
    begin(Int<0>());
    _tile_loadd(6, w, 64);
    _tile_loadd(4, a, 64);
    _tile_dpbssd(0, 4, 6);
    begin(Int<1>());
    _tile_loadd(4, a + 1024, 64);
    _tile_dpbssd(1, 4, 6);
    ahead.fetch(16);
    begin(Int<2>());
    if (R > 3) {
      _tile_loadd(4, a + 2048, 64);
      _tile_dpbssd(2, 4, 6);
      begin(Int<3>());
      _tile_loadd(5, a + 3072, 64);
      _tile_dpbssd(3, 5, 6);
    } else {
      _tile_loadd(5, a + 2048, 64);
      _tile_dpbssd(2, 5, 6);
    }
    a += t.row_bytes;
    w += kStepBytes;
    passed++;
    if (row == row_end) return;
    const int64_t until = row + (row_end - row) * passed / t.steps;
    finish(finisher, before, done, until);
    done = until;
  };
  step(Int<1>());
  for (int64_t k = 1; k < t.steps; k++) step(Int<0>());
}

// A range of tiles.
struct SlicedRun {
  const QConvParams& p;
  char* const* to;            // outputs of each row
  const int8_t* const* from;  // and residuals
  const int8_t* x;
  int8_t* rows;
  int32_t* sums;
  int64_t tile, end;
};

void columns_sliced(const SlicedRun& r, FinishSliced finish, void* finisher) {
  const QConvParams& p = r.p;
  const auto multiply = p.pixels > 48 ? multiply_sliced<4> : multiply_sliced<3>;
  Sums before = {};
  int32_t* late = nullptr;
  int64_t turn = 0, copied = -1;
  SlicedAhead ahead(p, r.tile, r.end);
  ahead.fetch(kStepBytes / 64 * p.steps / p.tiled.slices);
  for (SlicedOrder o(p, r.tile, r.end); !o.done(); o.next()) {
    if (copied != o.slice) {
      copied = o.slice;
      copy_sliced(p, r.x, o.first_step(), o.first_step() + o.steps(), r.rows);
    }
    int32_t* const sums = r.sums + (p.tiled.slices == 1 ? turn : o.tile - o.group) * kWideSums;
    int32_t* const part = sums + 16 * o.part;
    SlicedTile tile = {r.rows, p.pixels * 64, o.weights(), part, kWide * 4, o.steps(), late};
    if (o.slice == 0) tile.start = p.bias + kWide * o.tile + 16 * o.part, tile.start_row = 0;
    const int64_t row = p.pixels * o.part / (kWide / 16), row_end = p.pixels * (o.part + 1) / (kWide / 16);
    multiply(tile, ahead, row, before.at ? row_end : row, finish, finisher, before);
    late = part;
    if (o.part < kWide / 16 - 1) continue;
    before.at = nullptr;
    turn ^= 1;
    if (o.slice == p.tiled.slices - 1) before = {sums, true, r.to, r.from, p.m + kWide * o.tile, kWide * o.tile};
  }
  for (int i = 0; i < (p.pixels > 48 ? 4 : 3); i++) store_sliced(i, late);
  finish(finisher, before, 0, p.pixels);
}

template <Out kOut, QForm form>
void finish_with(const SlicedRun& r) {
  QTile first = {};
  first.n = kWide;
  first.m = r.p.m;
  FinisherSliced<kOut, form> finisher(first, r.p);
  columns_sliced(r, finish_sliced<kOut, form>, &finisher);
}

void run_sliced(void* const* bufs, const QConvParams& p, int64_t begin, int64_t end) {
  const int64_t t1 = end * p.block_tiles < p.tiles ? end * p.block_tiles : p.tiles;
  int8_t* const scratch = static_cast<int8_t*>(bufs[6]);
  // One row's outputs after the other's.
  char* to[16 * kMostTiles];
  const int8_t* from[16 * kMostTiles];
  for (int64_t i = 0; i < p.pixels; i++) {
    to[i] = static_cast<char*>(bufs[5]) + i * p.oc;
    from[i] = static_cast<const int8_t*>(bufs[4]) + (p.residual ? i * p.oc : 0);
  }
  const SlicedRun r = {p,
                       to,
                       from,
                       static_cast<const int8_t*>(bufs[0]),
                       scratch + p.tiled.at_copy,
                       reinterpret_cast<int32_t*>(scratch + p.tiled.at_line),
                       begin * p.block_tiles,
                       t1};
  if (!p.residual)
    (p.form == QForm::lifted ? finish_with<Out::i8, QForm::lifted> : finish_with<Out::i8, QForm::plain>)(r);
  else if (p.form == QForm::lifted)
    finish_with<Out::residual, QForm::lifted>(r);
  else
    (p.form == QForm::low ? finish_with<Out::residual, QForm::low> : finish_with<Out::residual, QForm::plain>)(r);
}

}  // namespace
}  // namespace irk
