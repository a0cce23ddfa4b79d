// A plugin for the emulator (qemu-user, TCG plugin interface version 1) that counts executed A64 instructions by class.
//
//   qemu-aarch64 -cpu cortex-a76 -plugin libcount.so,out=counts.txt[,hot=N] program
//
// A program marks points of its run by getpriority(PRIO_PROCESS, kMark + id), id 0 to 255: a harmless call, for there
// is no such process. At each mark a line "mark ID COUNT..." gives the counts since the mark before it, in the order of
// the first line. "hot" lines give the N blocks with most instructions between marks 1 and 2: address, length,
// executions. Counts are exact and repeatable for one thread; more threads would race for the counters.
//
// The interface is declared here because distributions do not package its header. Blocks of code are the emulator's:
// they end at branches, page ends or 512 instructions. An execution of a block is counted as a whole.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <algorithm>
#include <deque>
#include <vector>

#include "classes.h"

#define PLUGIN extern "C" __attribute__((visibility("default")))

extern "C" {
typedef uint64_t PluginId;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*TranslateFn)(PluginId, qemu_plugin_tb*);
typedef void (*SyscallFn)(PluginId, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t);
typedef void (*ExitFn)(PluginId, void*);
void qemu_plugin_register_vcpu_tb_trans_cb(PluginId, TranslateFn);
void qemu_plugin_register_vcpu_tb_exec_inline(qemu_plugin_tb*, int op, void* counter, uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(PluginId, SyscallFn);
void qemu_plugin_register_atexit_cb(PluginId, ExitFn, void*);
size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb*);
qemu_plugin_insn* qemu_plugin_tb_get_insn(const qemu_plugin_tb*, size_t);
uint64_t qemu_plugin_tb_vaddr(const qemu_plugin_tb*);
const void* qemu_plugin_insn_data(const qemu_plugin_insn*);
}

PLUGIN int qemu_plugin_version;
int qemu_plugin_version = 1;

namespace {

constexpr int kAddU64 = 0;              // QEMU_PLUGIN_INLINE_ADD_U64
constexpr int64_t kGetPriority = 141;   // arm64 system call number
constexpr uint64_t kMark = 0x69726B00;  // "irk" and the id; greater than any process id
constexpr int kBegin = 1, kEnd = 2;     // the marks that limit what "hot" counts

struct Block {
  uint64_t address = 0, runs = 0;     // runs: added to by the translated code
  uint64_t runs_before = 0, hot = 0;  // at kBegin; between kBegin and kEnd
  uint16_t length = 0;
  uint16_t counts[a64::kClasses] = {};
};

std::deque<Block> blocks;  // addresses stay valid
uint64_t last[a64::kClasses];
FILE* out = stderr;
size_t hot = 0;

void translated(PluginId, qemu_plugin_tb* tb) {
  blocks.emplace_back();
  Block& b = blocks.back();
  b.address = qemu_plugin_tb_vaddr(tb);
  b.length = static_cast<uint16_t>(qemu_plugin_tb_n_insns(tb));
  for (size_t i = 0; i < b.length; i++) {
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof word);
    b.counts[a64::classify(word)]++;
  }
  qemu_plugin_register_vcpu_tb_exec_inline(tb, kAddU64, &b.runs, 1);
}

void system_call(PluginId, unsigned, int64_t number, uint64_t, uint64_t who, uint64_t, uint64_t, uint64_t, uint64_t,
                 uint64_t, uint64_t) {
  if (number != kGetPriority || (who & ~uint64_t{255}) != kMark) return;
  const int id = static_cast<int>(who & 255);
  uint64_t now[a64::kClasses] = {};
  for (Block& b : blocks) {
    if (!b.runs) continue;
    for (int c = 0; c < a64::kClasses; c++) now[c] += b.runs * b.counts[c];
    if (id == kBegin) b.runs_before = b.runs;
    if (id == kEnd) b.hot += b.runs - b.runs_before, b.runs_before = b.runs;
  }
  fprintf(out, "mark %d", id);
  for (int c = 0; c < a64::kClasses; c++) {
    fprintf(out, " %llu", static_cast<unsigned long long>(now[c] - last[c]));
    last[c] = now[c];
  }
  fputc('\n', out);
}

void exited(PluginId, void*) {
  std::vector<const Block*> order;
  for (const Block& b : blocks)
    if (b.hot) order.push_back(&b);
  const size_t n = std::min(hot, order.size());
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [](const Block* a, const Block* b) {
    const uint64_t x = a->hot * a->length, y = b->hot * b->length;
    return x != y ? x > y : a->address < b->address;
  });
  for (size_t i = 0; i < n; i++)
    fprintf(out, "hot %llx %d %llu\n", static_cast<unsigned long long>(order[i]->address), order[i]->length,
            static_cast<unsigned long long>(order[i]->hot));
  fclose(out);
}

}  // namespace

PLUGIN int qemu_plugin_install(PluginId id, const void*, int argc, char** argv) {
  for (int i = 0; i < argc; i++) {
    if (strncmp(argv[i], "out=", 4) == 0)
      out = fopen(argv[i] + 4, "w");
    else if (strncmp(argv[i], "hot=", 4) == 0)
      hot = strtoull(argv[i] + 4, nullptr, 10);
    else
      return fprintf(stderr, "count: unknown argument %s\n", argv[i]), 1;
  }
  if (!out) return fprintf(stderr, "count: can't write the file of out=\n"), 1;
  fputs("classes", out);
  for (const char* name : a64::kNames) fprintf(out, " %s", name);
  fputc('\n', out);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, system_call);
  qemu_plugin_register_atexit_cb(id, exited, nullptr);
  return 0;
}
