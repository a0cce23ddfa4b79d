// AMX: tiles of 16 rows x up to 64 bytes, tdpbssd on signed bytes. A register tile is 32 rows x 32 channels in four
// accumulators; a step multiplies two tiles of activations by two of weights. The weights are packed as for VNNI (four
// depths of a channel in a dword), so a tile of them is every other cache line. plan_amx.cc says how rows are found.
//
// The multiplications run beside the vector units: while a tile is multiplied, the one before it is turned into
// outputs, a few vectors after each step.
#include "qconv/x86_512.h"

namespace irk {
namespace {

struct Ops {
  using A = int8_t;
  // Writes 32 elements whatever the run.
  struct Short {
    __mmask32 mask;
    explicit Short(int64_t n) : mask(~0u >> (32 - n)) {}
    IRK_INLINE void operator()(A* dst, const int8_t* src) const {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_maskz_loadu_epi8(mask, src));
    }
  };
  // Writes up to 63 elements too many: what follows is written later, or is slack.
  static IRK_INLINE void copy(A* dst, const int8_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(dst + i, _mm512_loadu_si512(src + i));
    if (i < n) _mm512_storeu_si512(dst + i, _mm512_maskz_loadu_epi8(~0ull >> (64 - (n - i)), src + i));
  }
  static IRK_INLINE void fill(A* dst, int64_t n, int32_t zx) {
    for (int64_t i = 0; i < n; i += 64) _mm512_storeu_si512(dst + i, _mm512_set1_epi8(static_cast<char>(zx)));
  }
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Accumulators 0-3, activations 4 and 5, weights 6 and 7.
void configure(int64_t depth) {
  TileConfig c;
  c.bytes[4] = c.bytes[5] = static_cast<uint16_t>(depth);
  c.rows[6] = c.rows[7] = static_cast<uint8_t>(depth / 4);
  asm volatile("" ::"r"(&c) : "memory");  // the intrinsic is known to read eight bytes only
  _tile_loadconfig(&c);
}

constexpr int64_t kAhead = 128;  // bytes from one fetch to the next: the processor fetches pairs of lines

enum class Out { i8, residual, f32 };

// Sums of a tile, and where its outputs go.
struct Sums {
  int32_t* at;
  bool tall;          // two tiles of rows
  const int64_t* to;  // of each row: the output element, or -1 for a row that is none
  const float* m;
  void* out;
  const int8_t* res;
  int64_t groups;  // of four vectors
};

// Turns sums into outputs, a group of four vectors at a time.
template <int NV, Out kOut>
struct Finish {
  static constexpr int R = 4 / NV;  // rows per group
  Epilogue512<NV> e;
  bool wide, clamped;
  int32_t* ignored;  // [32], for rows that are none

  IRK_INLINE Finish(const QTile& t, const QConvParams& p, int32_t* nowhere)
      : e(t, p), wide(p.wide), clamped(p.clamped), ignored(nowhere) {}

  IRK_INLINE void groups(const Sums& s, int64_t i, int64_t end) const {
    __m512 m[NV];
    unroll<NV>([&](auto v) IRK_LAMBDA { m[v] = _mm512_loadu_ps(s.m + 16 * v); });
    for (; i < end; i++) group(s, m, i);
  }

  IRK_INLINE void group(const Sums& s, const __m512 (&m)[NV], int64_t i) const {
    const int32_t* sums = s.at + i * 64;
    const int64_t* to = s.to + i * R;
    __m512 y[R][NV];
    unroll<R>([&](auto r) IRK_LAMBDA {
      unroll<NV>([&](auto v) IRK_LAMBDA {
        y[r][v] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + (r * NV + v) * 16)), m[v]);
      });
      if constexpr (kOut == Out::residual) e.residual(y[r], s.res + (to[r] < 0 ? 0 : to[r]));
      if constexpr (kOut == Out::f32)
        e.store_f32(y[r], to[r] < 0 ? reinterpret_cast<float*>(ignored) : static_cast<float*>(s.out) + to[r]);
    });
    if constexpr (kOut == Out::f32) return;
    int8_t* d[R];
    unroll<R>([&](auto r) IRK_LAMBDA {
      d[r] = to[r] < 0 ? reinterpret_cast<int8_t*>(ignored) : static_cast<int8_t*>(s.out) + to[r];
    });
    if constexpr (NV == 2) {
      const __m512i b = e.pack(y[0][0], y[0][1], y[1][0], y[1][1], wide, clamped);
      _mm256_mask_storeu_epi8(d[0], static_cast<__mmask32>(e.mask), _mm512_castsi512_si256(b));
      _mm256_mask_storeu_epi8(d[1], static_cast<__mmask32>(e.mask), _mm512_extracti64x4_epi64(b, 1));
    } else {
      const __m512i b = e.pack(y[0][0], y[1][0], y[2][0], y[3][0], wide, clamped);
      unroll<R>([&](auto r) IRK_LAMBDA {
        _mm_mask_storeu_epi8(d[r], static_cast<__mmask16>(e.mask), _mm512_extracti32x4_epi32(b, r));
      });
    }
  }
};

