// AMX: tiles of 16 rows x 64 bytes, tdpbssd on signed bytes. A register tile is 32 pixels x 32 channels in four
// accumulators; a step multiplies two tiles of activations by two of weights, 64 deep. The weights are packed as for
// VNNI (four depths of a channel in a dword), so a tile of them is every other cache line.
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

constexpr int kRows = 32;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The sums of R x 16 rows times NV x 16 channels, row after row. Accumulators start as the bias, the same in all rows.
template <int R, int NV>
IRK_INLINE void sum_tile(const int8_t* a, int64_t lda, const uint8_t* w, const int32_t* bias, int64_t steps,
                         int32_t* sums) {
  _tile_loadd(0, bias, 0);
  if (NV == 2) _tile_loadd(1, bias + 16, 0);
  if (R == 2) _tile_loadd(2, bias, 0);
  if (R == 2 && NV == 2) _tile_loadd(3, bias + 16, 0);
  const int8_t* a1 = a + 16 * lda;
  for (int64_t k = 0; k < steps; k++, a += 64, a1 += 64, w += NV * 1024) {
    _tile_loadd(4, a, lda);
    _tile_loadd(6, w, NV * 64);
    _tile_dpbssd(0, 4, 6);
    if (NV == 2) {
      _tile_loadd(7, w + 64, NV * 64);
      _tile_dpbssd(1, 4, 7);
    }
    if (R == 2) {
      _tile_loadd(5, a1, lda);
      _tile_dpbssd(2, 5, 6);
      if (NV == 2) _tile_dpbssd(3, 5, 7);
    }
  }
  _tile_stored(0, sums, NV * 64);
  if (NV == 2) _tile_stored(1, sums + 16, NV * 64);
  if (R == 2) _tile_stored(2, sums + NV * 256, NV * 64);
  if (R == 2 && NV == 2) _tile_stored(3, sums + NV * 256 + 16, NV * 64);
}

template <int NV>
IRK_INLINE void tile(const QTile& t, const QConvParams& p, int64_t lda, int64_t rows, int32_t* sums) {
  const int8_t* a = static_cast<const int8_t*>(t.a);
  const uint8_t* w = static_cast<const uint8_t*>(t.w);
  const int64_t steps = p.steps / 16;
  if (rows > 16)
    sum_tile<2, NV>(a, lda, w, t.bias, steps, sums);
  else
    sum_tile<1, NV>(a, lda, w, t.bias, steps, sums);
  if (p.f32)
    finish512_f32<NV>(sums, rows, t, p);
  else if (t.res)
    finish512<NV, true>(sums, rows, t, p);
  else
    finish512<NV, false>(sums, rows, t, p);
}

void run(void* const* bufs, const QConvParams& p, int64_t begin, int64_t end) {
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = p.residual ? static_cast<const int8_t*>(bufs[4]) : nullptr;
  char* out = static_cast<char*>(bufs[5]);
  int8_t* copy = static_cast<int8_t*>(bufs[6]);
  const int64_t osize = p.f32 ? 4 : 1;
  alignas(64) int32_t sums[kRows * 32];
  const int8_t* a = nullptr;
  int64_t lda = 0, ready = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t nb = item % p.n_blocks, gm = item / p.n_blocks;
    const int64_t g = gm / p.m_blocks, m0 = gm % p.m_blocks * p.block_rows;
    const int64_t m1 = m0 + p.block_rows < p.pixels ? m0 + p.block_rows : p.pixels;
    if (ready != gm) {
      // Rows of the input itself, where whole tiles of them lie inside it.
      const bool direct = p.pointwise && p.icg % 64 == 0 && (m0 + (m1 - m0 + 15) / 16 * 16) <= p.pixels;
      if (direct) {
        a = x + m0 * p.ic + g * p.icg, lda = p.ic;
      } else {
        qconv_pack<Ops>(p, x + g * p.icg, m0, m1, copy);
        a = copy, lda = p.lda;
      }
      ready = gm;
    }
    const int64_t t1 = (nb + 1) * p.block_tiles < p.tiles ? (nb + 1) * p.block_tiles : p.tiles;
    for (int64_t t = nb * p.block_tiles; t < t1; t++) {
      QTile q = {};
      const int64_t c0 = g * p.ocg + t * p.nr;
      q.n = p.ocg - t * p.nr < p.nr ? p.ocg - t * p.nr : p.nr;
      q.w = p.w + g * p.group_bytes + t * p.tile_bytes;
      q.bias = p.bias + (g * p.tiles + t) * p.nr;
      q.m = p.m + (g * p.tiles + t) * p.nr;
      for (int64_t row = m0; row < m1; row += kRows) {
        q.a = a + (row - m0) * lda;
        q.res = res ? res + row * p.oc + c0 : nullptr;
        q.out = out + (row * p.oc + c0) * osize;
        const int64_t rows = m1 - row < kRows ? m1 - row : kRows;
        if (q.n > 16)
          tile<2>(q, p, lda, rows, sums);
        else
          tile<1>(q, p, lda, rows, sums);
      }
    }
  }
}

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_amx(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::TileConfig config;
  _tile_loadconfig(&config);
  irk::run(bufs, *static_cast<const irk::QConvParams*>(params), begin, end);
  _tile_release();
}
