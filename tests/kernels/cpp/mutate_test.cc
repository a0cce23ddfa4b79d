// Broken artifacts with a right checksum: the loader must refuse or run them, within bounds, whatever they say.
//
//   mutate_test [runs] [seed]     meant for a build with -DIRKIT_SANITIZE=address,undefined
#include <ctype.h>
#include <time.h>

#include "artifact.h"
#include "check.h"
#include "runtime/model.h"

namespace {

Blob g_good, g_bad;
float g_x[kCount], g_y[kCount];
int g_loaded = 0;

uint64_t g_state = 1;
uint64_t random64() {  // xorshift64*
  g_state ^= g_state >> 12;
  g_state ^= g_state << 25;
  g_state ^= g_state >> 27;
  return g_state * 2685821657736338717ull;
}
int64_t below(int64_t n) { return static_cast<int64_t>(random64() % static_cast<uint64_t>(n)); }

// Exactly as long as the file, so that ASan sees the first byte beyond. A model that loads is also run.
void try_load(const Blob& b) {
  irk::Model* m = nullptr;
  irk::LoadOptions o;
  o.threads = 1;
  const irk::Status s = irk::Model::load_memory(b.bytes, b.size, o, &m);
  g_checks++;
  if (s.ok() == (m == nullptr) || (!s.ok() && !s.msg[0])) {
    g_failed++;
    fprintf(stderr, "verdict and model disagree: %s\n", s.msg);
  }
  if (!m) return;
  g_loaded++;
  const void* in[] = {g_x, g_x, g_x, g_x};
  static float extra[3][kCount];
  void* out[] = {g_y, extra[0], extra[1], extra[2]};
  bool fits = m->plan().inputs.size() <= 4 && m->plan().outputs.size() <= 4;
  for (int64_t i = 0; fits && i < m->plan().inputs.size(); i++)
    fits = m->input(i).bytes <= static_cast<int64_t>(sizeof g_x);
  for (int64_t i = 0; fits && i < m->plan().outputs.size(); i++)
    fits = m->output(i).bytes <= static_cast<int64_t>(sizeof g_y);
  if (fits) m->run(in, out);
  delete m;
}

// Replaces [at, at + old) of the file by text, keeping header length, the plan's size and the checksum right.
bool splice(Blob* b, int64_t at, int64_t old, const char* text, int64_t n) {
  const int64_t grow = n - old;
  if (b->size + grow > static_cast<int64_t>(sizeof b->bytes) || b->size + grow < 16) return false;
  memmove(b->bytes + at + n, b->bytes + at + old, static_cast<size_t>(b->size - at - old));
  memcpy(b->bytes + at, text, static_cast<size_t>(n));
  b->size += grow;
  if (at < 8 + b->header) {
    b->header += grow;
    const uint64_t length = static_cast<uint64_t>(b->header);
    memcpy(b->bytes, &length, 8);
  }
  return true;
}

const char* const kTokens[] = {"0",
                               "-1",
                               "1",
                               "2",
                               "3",
                               "64",
                               "2147483648",
                               "4294967296",
                               "9223372036854775807",
                               "-9223372036854775808",
                               "1e308",
                               "0.5",
                               "null",
                               "true",
                               "[]",
                               "{}",
                               "\"\"",
                               "\"arena\"",
                               "\"const\"",
                               "\"in\"",
                               "\"out\"",
                               "\"f64\"",
                               "\"i8\"",
                               "\"python\"",
                               "[0,1]",
                               "[1,1,1,1,1,1,1,1,1]",
                               "\"inf\"",
                               ",",
                               ":",
                               "]",
                               "}"};

void mutate(Blob* b) {
  const int64_t changes = 1 + below(3);
  for (int64_t c = 0; c < changes; c++) {
    const int64_t at = 8 + 80 + below(b->size - 8 - 80);
    switch (below(5)) {
      case 0:
        b->bytes[at] ^= static_cast<uint8_t>(1 << below(8));
        break;
      case 1:
        b->bytes[at] = static_cast<uint8_t>(random64());
        break;
      case 2:
        splice(b, at, below(b->size - at < 16 ? b->size - at : 16), "", 0);
        break;
      default: {  // a number or word becomes another token
        int64_t begin = at, end;
        const auto inside = [&](int64_t i) {
          return i < b->size && (strchr("0123456789-.\"_", b->bytes[i]) || isalpha(b->bytes[i])) && b->bytes[i];
        };
        while (begin < b->size && !inside(begin)) begin++;
        for (end = begin; inside(end);) end++;
        const char* token = kTokens[below(sizeof kTokens / sizeof kTokens[0])];
        splice(b, begin, end - begin, token, static_cast<int64_t>(strlen(token)));
      }
    }
  }
  // Repair what would stop most mutants at the door: header padding, the plan's extent, the checksum.
  while (b->header % 8) splice(b, 8 + b->header - 1, 1, " }", 2), b->bytes[8 + b->header - 2] = ' ';
  static const char kEntry[] = "\"irkit.plan\":{\"dtype\":\"U8\",\"shape\":[";
  constexpr int64_t kEntryLen = sizeof kEntry - 1;
  char* plan = static_cast<char*>(memmem(b->bytes + 8, static_cast<size_t>(b->header), kEntry, kEntryLen));
  if (plan && below(8)) {
    const int64_t n = b->size - 8 - b->header - 4;
    char text[80];
    const int len = snprintf(text, sizeof text, "%lld],\"data_offsets\":[4,%lld]}", static_cast<long long>(n),
                             static_cast<long long>(n + 4));
    const char* close = static_cast<const char*>(
        memchr(plan + kEntryLen, '}',
               static_cast<size_t>(reinterpret_cast<char*>(b->bytes) + 8 + b->header - plan - kEntryLen)));
    if (close) {
      const int64_t begin = plan + kEntryLen - reinterpret_cast<char*>(b->bytes);
      splice(b, begin, close + 1 - (plan + kEntryLen), text, len);
      while (b->header % 8) splice(b, 8 + b->header, 0, " ", 1), b->header++, memcpy(b->bytes, &b->header, 8);
    }
  }
  seal(b);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t runs = argc > 1 ? atoll(argv[1]) : 20000;
  g_state = argc > 2 ? strtoull(argv[2], nullptr, 10) | 1 : 12345;
  build(&g_good);
  try_load(g_good);
  CHECK(g_loaded == 1);

  // Every bit of the file flipped, with the checksum made right again: nothing but the checks stands in the way.
  for (int64_t i = 0; i < g_good.size; i++) {
    for (int bit = 0; bit < 8; bit++) {
      g_bad = g_good;
      g_bad.bytes[i] ^= static_cast<uint8_t>(1 << bit);
      seal(&g_bad);
      try_load(g_bad);
    }
  }
  const int after_flips = g_loaded;
  timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int64_t r = 0; r < runs; r++) {
    g_bad = g_good;
    mutate(&g_bad);
    try_load(g_bad);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  CHECK(g_loaded > after_flips);  // some mutants get all the way
  printf("mutate_test: %lld runs, %d of all loaded, %.1f s\n", static_cast<long long>(runs), g_loaded,
         static_cast<double>(end.tv_sec - start.tv_sec) + 1e-9 * static_cast<double>(end.tv_nsec - start.tv_nsec));
  return report("mutate_test");
}
