// The walk over regions, shared by all ISAs. Tile gives the two shapes worth intrinsics:
//   int tile(T* dst, int64_t ds, const T* src, int64_t ss)   transposes a kTile x kTile block
//   interleave3 / deinterleave3(T* dst, .., const T* src, .., int64_t n)   3 planes <-> n triples
#pragma once
#include <string.h>

#include "move/move.h"

namespace {

// Plain loops; also the tails of the ISA tiles.
template <class T>
struct PlainTile {
  static constexpr int64_t kTile = 8;
  static void tile(T* dst, int64_t ds, const T* src, int64_t ss) {
    T block[8][8];
    for (int j = 0; j < 8; j++) memcpy(block[j], src + j * ss, sizeof block[j]);
    for (int i = 0; i < 8; i++)
      for (int j = 0; j < 8; j++) dst[i * ds + j] = block[j][i];
  }
  static void interleave3(T* dst, const T* src, int64_t plane, int64_t n) {
    for (int64_t i = 0; i < n; i++)
      for (int64_t c = 0; c < 3; c++) dst[3 * i + c] = src[c * plane + i];
  }
  static void deinterleave3(T* dst, int64_t plane, const T* src, int64_t n) {
    for (int64_t i = 0; i < n; i++)
      for (int64_t c = 0; c < 3; c++) dst[c * plane + i] = src[3 * i + c];
  }
};

// dst[i * ds + j] = src[j * ss + i] for i < a, j < b.
template <class T, class Tile>
void transpose(T* dst, int64_t ds, const T* src, int64_t ss, int64_t a, int64_t b) {
  if (b == 3 && ds == 3) return Tile::interleave3(dst, src, ss, a);
  if (a == 3 && ss == 3) return Tile::deinterleave3(dst, ds, src, b);
  constexpr int64_t K = Tile::kTile;
  constexpr int64_t kLine = 64 / sizeof(T);  // along the source: whole cache lines, read once
  for (int64_t i0 = 0; i0 < a; i0 += kLine) {
    const int64_t i1 = i0 + kLine < a ? i0 + kLine : a;
    int64_t j = 0;
    for (; j + K <= b; j += K) {
      int64_t i = i0;
      for (; i + K <= i1; i += K) Tile::tile(dst + i * ds + j, ds, src + j * ss + i, ss);
      for (; i < i1; i++)
        for (int64_t k = j; k < j + K; k++) dst[i * ds + k] = src[k * ss + i];
    }
    for (; j < b; j++)
      for (int64_t i = i0; i < i1; i++) dst[i * ds + j] = src[j * ss + i];
  }
}

template <class T>
void copy_strided(T* dst, int64_t ds, const T* src, int64_t ss, int64_t n) {
  if (ss == 0 && ds == 1) {
    const T v = *src;
    for (int64_t i = 0; i < n; i++) dst[i] = v;
  } else {
    for (int64_t i = 0; i < n; i++) dst[i * ds] = src[i * ss];
  }
}

template <class T, class Tile>
void run_region(const irk::MoveRegion& r, T* out, const T* in, int64_t begin, int64_t end) {
  int64_t idx[irk::kMaxRank];
  int64_t d = r.dst_offset, s = r.from_offset, outer = begin / r.blocks, block = begin % r.blocks;
  for (int k = r.rank - 1; k >= 0; k--) {
    idx[k] = outer % r.dims[k];
    outer /= r.dims[k];
    d += idx[k] * r.dst[k];
    s += idx[k] * r.from[k];
  }
  for (int64_t item = begin; item < end; item++) {
    const int64_t lo = block * r.block;
    if (r.kind == irk::MoveKind::transpose) {
      const int64_t all = r.split_a ? r.a : r.n, len = all - lo < r.block ? all - lo : r.block;
      if (r.split_a)
        transpose<T, Tile>(out + d + lo * r.a_dst, r.a_dst, in + s + lo, r.from_step, len, r.n);
      else
        transpose<T, Tile>(out + d + lo, r.a_dst, in + s + lo * r.from_step, r.from_step, r.a, len);
    } else {
      const int64_t len = r.n - lo < r.block ? r.n - lo : r.block;
      if (r.kind == irk::MoveKind::rows)
        memcpy(out + d + lo, in + s + lo, static_cast<size_t>(len) * sizeof(T));
      else
        copy_strided(out + d + lo * r.dst_step, r.dst_step, in + s + lo * r.from_step, r.from_step, len);
    }
    if (++block < r.blocks) continue;
    block = 0;
    for (int k = r.rank - 1; k >= 0; k--) {
      d += r.dst[k];
      s += r.from[k];
      if (++idx[k] < r.dims[k]) break;
      d -= r.dst[k] * r.dims[k];
      s -= r.from[k] * r.dims[k];
      idx[k] = 0;
    }
  }
}

template <class T, class Tile>
void run_move(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::MoveParams& p = *static_cast<const irk::MoveParams*>(params);
  T* out = static_cast<T*>(bufs[p.n_in]);
  int k = 0;
  for (int hi = p.count - 1; k < hi;) {  // the last region that starts at or before begin
    const int mid = (k + hi + 1) / 2;
    if (p.regions[mid].first <= begin)
      k = mid;
    else
      hi = mid - 1;
  }
  for (; begin < end; k++) {
    const irk::MoveRegion& r = p.regions[k];
    const int64_t stop = r.first + r.items < end ? r.first + r.items : end;
    const void* in = r.src < 0 ? static_cast<const void*>(&p.fill) : bufs[r.src];
    run_region<T, Tile>(r, out, static_cast<const T*>(in), begin - r.first, stop - r.first);
    begin = stop;
  }
}

}  // namespace
