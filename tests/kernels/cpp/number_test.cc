// Decimal numbers to doubles: every bit as the C library's strtod gives it, in any rounding mode.
#include "base/number.h"

#include <fenv.h>
#include <math.h>
#include <stdint.h>

#include "check.h"

namespace {

uint64_t g_state = 88172645463325252u;

uint64_t random_bits() {  // xorshift
  g_state ^= g_state << 13;
  g_state ^= g_state >> 7;
  return g_state ^= g_state << 17;
}

double from_bits(uint64_t bits) {
  double d;
  memcpy(&d, &bits, sizeof d);
  return d;
}

bool as_strtod(const char* text) {
  const double want = strtod(text, nullptr);
  double got = 1;
  const bool fits = irk::read_real(text, static_cast<int64_t>(strlen(text)), &got);
  const bool same = fits ? memcmp(&got, &want, sizeof got) == 0 : isinf(want) != 0;
  if (!same) fprintf(stderr, "%.80s: %a, expected %a\n", text, got, want);
  return same;
}

void corners() {
  static const char* const texts[] = {
      "0", "-0", "-0.0e5", "0e99999999999999999999", "1e-400", "-1e-99999999999999999999", "1e23", "9007199254740993",
      "9007199254740993.00000000000000000000000000001",
      // subnormals, their least, half of it; the largest, and half way beyond it
      "4.9406564584124654e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
      "1.7976931348623158e308", "1.7976931348623159e308", "1.8e308", "9.99e309", "1e99999999999999999999"};
  for (const char* t : texts) CHECK(as_strtod(t));
}

void randoms() {
  static char text[1600];
  int bad = 0;
  for (int i = 0; i < 60000; i++) {
    const double d = from_bits(random_bits());
    if (!isfinite(d)) continue;
    snprintf(text, sizeof text, "%.*e", static_cast<int>(random_bits() % 20), d);
    bad += !as_strtod(text);
    snprintf(text, sizeof text, "%llu%llu.%llue%d", static_cast<unsigned long long>(random_bits() % 1000 + 1),
             static_cast<unsigned long long>(random_bits()), static_cast<unsigned long long>(random_bits()),
             static_cast<int>(random_bits() % 700) - 360);
    bad += !as_strtod(text);
  }
  CHECK(bad == 0);
}

// Half way between two doubles, in full (a long double holds it): ties go to even, but not with one more digit behind
// or one less in the last place. The same of whole numbers without a point.
void ties() {
  static char text[1600];
  int bad = 0;
  for (int i = 0; i < 2000; i++) {
    const uint64_t bits = i % 2 ? random_bits() >> (12 + i % 40) : random_bits() >> 1;  // subnormal, any
    const double low = from_bits(bits), high = from_bits(bits + 1);
    if (!isfinite(high)) continue;
    const int n = snprintf(text, sizeof text, "%.1075Lf", (static_cast<long double>(low) + high) / 2);
    bad += !as_strtod(text);
    memcpy(text + n, "0001", 5);
    bad += !as_strtod(text);
    text[n] = '\0';
    int last = n - 1;
    while (text[last] == '0' || text[last] == '.') last--;
    text[last]--;
    bad += !as_strtod(text);
    if (low < 1e30) continue;
    text[snprintf(text, sizeof text, "%.0Lf", (static_cast<long double>(low) + high) / 2) - 1]++;  // it was even
    bad += !as_strtod(text);
  }
  CHECK(bad == 0);
}

void rounding_modes() {
  double got = 0;
  const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (const int mode : modes) {
    fesetround(mode);
    CHECK(irk::read_real("0.1", 3, &got) && got == 0x1.999999999999ap-4);
    CHECK(irk::read_real("0.3", 3, &got) && got == 0x1.3333333333333p-2);
  }
  fesetround(FE_TONEAREST);
}

void integers() {
  int64_t v = 0;
  CHECK(irk::read_int("-9223372036854775808", 20, &v) && v == INT64_MIN);
  CHECK(irk::read_int("9223372036854775807", 19, &v) && v == INT64_MAX);
  CHECK(!irk::read_int("9223372036854775808", 19, &v) && !irk::read_int("-9223372036854775809", 20, &v));
}

}  // namespace

int main() {
  corners();
  randoms();
  ties();
  rounding_modes();
  integers();
  return report("number_test");
}
