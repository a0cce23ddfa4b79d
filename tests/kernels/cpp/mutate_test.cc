// Broken artifacts with a right checksum: the loader must refuse or run them, within bounds, whatever they say.
//
//   mutate_test [runs] [seed] [artifact...]     meant for a build with -DIRKIT_SANITIZE=address,undefined
//
// Without artifacts it starts from one of its own, every bit of which it flips first. tests/fuzz/run.sh gives it some
// of every kernel family.
#include <ctype.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include "artifact.h"
#include "base/cpu.h"
#include "check.h"
#include "runtime/model.h"

namespace {

Blob g_good, g_bad;
int64_t g_plan_at = 4;  // offset of the plan in the file's buffer; it is the last tensor
int g_loaded = 0, g_ran = 0;

uint64_t g_state = 1;
uint64_t random64() {  // xorshift64*
  g_state ^= g_state >> 12;
  g_state ^= g_state << 25;
  g_state ^= g_state >> 27;
  return g_state * 2685821657736338717ull;
}
int64_t below(int64_t n) { return static_cast<int64_t>(random64() % static_cast<uint64_t>(n)); }

// A buffer that ends where an inaccessible page begins: its pages, for release().
struct Guarded {
  void* pages = nullptr;
  size_t mapped = 0;

  uint8_t* acquire(int64_t bytes) {
    constexpr size_t kPage = 65536;  // of any Linux
    const size_t size = static_cast<size_t>(bytes);
    mapped = (size + kPage - 1) / kPage * kPage + kPage;
    pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) abort();
    uint8_t* end = static_cast<uint8_t*>(pages) + mapped - kPage;
    mprotect(end, kPage, PROT_NONE);
    for (size_t i = 0; i < size; i++) (end - size)[i] = static_cast<uint8_t>(i * 37);
    return end - size;
  }
  void release() {
    if (pages) munmap(pages, mapped);
    pages = nullptr;
  }
};

