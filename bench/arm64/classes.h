// The class of an A64 instruction, from its encoding (Arm ARM, "A64 instruction set encoding").
#pragma once
#include <cstdint>

namespace a64 {

enum Class { dot, mmla, fmla, imla, simd, sve, vload, vstore, load, store, branch, integer, kClasses };

// dot: 4-element int8 (2-element bf16) dot products; mmla: 2x2 matrix tiles; fmla: fused multiply-add, vector or
// scalar; imla: integer multiplies and multiply-adds of vectors, widening or not, and adds of adjacent pairs to a sum;
// simd: all other vector and float arithmetic; vload/vstore: of vector registers; integer: what is left, address
// arithmetic too.
constexpr const char* kNames[kClasses] = {"dot",   "mmla",   "fmla", "imla",  "simd",   "sve",
                                          "vload", "vstore", "load", "store", "branch", "int"};

constexpr uint32_t bits(uint32_t word, int high, int low) { return word >> low & ((2u << (high - low)) - 1); }
constexpr bool bit(uint32_t word, int n) { return word >> n & 1; }

// Vector arithmetic with one element of the third register.
inline Class by_element(uint32_t w) {
  const bool u = bit(w, 29);
  const uint32_t size = bits(w, 23, 22), op = bits(w, 15, 12);
  if (op == 0x0 || op == 0x4) return u ? imla : size == 2 ? fmla : simd;  // mla, mls | fmlal, fmlsl
  if (op == 0x1 || op == 0x5) return u ? simd : fmla;                     // fcmla | fmla, fmls
  if (op == 0x2 || op == 0x6 || op == 0xA) return imla;                   // smlal, smlsl, smull
  if (op == 0x3 || op == 0x7 || op == 0xB) return u ? simd : imla;        // fcmla | sqdmlal, sqdmlsl, sqdmull
  if (op == 0x8) return u ? fmla : imla;                                  // fmlal2 | mul
  if (op == 0xC) return u ? fmla : simd;                                  // fmlsl2 | sqdmulh
  if (op == 0xE) return size == 2 ? dot : simd;                           // sdot, udot
  if (op == 0xF) return u ? simd : size == 3 ? fmla : dot;                // bfmlal | usdot, sudot, bfdot
  return simd;
}

// Vector arithmetic on three registers that came with later versions of the architecture.
inline Class three_same_extension(uint32_t w) {
  const bool u = bit(w, 29);
  const uint32_t op = bits(w, 14, 11);
  if (op == 0x2) return dot;                                // sdot, udot
  if (op == 0x3) return u ? simd : dot;                     // usdot
  if (op == 0x4 || op == 0x5 || op == 0xD) return mmla;     // smmla, ummla, usmmla, bfmmla
  if (op == 0xF) return bits(w, 23, 22) == 1 ? dot : fmla;  // bfdot | bfmlal
  return simd;
}

inline Class three_same(uint32_t w) {
  const bool u = bit(w, 29), high = bit(w, 22);
  const uint32_t op = bits(w, 15, 11);
  if (op == 0x12) return imla;                     // mla, mls
  if (op == 0x13) return u ? simd : imla;          // pmul | mul
  if (op == 0x19) return u && high ? simd : fmla;  // fmla, fmls, fmlal2, fmlsl2
  if (op == 0x1D) return u || high ? simd : fmla;  // fmlal, fmlsl
  return simd;
}

// Long, wide and narrow arithmetic.
inline Class three_different(uint32_t w) {
  const uint32_t op = bits(w, 15, 12);
  if (op == 0x8 || op == 0xA || op == 0xC) return imla;                      // smlal, smlsl, smull
  if (op == 0x9 || op == 0xB || op == 0xD) return bit(w, 29) ? simd : imla;  // sqdmlal, sqdmlsl, sqdmull
  return simd;
}

inline Class vector_arithmetic(uint32_t w) {
  const uint32_t group = bits(w, 28, 24);
  if (group == 0x0F && !bit(w, 10)) return by_element(w);
  if (group != 0x0E) return simd;
  if (bit(w, 21)) {
    if (bit(w, 10)) return three_same(w);
    if (!bit(w, 11)) return three_different(w);
    return bits(w, 20, 12) == 0x006 ? imla : simd;  // sadalp, uadalp
  }
  if (bit(w, 15) && bit(w, 10)) return three_same_extension(w);
  const bool half = bit(w, 22) && bits(w, 15, 14) == 0 && bit(w, 10);  // three float16 registers
  return half && !bit(w, 29) && bits(w, 13, 11) == 1 ? fmla : simd;
}

inline Class load_or_store(uint32_t w) {
  const bool vector = bit(w, 26);
  bool loads = bit(w, 22);  // structures, exclusives, pairs: the L bit
  if (bits(w, 29, 28) == 0 && !vector)
    loads = loads || (bit(w, 21) && (bit(w, 23) || !bit(w, 31)));  // cas, casp read and write
  else if (bits(w, 29, 28) == 1)
    loads = bit(w, 24) ? bits(w, 23, 22) != 0 : true;  // ldapr, stlr | literal
  else if (bits(w, 29, 28) == 3 && !vector)
    loads =
        bits(w, 23, 22) != 0 || (!bit(w, 24) && bit(w, 21) && bits(w, 11, 10) == 0);  // opc | atomics read and write
  return vector ? loads ? vload : vstore : loads ? load : store;
}

inline Class classify(uint32_t w) {
  switch (bits(w, 28, 25)) {
    case 0x0:
      return bit(w, 31) ? sve : integer;  // matrix extension | undefined
    case 0x2:
      return sve;
    case 0xA:
    case 0xB:
      return branch;  // and system
    case 0x4:
    case 0x6:
    case 0xC:
    case 0xE:
      return load_or_store(w);
    case 0x7:
    case 0xF:
      if (bits(w, 31, 24) == 0x1F) return fmla;  // scalar fmadd family
      if (bit(w, 31)) return simd;
      if (bit(w, 28)) w = bit(w, 30) ? w & ~(1u << 28) : 0;  // one lane, encoded alike | float arithmetic, conversions
      return vector_arithmetic(w);
    default:
      return integer;
  }
}

}  // namespace a64
