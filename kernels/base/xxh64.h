// XXH64: the 64-bit checksum of the artifact. Written from the specification (xxHash fast digest algorithm, v0.1.1).
#pragma once
#include <stdint.h>
#include <string.h>

namespace irk {

// Streaming form, so that a range can be hashed as if some of its bytes were others.
class Xxh64 {
 public:
  void update(const void* data, int64_t n) {
    const uint8_t* p = static_cast<const uint8_t*>(data);
    total_ += static_cast<uint64_t>(n);
    while (n > 0) {
      if (fill_ == 0 && n >= 32) {
        for (; n >= 32; n -= 32, p += 32) stripe(p);
        continue;
      }
      const int64_t take = n < 32 - fill_ ? n : 32 - fill_;
      memcpy(buf_ + fill_, p, static_cast<size_t>(take));
      fill_ += static_cast<int>(take);
      p += take;
      n -= take;
      if (fill_ == 32) {
        stripe(buf_);
        fill_ = 0;
      }
    }
  }

  uint64_t digest() const {
    uint64_t h;
    if (total_ >= 32) {
      h = rotl(v_[0], 1) + rotl(v_[1], 7) + rotl(v_[2], 12) + rotl(v_[3], 18);
      for (uint64_t v : v_) h = (h ^ round(0, v)) * P1 + P4;
    } else {
      h = P5;
    }
    h += total_;
    const uint8_t* p = buf_;
    int n = fill_;
    for (; n >= 8; n -= 8, p += 8) h = rotl(h ^ round(0, read64(p)), 27) * P1 + P4;
    if (n >= 4) {
      h = rotl(h ^ read32(p) * P1, 23) * P2 + P3;
      n -= 4;
      p += 4;
    }
    for (; n > 0; n--, p++) h = rotl(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
  }

 private:
  static constexpr uint64_t P1 = 11400714785074694791ull, P2 = 14029467366897019727ull, P3 = 1609587929392839161ull,
                            P4 = 9650029242287828579ull, P5 = 2870177450012600261ull;

  static uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }
  static uint64_t round(uint64_t acc, uint64_t lane) { return rotl(acc + lane * P2, 31) * P1; }
  static uint64_t read64(const uint8_t* p) {
    uint64_t v;  // little-endian, as every supported CPU
    memcpy(&v, p, 8);
    return v;
  }
  static uint64_t read32(const uint8_t* p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
  }
  void stripe(const uint8_t* p) {
    for (int i = 0; i < 4; i++) v_[i] = round(v_[i], read64(p + 8 * i));
  }

  uint64_t v_[4] = {P1 + P2, P2, 0, 0 - P1};
  uint64_t total_ = 0;
  uint8_t buf_[32] = {};
  int fill_ = 0;
};

}  // namespace irk