// Exactly as long as the file, so that ASan sees the first byte beyond. A model that loads is also run.
void try_load(const Blob& b) {
  irk::Model* m = nullptr;
  irk::LoadOptions o;
  o.threads = 1;
  irk::Isa levels[8];
  o.isa = irk::isa_name(levels[below(irk::cpu_isas(levels))]);
  const irk::Status s = irk::Model::load_memory(b.bytes, b.size, o, &m);
  g_checks++;
  if (getenv("MUTATE_SHOW") && !s.ok()) fprintf(stderr, "%s\n", s.msg);
  if (s.ok() == (m == nullptr) || (!s.ok() && !s.msg[0])) {
    g_failed++;
    fprintf(stderr, "verdict and model disagree: %s\n", s.msg);
  }
  if (!m) return;
  g_loaded++;
  constexpr int kPorts = 16;
  constexpr int64_t kMost = 4 << 20;
  const void* in[kPorts] = {};
  void* out[kPorts] = {};
  Guarded guards[2 * kPorts];
  const int64_t n_in = m->plan().inputs.size(), n_out = m->plan().outputs.size();
  bool fits = n_in <= kPorts && n_out <= kPorts;
  for (int64_t i = 0; fits && i < n_in; i++) fits = m->input(i).bytes <= kMost;
  for (int64_t i = 0; fits && i < n_out; i++) fits = m->output(i).bytes <= kMost;
  for (int64_t i = 0; fits && i < n_in; i++) in[i] = guards[i].acquire(m->input(i).bytes);
  for (int64_t i = 0; fits && i < n_out; i++) out[i] = guards[kPorts + i].acquire(m->output(i).bytes);
  if (fits && m->plan().arena <= 16 * kMost) {
    g_ran++;
    m->run(in, out);
  }
  for (Guarded& g : guards) g.release();
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
  const int64_t changes = 1 + below(2);
  for (int64_t c = 0; c < changes; c++) {
    // Mostly in the plan: it is what kernels' prepare functions read.
    const int64_t from = below(4) ? 8 + b->header + g_plan_at : 8 + 80;
    if (from >= b->size) return seal(b);
    const int64_t at = from + below(b->size - from);
    switch (below(40)) {
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
        if (below(8)) {  // a value, not a key: digits after one of [ , :
          const auto value = [&](int64_t i) { return isdigit(b->bytes[i]) && strchr("[,:-", b->bytes[i - 1]); };
          while (begin < b->size && !value(begin)) begin++;
          for (end = begin; end < b->size && (isdigit(b->bytes[end]) || b->bytes[end] == '.');) end++;
        } else {
          while (begin < b->size && !inside(begin)) begin++;
          for (end = begin; inside(end);) end++;
        }
        const char* token = kTokens[below(sizeof kTokens / sizeof kTokens[0])];
        char number[8];
        if (begin < b->size && isdigit(b->bytes[begin]) && below(4)) {  // a number stays one, most of the time
          snprintf(number, sizeof number, "%d", static_cast<int>(below(below(2) ? 5 : 300)));
          token = number;
        }
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
    const int64_t n = b->size - 8 - b->header - g_plan_at;
    char text[80];
    const int len = snprintf(text, sizeof text, "%lld],\"data_offsets\":[%lld,%lld]}", static_cast<long long>(n),
                             static_cast<long long>(g_plan_at), static_cast<long long>(n + g_plan_at));
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

void copy(const Blob& from, Blob* to) {
  memcpy(to->bytes, from.bytes, static_cast<size_t>(from.size));
  to->size = from.size;
  to->header = from.header;
}

// Takes an artifact as the one to mutate. Its plan must be its last tensor.
bool read_base(const char* path) {
  FILE* f = fopen(path, "rb");
  if (!f) return false;
  g_good.size = static_cast<int64_t>(fread(g_good.bytes, 1, sizeof g_good.bytes / 2, f));
  fclose(f);
  memcpy(&g_good.header, g_good.bytes, 8);
  static const char key[] = "\"data_offsets\":[";
  const char* header = reinterpret_cast<const char*>(g_good.bytes) + 8;
  const char* at = static_cast<const char*>(memmem(header, static_cast<size_t>(g_good.header), "irkit.plan", 10));
  at = at ? strstr(at, key) : nullptr;
  if (!at) return false;
  g_plan_at = atoll(at + sizeof key - 1);
  return true;
}

// The file that broke something is kept for a regression test.
void keep_culprit() {
  FILE* f = fopen("culprit.irk", "wb");
  if (!f) return;
  fwrite(g_bad.bytes, 1, static_cast<size_t>(g_bad.size), f);
  fclose(f);
  fprintf(stderr, "the file is kept as culprit.irk\n");
}

void hangs(int) {
  fprintf(stderr, "a load or call takes more than 20 s\n");
  keep_culprit();
  _exit(1);
}

[[maybe_unused]] void crashes(int signal) {
  fprintf(stderr, "signal %d\n", signal);
  keep_culprit();
  _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t runs = argc > 1 ? atoll(argv[1]) : 20000;
  g_state = argc > 2 ? strtoull(argv[2], nullptr, 10) | 1 : 12345;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(keep_culprit);
#endif
  signal(SIGALRM, hangs);
#if !defined(__SANITIZE_ADDRESS__)  // which reports these better
  signal(SIGSEGV, crashes);
  signal(SIGFPE, crashes);
  signal(SIGILL, crashes);
#endif
  build(&g_good);
  try_load(g_good);
  CHECK(g_loaded == 1 && g_ran == 1);

  // Every bit of the file flipped, with the checksum made right again: nothing but the checks stands in the way.
  for (int64_t i = 0; i < g_good.size && argc <= 3; i++) {
    for (int bit = 0; bit < 8; bit++) {
      g_bad = g_good;
      g_bad.bytes[i] ^= static_cast<uint8_t>(1 << bit);
      seal(&g_bad);
      try_load(g_bad);
    }
  }
  const int after_flips = g_loaded;
  const int64_t start = time(nullptr);
  for (int64_t r = 0; r < runs; r++) {
    if (argc > 3 && r % 64 == 0 && !read_base(argv[3 + below(argc - 3)])) {
      fprintf(stderr, "can't read one of the artifacts\n");
      return 1;
    }
    copy(g_good, &g_bad);
    mutate(&g_bad);
    alarm(20);
    try_load(g_bad);
  }
  alarm(0);
  CHECK(runs < 1000 || g_loaded > after_flips);  // some mutants get all the way
  printf("mutate_test: %lld runs, %d of all loaded, %d ran, %lld s\n", static_cast<long long>(runs), g_loaded, g_ran,
         static_cast<long long>(time(nullptr) - start));
  return report("mutate_test");
}