// Accumulator 2r + v has the sums of rows 16r and channels 16v. Half of them are stored when a tile is done, the others
// only after the first multiplications of the next tile: a store makes what follows wait for its accumulator.
template <int NV>
IRK_INLINE void store_first(int32_t* sums, bool tall) {
  _tile_stored(0, sums, NV * 64);
  if (NV == 2 && tall) _tile_stored(2, sums + NV * 256, NV * 64);
}
template <int NV>
IRK_INLINE void store_late(int32_t* sums, bool tall) {
  if (NV == 2) _tile_stored(1, sums + 16, NV * 64);
  if (NV == 2 && tall) _tile_stored(3, sums + NV * 256 + 16, NV * 64);
  if (NV == 1 && tall) _tile_stored(2, sums + NV * 256, NV * 64);
}

// Operands of a tile.
struct Factors {
  const int8_t *a, *a1;  // both tiles of rows
  const uint8_t* w;
  const int32_t* bias;
  const char* ahead;  // weights worth fetching, so many lines per step
  int64_t lines;
};

// The sums of R x 16 rows times NV x 16 channels; meanwhile finishes the tile before. Accumulators start as the bias,
// the same in all rows.
template <int R, int NV, Out kOut>
IRK_INLINE void multiply(const QConvParams& params, Factors f, int32_t* sums, const Finish<NV, kOut>& finish,
                         const Sums& before) {
  const QTilePlan& p = params.tiled;
  const int64_t lda = p.lda, step = p.depth * NV * 16, steps = params.steps;
  const int32_t* at = p.at;
  const int64_t each = before.groups <= steps ? 1 : (before.groups + steps - 1) / steps;
  int64_t done = 0;
  for (int64_t k = 0; k < steps; k++, f.w += step) {
    if (k == 0) _tile_loadd(0, f.bias, 0);
    _tile_loadd(4, f.a + at[k], lda);
    _tile_loadd(6, f.w, NV * 64);
    _tile_dpbssd(0, 4, 6);
    if (R == 2 && NV == 2) {
      if (k == 0) _tile_loadd(2, f.bias, 0);
      _tile_loadd(5, f.a1 + at[k], lda);
      _tile_dpbssd(2, 5, 6);
    }
    if (k == 0 && before.groups) store_late<NV>(before.at, before.tall);
    if (NV == 2) {
      if (k == 0) _tile_loadd(1, f.bias + 16, 0);
      _tile_loadd(7, f.w + 64, NV * 64);
      _tile_dpbssd(1, 4, 7);
      if (k == 0 && R == 2) _tile_loadd(3, f.bias + 16, 0);
      if (R == 2) _tile_dpbssd(3, 5, 7);
    } else if (R == 2) {
      if (k == 0) _tile_loadd(2, f.bias, 0);
      _tile_loadd(5, f.a1 + at[k], lda);
      _tile_dpbssd(2, 5, 6);
    }
    for (int64_t i = 0; i < f.lines; i++, f.ahead += kAhead) _mm_prefetch(f.ahead, _MM_HINT_T1);
    const int64_t stop = done + each < before.groups ? done + each : before.groups;
    finish.groups(before, done, stop);
    done = stop;
  }
  store_first<NV>(sums, R == 2);
}

// A block of rows: where they are, and where their outputs go.
struct Block {
  const int8_t* a;     // first row; rows lie lda apart
  const int8_t* tail;  // tiles from `tail_tile` on are read here instead
  int64_t tail_tile;
  int64_t rows;
  const int64_t* to;
  IRK_INLINE const int8_t* tile(int64_t i, int64_t lda) const {
    return i < tail_tile ? a + i * 16 * lda : tail + (i - tail_tile) * 16 * lda;
  }
};

