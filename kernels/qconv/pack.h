// How weights lie for the kernel of an ISA, and putting them there.
#pragma once
#include "qconv/qconv.h"

namespace irk {

// Tiles of nr channels, the last one narrower: a whole number of vectors. In a tile, depths in steps of kr, a step
// having the kr depths of each channel side by side; neon.cc has an order of its own (pack.cc).
struct QWeightForm {
  Isa isa;
  int64_t nr, kr;
  int64_t vec;         // accumulator lanes
  int64_t size;        // bytes of a packed weight: 1, or 2 as int16
  bool paired;         // tiles of two or four vectors interleave their channels
  int64_t kpad;        // depth, padded
  int64_t last_width;  // channels of a group's last tile, padded
  bool apart;          // a tile's vectors of channels lie one after the other, each with all its depths

  int64_t width(const QConvParams& p, int64_t tile) const { return tile == p.tiles - 1 ? last_width : nr; }
  // Position of channel c in a tile of `width` channels.
  int64_t place(int64_t width, int64_t c) const {
    const int64_t vectors = width / vec;
    if (!paired || vectors == 1) return c;
    return c / 4 % vectors * vec + c / (4 * vectors) * 4 + c % 4;
  }
  // Bytes from one word of 4 depths of a channel to the next, and of its first from the tile's begin.
  int64_t word_step(int64_t width) const { return 4 * (apart ? vec : width); }
  int64_t word_at(int64_t width, int64_t c) const {
    const int64_t at = place(width, c);
    return apart ? at / vec * vec * kpad + at % vec * 4 : 4 * at;
  }
};

// Sum of n weights, and of their magnitudes.
struct QWeightSums {
  int64_t plain, magnitude;
};
QWeightSums qconv_weight_sums(const int8_t* w, int64_t n);

// Fills all bytes of a tile: channels [0, n) from `src` on, p.k weights each, and zeros where there are none.
void qconv_pack_tile(const QConvParams& p, const QWeightForm& form, int64_t width, const int8_t* src, int64_t n,
                     uint8_t* dst);

}  // namespace irk
