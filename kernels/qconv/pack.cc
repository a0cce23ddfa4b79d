#include "qconv/pack.h"

#include <string.h>

#include "base/ints.h"
#include "base/turn.h"

namespace irk {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t Halves __attribute__((vector_size(16)));

Halves sum_pairs(Bytes v) {
  const Halves h = reinterpret_cast<Halves>(v);
  return (h & 0xff) + (h >> 8);
}

int64_t sum_lanes(Halves v) {
  int64_t sum = 0;
  for (int i = 0; i < 8; i++) sum += v[i];
  return sum;
}

// Packing for neon.cc: blocks of 16 depths; what is left takes a step of 8 and one of 4, or is filled up to 16. Lane j
// of a step's vector number `turn` has the pair of depths j + turn and channel j % 4.
//
// Byte of the even depth k < size and channel c in a block of `size` (4, 8, 12 or 16) depths and `width` channels.
int64_t turned_place(int64_t size, int64_t width, int64_t k, int64_t c) {
  const int64_t column = c % 4;
  int64_t vector, lane;  // vector: of those of 4 channels
  if (size == 16) {
    const int64_t turn = (k / 2 - column + 8) % 8;
    vector = turn % 4;
    lane = column + turn / 4 * 4;
  } else if (size >= 8 && k < 8) {  // halves are two turns
    const int64_t turn = (k / 2 - column + 4) % 4;
    vector = turn / 2;
    lane = column + turn % 2 * 4;
  } else {  // halves are two pairs
    vector = size / 8 * 2;
    lane = column + k % 4 / 2 * 4;
  }
  return vector * width * 4 + c / 4 * 16 + lane * 2;
}

void pack_turned(const int8_t* src, int64_t depth, int64_t width, int64_t c, uint8_t* dst) {
  int64_t at[8];
  for (int64_t i = 0; i < 8; i++) at[i] = turned_place(16, width, 2 * i, c);
  for (; depth >= 16; depth -= 16, src += 16, dst += 16 * width)
    for (int64_t i = 0; i < 8; i++) memcpy(dst + at[i], src + 2 * i, 2);
  const int64_t size = round_up(depth, 4);
  for (int64_t k = 0; k < depth; k++)
    dst[turned_place(size, width, k / 2 * 2, c) + k % 2] = static_cast<uint8_t>(src[k]);
}

// `words` steps of 4 bytes of n channels, which lie `row` bytes apart.
void pack_words(const QWeightForm& form, int64_t width, const void* src, int64_t row, int64_t n, int64_t words,
                uint8_t* dst) {
  constexpr int64_t kLine = 16;  // read of a channel at a time: all of a cache line
  const char* from = static_cast<const char*>(src);
  const int64_t step = form.word_step(width);
  for (int64_t i = 0; i < words; i += kLine) {
    const int64_t count = min64(words - i, kLine);
    for (int64_t c = 0; c < n; c += 4)  // four channels stay together
      turn_words(from + c * row + 4 * i, row, min64(n - c, 4), count, dst + i * step + form.word_at(width, c), step);
  }
}

// Steps of 4 depths: a piece of all channels' depths.
void pack_piece(const QWeightForm& form, int64_t width, const QPiece& piece, const int8_t* src, int64_t row, int64_t n,
                uint8_t* dst) {
  const int64_t words = piece.to % 4 == 0 ? piece.count / 4 : 0;
  const int64_t step = form.word_step(width);
  pack_words(form, width, src + piece.from, row, n, words, dst + piece.to / 4 * step);
  for (int64_t c = 0; c < n; c++) {
    uint8_t* const at = dst + form.word_at(width, c);
    for (int64_t i = 4 * words; i < piece.count; i++) {
      const int64_t k = piece.to + i;
      at[k / 4 * step + k % 4] = static_cast<uint8_t>(src[c * row + piece.from + i]);
    }
  }
}

// Steps of 2 depths as int16.
void pack_wide(const QWeightForm& form, int64_t width, const int8_t* src, int64_t row, int64_t n, uint8_t* dst) {
  constexpr int64_t kDepths = 128;  // at a time
  int16_t wide[4][kDepths];
  for (int64_t k = 0; k < row; k += kDepths) {
    const int64_t count = min64(row - k, kDepths);
    for (int64_t c = 0; c < n; c += 4) {
      const int64_t rows = min64(n - c, 4);
      for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < count; i++) wide[r][i] = src[(c + r) * row + k + i];
        if (count % 2) wide[r][count] = 0;
      }
      pack_words(form, width, wide, sizeof wide[0], rows, ceil_div(count, 2),
                 dst + (k * width + 2 * form.place(width, c)) * 2);
    }
  }
}

// Any steps.
void pack_steps(const QWeightForm& form, int64_t width, const int8_t* src, int64_t row, int64_t c, uint8_t* dst) {
  const int64_t kr = form.kr;
  uint8_t* at = dst + form.place(width, c) * kr;
  int64_t k = 0;
  if (kr == 8)
    for (; k + 8 <= row; k += 8, at += 8 * width) memcpy(at, src + k, 8);
  for (; k < row; k += kr, at += kr * width) memcpy(at, src + k, static_cast<size_t>(min64(kr, row - k)));
}

}  // namespace

QWeightSums qconv_weight_sums(const int8_t* w, int64_t n) {
  QWeightSums s = {0, 0};
  const Bytes mid = Bytes{} + 128;
  while (n >= 16) {
    Halves all = {}, up = {};                 // sums of w + 128, and of that where it is more than 128
    const int64_t count = min64(n / 16, 64);  // as many of twice 255 fit 16 bits
    for (int64_t i = 0; i < count; i++, w += 16) {
      Bytes v;
      memcpy(&v, w, sizeof v);
      v ^= 128;
      all += sum_pairs(v);
      up += sum_pairs(v > mid ? v : mid);
    }
    const int64_t plain = sum_lanes(all) - 128 * 16 * count, positive = sum_lanes(up) - 128 * 16 * count;
    s.plain += plain;
    s.magnitude += 2 * positive - plain;
    n -= 16 * count;
  }
  for (int64_t i = 0; i < n; i++) {
    s.plain += w[i];
    s.magnitude += w[i] < 0 ? -w[i] : w[i];
  }
  return s;
}

void qconv_pack_tile(const QConvParams& p, const QWeightForm& form, int64_t width, const int8_t* src, int64_t n,
                     uint8_t* dst) {
  if (n != width || p.k != form.kpad) memset(dst, 0, static_cast<size_t>(width * form.kpad * form.size));
  if (form.isa == Isa::neon) {
    for (int64_t c = 0; c < n; c++) pack_turned(src + c * p.k, p.k, width, c, dst);
#if defined(__x86_64__)
  } else if (form.isa == Isa::amx) {
    for (int64_t i = 0; i < p.tiled.pieces; i++) pack_piece(form, width, qconv_piece(p, i), src, p.k, n, dst);
#endif
  } else if (form.size == 2) {
    pack_wide(form, width, src, p.k, n, dst);
  } else if (form.kr == 4) {
    pack_piece(form, width, {0, 0, p.k}, src, p.k, n, dst);
  } else {
    for (int64_t c = 0; c < n; c++) pack_steps(form, width, src + c * p.k, p.k, c, dst);
  }
}

}  // namespace irk
