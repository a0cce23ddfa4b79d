// Any function of one int8 tensor as a table of 256 entries, or one table a channel.
#pragma once
#include "base/types.h"

namespace irk {

// [outer, channels, inner] with channels = 1 for a single table; an item is one block of n elements.
struct QlutParams {
  int64_t n, block;         // single table: elements in all
  int64_t channels, inner;  // tables: an item is one (outer, channel) when inner > 1, else one outer
  const uint8_t* tables;    // indexed by the byte of x: q = -128 is entry 128
};

}  // namespace irk
