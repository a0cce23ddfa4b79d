#include "base/number.h"

#include <string.h>

namespace irk {
namespace {

// A natural number, least limb first.
struct Natural {
  uint32_t limb[96];
  int n = 0;

  void multiply_add(uint32_t factor, uint32_t carry) {
    for (int i = 0; i < n; i++) {
      const uint64_t t = uint64_t{limb[i]} * factor + carry;
      limb[i] = static_cast<uint32_t>(t);
      carry = static_cast<uint32_t>(t >> 32);
    }
    if (carry) limb[n++] = carry;
  }

  // True when there is a remainder.
  bool divide(uint32_t by) {
    uint64_t rest = 0;
    for (int i = n; i-- > 0;) {
      rest = rest << 32 | limb[i];
      limb[i] = static_cast<uint32_t>(rest / by);
      rest %= by;
    }
    while (n > 0 && limb[n - 1] == 0) n--;
    return rest != 0;
  }

  void shift_left(int limbs) {
    memmove(limb + limbs, limb, static_cast<size_t>(n) * sizeof *limb);
    memset(limb, 0, static_cast<size_t>(limbs) * sizeof *limb);
    n += limbs;
  }
};

// m 2^exponent, and a little more when `more`, rounded to nearest even; m has its highest bit set.
double round_to_double(uint64_t m, int exponent, bool more) {
  int biased = exponent + 63 + 1023, drop = 11;
  if (biased < 1) {  // subnormal: fewer bits
    drop += 1 - biased;
    biased = 1;
  }
  if (drop > 64) return 0;
  if (biased > 2046) return __builtin_inf();
  const uint64_t kept = drop < 64 ? m >> drop : 0, rest = m - (drop < 64 ? kept << drop : 0);
  const uint64_t half = uint64_t{1} << (drop - 1);
  const bool up = rest > half || (rest == half && (more || kept & 1));
  const uint64_t bits = (static_cast<uint64_t>(biased - 1) << 52) + kept + up;  // a carry goes into the exponent
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

constexpr int kDigits = 800;  // half way between two doubles lies no number of more than 767 digits
constexpr uint32_t kFive13 = 1220703125;

uint32_t power_of_five(int64_t n) {
  uint32_t p = 1;
  while (n-- > 0) p *= 5;
  return p;
}

}  // namespace

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

// Exact in whole numbers, so that neither a locale nor the rounding mode matters: the digits times or over a power of
// five, of which the highest 64 bits and whether there are more make the double.
bool read_real(const char* text, int64_t n, double* out) {
  const bool negative = n > 0 && text[0] == '-';
  Natural v;
  int64_t digits = 0, scale = 0, i = negative;  // the number is v 10^scale
  bool more = false, point = false;
  for (; i < n && text[i] != 'e' && text[i] != 'E'; i++) {
    if (text[i] == '.') {
      point = true;
      continue;
    }
    const uint32_t digit = static_cast<uint32_t>(text[i] - '0');
    if (digits < kDigits) {
      v.multiply_add(10, digit);
      digits += v.n > 0;
      scale -= point;
    } else {
      more |= digit != 0;
      scale += !point;
    }
  }
  if (i++ < n) {
    const bool below = i < n && text[i] == '-';
    int64_t power = 0;
    for (i += i < n && (text[i] == '-' || text[i] == '+'); i < n; i++)
      if (power < INT64_MAX / 20) power = power * 10 + (text[i] - '0');
    scale += below ? -power : power;
  }
  *out = negative ? -0.0 : 0.0;
  if (digits == 0 || digits + scale < -330) return true;
  if (digits + scale > 309) return false;

  int exponent = static_cast<int>(scale);  // of two
  if (scale < 0) {
    const int divisions = static_cast<int>((-scale + 12) / 13);  // each takes at most one limb; three shall be left
    const int limbs = divisions + 3 > v.n ? divisions + 3 - v.n : 0;
    v.shift_left(limbs);
    exponent -= 32 * limbs;
    for (; scale <= -13; scale += 13) more |= v.divide(kFive13);
    more |= v.divide(power_of_five(-scale));
  } else {
    for (; scale >= 13; scale -= 13) v.multiply_add(kFive13, 0);
    v.multiply_add(power_of_five(scale), 0);
  }
  if (v.n < 3) {
    exponent -= 32 * (3 - v.n);
    v.shift_left(3 - v.n);
  }
  const uint32_t* top = v.limb + v.n - 3;
  const int zeros = __builtin_clz(top[2]);
  const uint64_t high = uint64_t{top[2]} << 32 | top[1], low = uint64_t{top[0]} << zeros;
  for (int k = 0; k < v.n - 3; k++) more |= v.limb[k] != 0;
  more |= static_cast<uint32_t>(low) != 0;
  const double value = round_to_double(high << zeros | low >> 32, exponent + 32 * (v.n - 2) - zeros, more);
  *out = negative ? -value : value;
  return value < __builtin_inf();
}

}  // namespace irk
