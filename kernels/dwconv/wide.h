// 3x3 and 5x5 kernels of column stride 1 and 2 on x86: a vector of channels goes along rows of the output with up to
// eight columns in flight. Columns beside the input are zeros from elsewhere, by a choice of address, so that a row is
// done in one way from end to end.
#pragma once
#include "base/unroll.h"
#include "dwconv/generic.h"

namespace {

constexpr int kCols = 8;
constexpr int kRows = 8;  // that a vector of channels goes along before the next one starts

// A row of the output from some column on. Distances are in bytes.
struct Row {
  const char* line[5];  // input row of each tap row at the first column of its window; zeros where it is outside
  int64_t move[5];      // from there to the next column
  char* out;
  const char* res;
};

template <bool TAIL>
IRK_INLINE V::F load_at(const char* p, int64_t n) {
  return TAIL ? V::load_n(reinterpret_cast<const float*>(p), n) : V::load(reinterpret_cast<const float*>(p));
}
template <bool TAIL>
IRK_INLINE void store_at(char* p, V::F v, int64_t n) {
  if (TAIL) {
    V::store_n(reinterpret_cast<float*>(p), v, n);
  } else {
    V::store(reinterpret_cast<float*>(p), v);
  }
}

// The end of `cols` columns of a row that a clip can't express.
template <bool TAIL>
__attribute__((noinline)) void finish_row(const DwParams& p, const Row& r, int64_t cols, int64_t c) {
  const int64_t n = p.c - c;
  const float* slope = p.slope ? p.slope + c : nullptr;
  for (int64_t j = 0, at = c * 4; j < cols; j++, at += p.c * 4)
    store_at<TAIL>(
        r.out + at,
        finish(p, load_at<TAIL>(r.out + at, n), r.res ? reinterpret_cast<const float*>(r.res + at) : nullptr, slope, n),
        n);
}

// AVX-512 has registers for all weights of a 3x3 kernel and for a row of inputs; AVX2 takes one after the other.
constexpr bool kMany = V::N == 16;
// Columns of two rows at a time, which share inputs, for 3x3 kernels of stride 1: as many as registers take.
constexpr int kPairCols = 6;

// R rows times T columns of windows; x[a] is the first column of the first one in input row a. lz of their columns lie
// left of the input and rz right of it.
template <int K, int S, int T, int R, bool TAIL>
IRK_INLINE void columns(const V::F* w, const float* wp, V::F bias, const char* const (&x)[K + R - 1], int64_t px,
                        int64_t px3, int64_t lz, int64_t rz, const char* zero, int64_t n, V::F (&acc)[R][T]) {
  constexpr int kSpan = (T - 1) * S + K;
  IRK_UNROLL for (int r = 0; r < R; r++) { IRK_UNROLL for (int j = 0; j < T; j++) acc[r][j] = bias; }
  irk::unroll<K + R - 1>([&](auto a) IRK_LAMBDA {
    V::F own[K], v[kSpan];
    if (K != 3 || !kMany) {
      IRK_UNROLL for (int k = 0; k < K; k++) own[k] = V::load(wp + (a * K + k) * V::N);
    }
    irk::unroll<kSpan>([&](auto q) IRK_LAMBDA {
      const char* s = x[a] + (q % 3 ? px * q : px3 * (q / 3));
      if (q < K / 2) s = q < lz ? zero : s;
      if (q >= kSpan - K / 2) s = kSpan - q <= rz ? zero : s;
      v[q] = load_at<TAIL>(s, n);
      asm("" : "+v"(v[q]));  // else GCC loads it again for every product
      if (!kMany) {
        IRK_UNROLL for (int j = 0; j < T; j++) {
          const int k = q - j * S;
          if (k >= 0 && k < K) acc[0][j] = V::fma(v[q], own[k], acc[0][j]);
        }
      }
    });
    if (kMany) {
      IRK_UNROLL for (int k = 0; k < K; k++) {
        IRK_UNROLL for (int r = 0; r < R; r++) {
          if (a < r || a - r >= K) continue;
          const V::F wk = K == 3 ? w[(a - r) * K + k] : own[k];
          IRK_UNROLL for (int j = 0; j < T; j++) acc[r][j] = V::fma(v[j * S + k], wk, acc[r][j]);
        }
      }
    }
  });
}

// What a walk does for one vector of channels.
struct Vector {
  const V::F* w;    // weights where they fit registers
  const float* wp;  // in memory
  V::F bias, lo, hi;
  int64_t c, n, px, px3;
};

// R rows, of which the inputs are those of the first one and those that follow.
template <int K, int S, int T, int R, bool TAIL>
IRK_INLINE void go(const DwParams& p, const Vector& u, const Row* row, int64_t left, int64_t count) {
  constexpr int kSpan = (T - 1) * S + K;
  const char* const zero = reinterpret_cast<const char*>(p.zero);
  const char* x[K + R - 1];
  char* y[R];
  IRK_UNROLL for (int a = 0; a < K; a++) x[a] = row->line[a] + u.c * 4;
  IRK_UNROLL for (int r = 1; r < R; r++) x[K + r - 1] = row[r].line[K - 1] + u.c * 4;
  IRK_UNROLL for (int r = 0; r < R; r++) y[r] = row[r].out + u.c * 4;
  for (int64_t t = count; t > 0; t--) {
    V::F acc[R][T];
    columns<K, S, T, R, TAIL>(u.w, u.wp, u.bias, x, u.px, u.px3, -left, left + kSpan - p.iw, zero, u.n, acc);
    irk::unroll<R>([&](auto r) IRK_LAMBDA {
      irk::unroll<T>([&](auto j) IRK_LAMBDA {
        store_at<TAIL>(y[r] + (j % 3 ? u.px * j : u.px3 * (j / 3)), vmath::clip<V>(acc[r][j], u.lo, u.hi), u.n);
      });
      y[r] += T * u.px;
    });
    IRK_UNROLL for (int a = 0; a < K; a++) x[a] += T * row->move[a];
    IRK_UNROLL for (int r = 1; r < R; r++) x[K + r - 1] += T * row[r].move[K - 1];
    left += T * S;
  }
}

// count * T columns of `rows` rows, whose first window begins at input column `first`; vectors [v0, v1) of channels, of
// which all are partly used if TAIL.
template <int K, int S, int T, bool TAIL>
void walk(const DwParams& p, const Row* r, int64_t rows, int64_t first, int64_t count, int64_t v0, int64_t v1) {
  constexpr int kPair = kMany && K == 3 && S == 1 && T <= kPairCols ? 2 : 1;  // rows at a time
  Vector u;
  u.px = p.c * 4;
  u.px3 = 3 * u.px;
  asm("" : "+r"(u.px3));  // two registers and their multiples of 2, 4 and 8 reach every column
  const bool more = r->res || p.act.act != Act::clip;
  u.lo = V::set(more ? -__builtin_inff() : p.act.lo), u.hi = V::set(more ? __builtin_inff() : p.act.hi);
  const Row* const end = r + rows;
  for (int64_t v = v0; v < v1; v++) {
    u.c = v * V::N, u.n = p.c - u.c;
    u.wp = p.w + v * (K * K * V::N);
    u.bias = V::load(p.bias + u.c);
    V::F w[9];
    if (K == 3 && kMany) {
      IRK_UNROLL for (int k = 0; k < K * K; k++) w[k] = V::load(u.wp + k * V::N);
    }
    u.w = w;
    const Row* row = r;
    if (kPair == 2 && p.stride[0] == 1) {
      for (; row + 2 <= end; row += 2) go<K, S, T, kPair, TAIL>(p, u, row, first, count);
    }
    for (; row < end; row++) go<K, S, T, 1, TAIL>(p, u, row, first, count);
    if (more) {
      for (row = r; row < end; row++) finish_row<TAIL>(p, *row, count * T, u.c);
    }
  }
}

typedef void (*WalkFn)(const DwParams&, const Row*, int64_t, int64_t, int64_t, int64_t, int64_t);

// By number of columns, for vectors that are fully and partly used.
struct Walks {
  WalkFn whole[kCols + 1], tail[kCols + 1];
};

template <int K, int S>
constexpr Walks kWalks = {
    {nullptr, walk<K, S, 1, false>, walk<K, S, 2, false>, walk<K, S, 3, false>, walk<K, S, 4, false>,
     walk<K, S, 5, false>, walk<K, S, 6, false>, walk<K, S, 7, false>, walk<K, S, 8, false>},
    {nullptr, walk<K, S, 1, true>, walk<K, S, 2, true>, walk<K, S, 3, true>, walk<K, S, 4, true>, walk<K, S, 5, true>,
     walk<K, S, 6, true>, walk<K, S, 7, true>, walk<K, S, 8, true>}};

// Null where a window reaches further than half its width beside the input, or is of another kind.
const Walks* choose(const DwParams& p) {
  const int64_t k = p.kw, s = p.stride[1], right = (p.ow - 1) * s + k - p.pad[1] - p.iw;
  if (p.kh != k || p.dilation[0] != 1 || p.dilation[1] != 1 || p.pad[1] > k / 2 || right > k / 2) return nullptr;
  if (k == 3) return s == 1 ? &kWalks<3, 1> : s == 2 ? &kWalks<3, 2> : nullptr;
  if (k == 5) return s == 1 ? &kWalks<5, 1> : s == 2 ? &kWalks<5, 2> : nullptr;
  return nullptr;
}

// Rows [i, i + count) of the output.
void point(const DwParams& p, void* const* bufs, int64_t image, int64_t i, int64_t count, Row* r) {
  const char* x = static_cast<const char*>(bufs[irk::kDwX]);
  const char* res = static_cast<const char*>(bufs[irk::kDwResidual]);
  const int64_t out_row = p.ow * p.c * 4, in_row = p.iw * p.c * 4;
  for (int64_t b = 0; b < count; b++, r++) {
    const int64_t top = (i + b) * p.stride[0] - p.pad[0], at = wrap(image * p.oh + i + b, p.out_rows) * out_row;
    r->out = static_cast<char*>(bufs[irk::kDwOut]) + at;
    r->res = res ? res + at : nullptr;
    for (int64_t a = 0; a < p.kh; a++) {
      const bool in = top + a >= 0 && top + a < p.ih;
      r->line[a] = in ? x + wrap(image * p.ih + top + a, p.in_rows) * in_row - p.pad[1] * p.c * 4
                      : reinterpret_cast<const char*>(p.zero);
      r->move[a] = in ? p.stride[1] * p.c * 4 : 0;
    }
  }
}

// Goes on by `cols` columns.
void advance(const DwParams& p, int64_t count, int64_t cols, Row* r) {
  for (int64_t b = 0; b < count; b++, r++) {
    r->out += cols * p.c * 4;
    r->res += r->res ? cols * p.c * 4 : 0;
    for (int64_t a = 0; a < p.kh; a++) r->line[a] += cols * r->move[a];
  }
}

// Of a part of the output, the input rows at its ends, which another thread may just have made: they come closer while
// those between are worked on.
void approach(const DwParams& p, void* const* bufs, int64_t begin, int64_t end) {
  constexpr int64_t kMost = 4 << 10;  // bytes
  const int64_t bytes = p.iw * p.c * 4, per_image = p.bands * p.cblocks;
  const char* x = static_cast<const char*>(bufs[irk::kDwX]);
  const auto fetch = [&](int64_t item, int64_t tap) {
    const int64_t image = item / per_image, band = item % per_image / p.cblocks;
    const int64_t row = (tap > 0 ? (band + 1) * p.oh / p.bands - 1 : band * p.oh / p.bands) * p.stride[0] - p.pad[0] +
                        tap * p.dilation[0];
    if (row < 0 || row >= p.ih) return;
    const char* at = x + wrap(image * p.ih + row, p.in_rows) * bytes;
    for (int64_t b = 0; b < bytes && b < kMost; b += 64) __builtin_prefetch(at + b);
  };
  if (begin % per_image > 0) fetch(begin, 0);
  if (end % per_image > 0) fetch(end - 1, p.kh - 1);
}

void run_wide(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const DwParams& p = *static_cast<const DwParams*>(params);
  const Walks* fns = choose(p);
  if (!fns) return run_rows(bufs, params, begin, end);
  const bool pair = kMany && p.kw == 3 && p.stride[0] == 1 && p.stride[1] == 1 && p.bands < p.oh;
  const int64_t cols = pair && p.ow != kCols - 1 ? kPairCols : kCols;  // seven in one go are better than four and three
  const int64_t n = (p.ow + cols - 1) / cols, width = p.ow / n, wide = p.ow - n * width, whole = p.c / V::N;
  // Few rows where weights would be loaded again too often; where a row has enough columns, what goes at a time.
  const int64_t few = pair ? 2 : 1;
  const int64_t most = p.memory_order || p.ow > 32 ? few : 64 / p.ow < kRows ? 64 / p.ow : kRows;
  approach(p, bufs, begin, end);
  run(p, begin, end, [&](int64_t image, int64_t first, int64_t last, int64_t v0, int64_t v1) {
    const int64_t mid = v1 < whole ? v1 : v0 < whole ? whole : v0;
    Row r[kRows];
    int64_t left, rows;
    auto part = [&](int64_t cols, int64_t tiles) {
      if (v0 < mid) fns->whole[cols](p, r, rows, left, tiles, v0, mid);
      if (mid < v1) fns->tail[cols](p, r, rows, left, tiles, mid, v1);
      left += cols * tiles * p.stride[1];
    };
    for (int64_t i = first; i < last; i += rows) {
      rows = last - i < most ? last - i : most;
      left = -p.pad[1];
      point(p, bufs, image, i, rows, r);
      if (p.memory_order) {
        for (int64_t t = 0; t < n; t++) {
          part(width + (t < wide), 1);
          advance(p, rows, width + (t < wide), r);
        }
        continue;
      }
      if (wide) {
        part(width + 1, wide);
        advance(p, rows, wide * (width + 1), r);
      }
      part(width, n - wide);
    }
  });
}

}  // namespace
