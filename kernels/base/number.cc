#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE  // strtod_l
#endif
#include "base/number.h"

#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

namespace irk {

bool read_int(const char* text, int64_t n, int64_t* out) {
  const bool negative = n > 0 && text[0] == '-';
  int64_t v = 0;
  for (int64_t i = negative; i < n; i++) {
    const int64_t digit = text[i] - '0';
    if (__builtin_mul_overflow(v, int64_t{10}, &v) || __builtin_add_overflow(v, negative ? -digit : digit, &v))
      return false;
  }
  *out = v;
  return true;
}

bool read_real(const char* text, double* out) {
  const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);  // the C locale costs nothing and can't fail
  const int mode = fegetround();
  if (mode != FE_TONEAREST) fesetround(FE_TONEAREST);
  *out = plain ? strtod_l(text, nullptr, plain) : HUGE_VAL;
  if (mode != FE_TONEAREST) fesetround(mode);
  if (plain) freelocale(plain);
  return isfinite(*out);
}

}  // namespace irk