// Columns [t, t1) of tiles that are NV vectors wide, all rows of the block.
template <int NV, Out kOut>
void columns(const QConvParams& p, const Block& b, int64_t g, int64_t t, int64_t t1, void* out, const int8_t* res) {
  alignas(64) int32_t sums[2][NV * 512], nowhere[32];
  const int64_t tiles = (b.rows + 15) / 16, pairs = (tiles + 1) / 2, lda = p.tiled.lda;
  const int64_t step_lines = NV * p.tiled.depth * 16 / kAhead;
  Factors f = {};
  f.lines = p.group_bytes >= 1 << 18 ? (step_lines + pairs - 1) / pairs : 0;
  QTile first = {};
  first.n = p.ocg - t * p.nr < 16 * NV ? p.ocg - t * p.nr : 16 * NV;
  first.m = p.m;
  const Finish<NV, kOut> finish(first, p, nowhere);
  Sums before = {};
  before.m = p.m;
  int turn = 0;
  for (; t < t1; t++) {
    const int64_t slot = (g * p.tiles + t) * p.nr, c0 = g * p.ocg + t * p.nr;
    f.w = p.w + g * p.group_bytes + t * p.tile_bytes;
    f.bias = p.bias + slot;
    f.ahead = reinterpret_cast<const char*>(f.w + p.tile_bytes);
    for (int64_t i = 0; i < tiles; i += 2, turn ^= 1, f.ahead += kAhead * f.lines * p.steps) {
      const bool tall = i + 1 < tiles;
      f.a = b.tile(i, lda);
      if (tall) {
        f.a1 = b.tile(i + 1, lda);
        multiply<2, NV, kOut>(p, f, sums[turn], finish, before);
      } else {
        multiply<1, NV, kOut>(p, f, sums[turn], finish, before);
      }
      before.at = sums[turn];
      before.tall = tall;
      before.to = b.to + 16 * i;
      before.m = p.m + slot;
      before.out = kOut == Out::f32 ? static_cast<void*>(static_cast<float*>(out) + c0)
                                    : static_cast<void*>(static_cast<int8_t*>(out) + c0);
      before.res = kOut == Out::residual ? res + c0 : nullptr;
      before.groups = (tall ? 8 : 4) * NV;
    }
  }
  store_late<NV>(before.at, before.tall);
  finish.groups(before, 0, before.groups);
}

// One line of `cols` columns with its padding; src null: outside the image. Writes up to 63 bytes too many.
IRK_INLINE void pad_line(const QConvParams& p, const int8_t* src, int64_t cols, int8_t* dst) {
  if (!src) {
    Ops::fill(dst, cols * p.icg, p.zx);
    return;
  }
  const int64_t left = p.pl < cols ? p.pl : cols;
  const int64_t n = p.iw < cols - left ? p.iw : cols - left;
  Ops::fill(dst, left * p.icg, p.zx);
  dst += left * p.icg;
  if (p.groups == 1) {
    Ops::copy(dst, src, n * p.ic);
    dst += n * p.ic;
  } else {
    for (int64_t i = 0; i < n; i++, dst += p.icg) Ops::copy(dst, src + i * p.ic, p.icg);
  }
  Ops::fill(dst, (cols - left - n) * p.icg, p.zx);
}

// Copies the input lines of output lines [first, first + lines) to the scratch: one plane per phase of the strides, or
// all phases of a pixel side by side.
void copy_planes(const QConvParams& p, const int8_t* image, int64_t first, int64_t lines, int8_t* dst, int8_t* line) {
  const QTilePlan& q = p.tiled;
  const int64_t high = (lines - 1) * p.sh + (p.kh - 1) * p.dh + 1;  // input lines
  for (int64_t y = 0; y < high; y++) {
    const int64_t ih = first * p.sh - p.pt + y;
    const int8_t* src = ih >= 0 && ih < p.ih ? image + ih * p.iw * p.ic : nullptr;
    const int64_t phase = y % p.sh;
    int8_t* to = dst + y / p.sh * q.pitch * q.pixel;
    if (q.way == QTilePlan::interleaved) {
      pad_line(p, src, q.pitch * p.sw, line);
      const int64_t n = p.sw * p.ic;  // at most 64
      const __mmask64 mask = ~0ull >> (64 - n);
      to += phase * n;
      if (n <= 16) {
        for (int64_t j = 0; j < q.pitch; j++, to += q.pixel)
          _mm_mask_storeu_epi8(to, static_cast<__mmask16>(mask),
                               _mm_loadu_si128(reinterpret_cast<const __m128i*>(line + j * n)));
      } else {
        for (int64_t j = 0; j < q.pitch; j++, to += q.pixel)
          _mm512_mask_storeu_epi8(to, mask, _mm512_loadu_si512(line + j * n));
      }
    } else if (phase < q.phases_h) {
      to += phase * q.phases_w * q.plane;
      if (p.sw == 1) {
        pad_line(p, src, q.pitch, to);
        if (y + p.sh >= high) Ops::fill(to + q.pitch * q.pixel, (q.cols - q.pitch) * q.pixel, p.zx);
      } else {
        pad_line(p, src, q.cols * p.sw, line);
        for (int64_t x = 0; x < q.phases_w; x++, to += q.plane)
          for (int64_t j = 0; j < q.pitch; j++) Ops::copy(to + j * p.icg, line + (j * p.sw + x) * p.icg, p.icg);
      }
    }
  }
}

