// Text to numbers, whatever the process's locale and rounding mode are.
#pragma once
#include <stdint.h>

namespace irk {

// A decimal integer with an optional '-', n characters of [0-9-]; false when it does not fit.
bool read_int(const char* text, int64_t n, int64_t* out);

// The double nearest to a decimal number as JSON writes it, n characters; false when it is beyond the largest.
bool read_real(const char* text, int64_t n, double* out);

}  // namespace irk
