// AMX: tiles of 16 rows x up to 64 bytes, tdpbssd on signed bytes. A register tile is 32 rows x 32 channels in four
// accumulators; a step multiplies two tiles of activations by two of weights. The weights are packed as for VNNI (four
// depths of a channel in a dword), so a tile of them is every other cache line. plan_amx.cc says how rows are found.
//
// The multiplications run beside the vector units: while a tile is multiplied, the one before it is turned into
// outputs, a few vectors after each step.
#include "qconv/amx_finish.h"
#include "qconv/amx_rows.h"
#include "qconv/amx_sliced.h"

namespace irk {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Accumulators 0-3, activations 4 and 5, weights 6 and 7.
void configure(const QConvParams& p) {
  TileConfig c;
  const int64_t depth = p.tiled.depth;
  c.bytes[4] = c.bytes[5] = static_cast<uint16_t>(depth);
  c.rows[6] = c.rows[7] = static_cast<uint8_t>(depth / 4);
  if (p.tiled.way == QTilePlan::sliced)  // the last tile of rows: a few take less time
    c.rows[5] = c.rows[(p.pixels - 1) / 16] = static_cast<uint8_t>((p.pixels - 1) % 16 + 1);
  asm volatile("" ::"r"(&c) : "memory");  // the intrinsic is known to read eight bytes only
  _tile_loadconfig(&c);
}

constexpr int64_t kLine = 64;

// A tile is 32 rows of NV = 1 or 2 vectors, accumulator 2r + v having the sums of rows 16r and channels 16v, or 16 rows
// of four vectors. Half of the accumulators are stored when a tile is done, the others only after the first
// multiplications of the next tile: a store makes what follows wait for its accumulator.
template <int NV>
IRK_INLINE void store_first(int32_t* sums, bool tall) {
  _tile_stored(0, sums, NV * 64);
  if (NV == 4) _tile_stored(1, sums + 16, NV * 64);
  if (NV == 2 && tall) _tile_stored(2, sums + NV * 256, NV * 64);
}
template <int NV>
IRK_INLINE void store_late(int32_t* sums, bool tall) {
  if (NV == 4) _tile_stored(2, sums + 32, NV * 64);
  if (NV == 4) _tile_stored(3, sums + 48, NV * 64);
  if (NV == 2) _tile_stored(1, sums + 16, NV * 64);
  if (NV == 2 && tall) _tile_stored(3, sums + NV * 256 + 16, NV * 64);
  if (NV == 1 && tall) _tile_stored(2, sums + NV * 256, NV * 64);
}

// Groups of four vectors in the sums of a tile.
constexpr int groups_of(int NV, bool tall) { return NV == 4 ? 16 : (tall ? 8 : 4) * NV; }

// Operands of a tile.
struct Factors {
  const int8_t *a, *a1;  // both tiles of rows
  const uint8_t* w;
  const int32_t* bias;
  const char* ahead;  // weights worth fetching, so many lines per step
  int64_t lines;
};

// The sums of R x 16 rows times NV x 16 channels. Accumulators start as the bias, the same in all rows. Meanwhile
// finishes the tile before: `each` groups per step, in portions so that both kinds of work are in flight; 0: all of
// them in the first step, with less code. kNothing: there is none before.
constexpr int kNothing = -1;
struct Nothing {
  void scales(const float*) const {}
  void operator()(const Sums&, int64_t) const {}
};
template <int R, int NV, int each, class Finisher>
IRK_INLINE void multiply(const QConvParams& params, Factors f, int32_t* sums, Finisher& finish, const Sums& before) {
  const QTilePlan& p = params.tiled;
  const int64_t lda = p.lda;
  const int32_t* at = p.at;
  int64_t group = 0;
  const auto some = [&](auto n) IRK_LAMBDA {
    unroll<n>([&](auto i) IRK_LAMBDA { finish(before, group + i); });
    group += n;
  };
  const auto fetch = [&]() IRK_LAMBDA {
    for (int64_t i = 0; i < f.lines; i++, f.ahead += kLine) _mm_prefetch(f.ahead, _MM_HINT_T1);
  };
  if (each != kNothing) finish.scales(before.m);
  const auto step = [&](auto first, auto count) IRK_LAMBDA {
    constexpr int n = decltype(count)::value, part = n / 3;
    if (first) _tile_loadd(0, f.bias, 0);
    _tile_loadd(4, f.a + *at, lda);
    if constexpr (NV == 4) {
      _tile_loadd(6, f.w, NV * 64);
      _tile_dpbssd(0, 4, 6);
      if (first) _tile_loadd(1, f.bias + 16, 0);
      _tile_loadd(7, f.w + 64, NV * 64);
      _tile_dpbssd(1, 4, 7);
      if (first && each != kNothing) store_late<NV>(before.at, before.tall);
      some(Int<part>());
      if (first) _tile_loadd(2, f.bias + 32, 0);
      _tile_loadd(6, f.w + 128, NV * 64);
      _tile_dpbssd(2, 4, 6);
      some(Int<part>());
      if (first) _tile_loadd(3, f.bias + 48, 0);
      _tile_loadd(7, f.w + 192, NV * 64);
      _tile_dpbssd(3, 4, 7);
    } else {
      _tile_loadd(6, f.w, NV * 64);
      _tile_dpbssd(0, 4, 6);
      if (R == 2 && NV == 2) {
        if (first) _tile_loadd(2, f.bias, 0);
        _tile_loadd(5, f.a1 + *at, lda);
        _tile_dpbssd(2, 5, 6);
      }
      if (first && each != kNothing) store_late<NV>(before.at, before.tall);
      some(Int<part>());
      if (NV == 2) {
        if (first) _tile_loadd(1, f.bias + 16, 0);
        _tile_loadd(7, f.w + 64, NV * 64);
        _tile_dpbssd(1, 4, 7);
      }
      some(Int<part>());
      if (R == 2) {
        if (NV == 2) {
          if (first) _tile_loadd(3, f.bias + 16, 0);
          _tile_dpbssd(3, 5, 7);
        } else {
          if (first) _tile_loadd(2, f.bias, 0);
          _tile_loadd(5, f.a1 + *at, lda);
          _tile_dpbssd(2, 5, 6);
        }
      }
    }
    fetch();
    some(Int<n - 2 * part>());
    if (first && each == 0)
      for (; group < groups_of(NV, true); group++) finish(before, group);
    f.w += p.depth * NV * 16;
    at++;
  };
  constexpr int kEach = each > 0 ? each : 0, kFinishing = kEach ? groups_of(NV, true) / kEach : 1;
  step(Int<1>(), Int<kEach>());
  for (int64_t k = 1; k < kFinishing; k++) step(Int<0>(), Int<kEach>());
  for (int64_t k = kFinishing; k < params.steps; k++) step(Int<0>(), Int<0>());
  store_first<NV>(sums, R == 2);
}

// The first tile; not inlined, as it is the same for all epilogues.
template <int R, int NV>
IRK_NOINLINE void multiply_first(const QConvParams& p, const Factors& f, int32_t* sums) {
  const Nothing nothing;
  multiply<R, NV, kNothing>(p, f, sums, nothing, Sums{});
}

// Columns [t, t1) of tiles that are NV vectors wide, all rows of the block.
template <int NV, Out kOut, QForm form, bool simple, int each>
void columns(const QConvParams& p, const Block& b, int64_t g, int64_t t, int64_t t1) {
  constexpr int kRows = NV == 4 ? 1 : 2;  // tiles of rows at a time
  alignas(64) int32_t sums[2][kRows * NV * 256];
  const int64_t tiles = (b.rows + 15) / 16, turns = (tiles + kRows - 1) / kRows;
  const int64_t step_lines = NV * p.tiled.depth * 16 / kLine;
  Factors f = {};
  f.lines = b.fetch ? (step_lines + turns - 1) / turns : 0;
  QTile first = {};
  first.n = p.ocg - t * p.nr < 16 * NV ? p.ocg - t * p.nr : 16 * NV;
  first.m = p.m;
  Finish<NV, kOut, form, simple> finish(first, p);
  Sums before = {nullptr, false, nullptr, nullptr, nullptr, 0};
  int turn = 0;
  for (; t < t1; t++) {
    const int64_t slot = (g * p.tiles + t) * p.nr, c0 = g * p.ocg + t * p.nr;
    f.w = p.w + g * p.group_bytes + t * p.tile_bytes;
    f.bias = p.bias + slot;
    f.ahead = reinterpret_cast<const char*>(f.w + p.tile_bytes);
    for (int64_t i = 0; i < tiles; i += kRows, turn ^= 1, f.ahead += kLine * f.lines * p.steps) {
      const bool tall = kRows == 2 && i + 1 < tiles;
      f.a = b.tiles[i];
      if (tall) f.a1 = b.tiles[i + 1];
      if (!before.at) {
        if (tall)
          multiply_first<2, NV>(p, f, sums[turn]);
        else
          multiply_first<1, NV>(p, f, sums[turn]);
      } else if (tall) {
        multiply<2, NV, each>(p, f, sums[turn], finish, before);
      } else {
        multiply<1, NV, kRows == 1 ? each : 0>(p, f, sums[turn], finish, before);
      }
      before = {sums[turn], tall, b.to + 16 * i, b.from + 16 * i, p.m + slot, c0};
    }
  }
  store_late<NV>(before.at, before.tall);
  finish.scales(before.m);
  for (int64_t i = 0; i < groups_of(NV, before.tall); i++) finish(before, i);
}

template <int NV, Out kOut, QForm form>
void columns(const QConvParams& p, const Block& b, int64_t g, int64_t t, int64_t t1) {
  constexpr int kGroups = groups_of(NV, true);                   // the more steps, the fewer in each
  if (kOut == Out::f32 || p.wide || p.ocg - t * p.nr < 16 * NV)  // any form is right for a residual
    columns<NV, kOut, kOut == Out::residual ? QForm::plain : form, false, 0>(p, b, g, t, t1);
  else if (p.steps < (NV >= 2 ? 2 : 4))
    columns<NV, kOut, form, true, NV >= 2 ? kGroups : 0>(p, b, g, t, t1);
  else if (NV == 4 && p.steps < 4)
    columns<NV, kOut, form, true, kGroups / 2>(p, b, g, t, t1);
  else if (NV == 2 && p.steps < 8)
    columns<NV, kOut, form, true, kGroups / 2>(p, b, g, t, t1);
  else
    columns<NV, kOut, form, true, NV == 2 ? kGroups / 8 : kGroups / 4>(p, b, g, t, t1);
}

template <int NV, Out kOut>
void columns(const QConvParams& p, const Block& b, int64_t g, int64_t t, int64_t t1) {
  if constexpr (kOut != Out::f32) {
    if (p.form == QForm::lifted) {
      columns<NV, kOut, QForm::lifted>(p, b, g, t, t1);
      return;
    }
  }
  if constexpr (kOut == Out::residual) {
    if (p.form == QForm::low) {
      columns<NV, kOut, QForm::low>(p, b, g, t, t1);
      return;
    }
  }
  columns<NV, kOut, QForm::plain>(p, b, g, t, t1);
}

template <Out kOut>
void run(void* const* bufs, const QConvParams& p, int64_t begin, int64_t end) {
  Block b = {};
  int64_t ready = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t nb = item % p.n_blocks, gm = item / p.n_blocks, g = gm / p.m_blocks;
    if (ready != gm) {
      const int64_t m = gm % p.m_blocks;
      b = block_of(p, bufs, g, m, ready >= 0 && ready + 1 == gm);
      b.fetch = p.group_bytes >= 1 << 18 && (m == 0 || p.group_bytes > 1 << 20);
      asm volatile("" ::: "memory");  // tile loads read what has just been written
      ready = gm;
    }
    const int64_t t0 = nb * p.block_tiles, t1 = t0 + p.block_tiles < p.tiles ? t0 + p.block_tiles : p.tiles;
    // A last tile of part of the channels is a matter of its own.
    const int64_t full = t1 < p.tiles || p.ocg % p.nr == 0 ? t1 : t1 - 1;
    const auto some = [&](int64_t from, int64_t to, int64_t channels) {
      if (from == to) return;
      if (kOut != Out::f32 && channels > 32)
        columns<4, kOut>(p, b, g, from, to);
      else if (channels > 16)
        columns<2, kOut>(p, b, g, from, to);
      else
        columns<1, kOut>(p, b, g, from, to);
    };
    some(t0, full, p.nr);
    some(full, t1, p.ocg % p.nr);
  }
}

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_amx(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QConvParams& p = *static_cast<const irk::QConvParams*>(params);
  irk::configure(p);
  if (p.tiled.way == irk::QTilePlan::sliced)
    irk::run_sliced(bufs, p, begin, end);
  else if (p.f32)
    irk::run<irk::Out::f32>(bufs, p, begin, end);
  else if (p.residual)
    irk::run<irk::Out::residual>(bufs, p, begin, end);
  else
    irk::run<irk::Out::i8>(bufs, p, begin, end);
  _tile_release();
}