// The block's lines or rows, and for each row its output element.
Block block_of(const QConvParams& p, const int8_t* x, int64_t g, int64_t m, int8_t* scratch) {
  const QTilePlan& q = p.tiled;
  int64_t* to = reinterpret_cast<int64_t*>(scratch);
  int8_t* copy = scratch + q.at_copy;
  Block b = {copy, nullptr, 1 << 30, 0, to};
  if (q.planes()) {
    const int64_t n = m / q.image_blocks, first = m % q.image_blocks * q.block_lines;
    const int64_t lines = p.oh - first < q.block_lines ? p.oh - first : q.block_lines;
    copy_planes(p, x + n * p.ih * p.iw * p.ic + g * p.icg, first, lines, copy, scratch + q.at_line);
    b.rows = (lines - 1) * q.pitch + p.ow;
    int64_t pixel = (n * p.oh + first) * p.ow;
    for (int64_t i = 0; i < lines; i++, to += q.pitch) {
      for (int64_t j = 0; j < p.ow; j++) to[j] = pixel++ * p.oc;
      for (int64_t j = p.ow; j < q.pitch; j++) to[j] = -1;
    }
  } else {
    const int64_t m0 = m * p.block_rows, m1 = m0 + p.block_rows < p.pixels ? m0 + p.block_rows : p.pixels;
    b.rows = m1 - m0;
    for (int64_t i = m0; i < m1; i++) *to++ = i * p.oc;
    if (q.way == QTilePlan::gather) {
      qconv_pack<Ops>(p, x + g * p.icg, m0, m1, copy);
    } else {
      // Tiles that would read past the input's end are read from a copy.
      b.a = x + m0 * p.ic + g * p.icg;
      const int64_t room = (p.pixels - m0) * p.ic - g * p.icg, wanted = 15 * p.ic + p.steps * q.depth;
      b.tail_tile = room < wanted ? 0 : (room - wanted) / (16 * p.ic) + 1;
      const int64_t from = b.tail_tile * 16 * p.ic;
      b.tail = copy;
      if (b.tail_tile * 16 < b.rows) Ops::copy(copy, b.a + from, (b.rows * p.ic < room ? b.rows * p.ic : room) - from);
    }
  }
  to = reinterpret_cast<int64_t*>(scratch);
  for (int64_t i = b.rows; i % 32 != 0; i++) to[i] = -1;
  return b;
}

template <Out kOut>
void run(void* const* bufs, const QConvParams& p, int64_t begin, int64_t end) {
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = static_cast<const int8_t*>(bufs[4]);
  int8_t* scratch = static_cast<int8_t*>(bufs[6]);
  Block b = {};
  int64_t ready = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t nb = item % p.n_blocks, gm = item / p.n_blocks, g = gm / p.m_blocks;
    if (ready != gm) {
      b = block_of(p, x, g, gm % p.m_blocks, scratch);
      asm volatile("" ::: "memory");  // tile loads read what has just been written
      ready = gm;
    }
    const int64_t t0 = nb * p.block_tiles, t1 = t0 + p.block_tiles < p.tiles ? t0 + p.block_tiles : p.tiles;
    // A last tile of part of the channels is a matter of its own.
    const int64_t full = t1 < p.tiles || p.ocg % p.nr == 0 ? t1 : t1 - 1;
    if (t0 < full) columns<2, kOut>(p, b, g, t0, full, bufs[5], res);
    if (full < t1) {
      if (p.ocg % p.nr > 16)
        columns<2, kOut>(p, b, g, full, t1, bufs[5], res);
      else
        columns<1, kOut>(p, b, g, full, t1, bufs[5], res);
    }
  }
}

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_amx(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QConvParams& p = *static_cast<const irk::QConvParams*>(params);
  irk::configure(p.tiled.depth);
  if (p.f32)
    irk::run<irk::Out::f32>(bufs, p, begin, end);
  else if (p.residual)
    irk::run<irk::Out::residual>(bufs, p, begin, end);
  else
    irk::run<irk::Out::i8>(bufs, p, begin, end);
  _tile_release();
}
