// What a kernel family gets and gives when a model is loaded.
//
// A family is a folder kernels/<family>/ with
//   prepare.cc    in namespace irk: Status irk_prepare_<family>(StepContext&, PreparedStep*): checks the step, packs
//                 constants, picks the kernel
//   <family>.h    its params struct;  generic.h: code shared by its ISA files (templates, anonymous namespace)
//   kernels.inc   IRK_KERNEL(family, types, isa, mr, nr, kr) rows, best first, scalar last
//   <isa>.cc      extern "C" void irk_<family>_<types>_<isa>(void* const* bufs, const void* params, int64_t begin,
//                 int64_t end)
// The build finds folders and files by name; the file name decides the compile flags.
#pragma once
#include "base/status.h"
#include "base/types.h"

namespace irk {

class Json;

// Memory that lives as long as the loaded model.
class StepAllocator {
 public:
  StepAllocator() = default;
  StepAllocator(const StepAllocator&) = delete;
  StepAllocator& operator=(const StepAllocator&) = delete;
  ~StepAllocator();
  // Before the first alloc: about so many bytes will be asked for. Of what was not, trim() gives the memory back.
  void expect(int64_t bytes);
  void trim();
  void* alloc(int64_t bytes, int64_t align = 64);  // null when out of memory
  // For reading only: `bytes` bytes of this value, shared by all who ask. Zeros take no memory, however many.
  const void* filled(int8_t value, int64_t bytes);
  int64_t bytes() const { return bytes_; }  // handed out so far

 private:
  void touch(char* begin, int64_t bytes) const;

  struct Block;
  struct Fill {
    const void* data;
    int64_t bytes;
  };
  Block* head_ = nullptr;
  char* free_ = nullptr;  // of the last chunk: what follows, and how many bytes of it
  int64_t left_ = 0;
  char *small_ = nullptr, *end_ = nullptr;  // of the chunk that expect() made: its small pages, its end
  int64_t bytes_ = 0;
  Fill fills_[256] = {};  // the longest of each value
};

// What a grain of items takes, about. Threads that go through steps side by side wait for each other after each, a
// third of a microsecond, and fetch what the others have written; workers come late to a first step, and what follows
// the last one has half of its input to fetch. Among steps that are split, one that is not has that, too, so these are
// split from small sizes on, and single ones are not.
constexpr int64_t kGrainNs = 3000;
constexpr double kShareGrains = 0.25;  // of a step, for each thread that it gets
constexpr int kRunGrains = 4;          // of a step, or of several in a row, from which on they are split
constexpr double kStepGrains = 0.3;    // what the threads of a step cost, about
constexpr double kJobGrains = 0.7;     // the same of a run, before and after
constexpr double kWorth = 0.2;         // part of a run's time that must be saved

struct StepContext {
  const Json* attrs;
  int n_in, n_out;
  const Tensor* in[kMaxOperands];  // null: absent
  const Tensor* out[kMaxOperands];
  Isa isa;      // highest level allowed (CPU, capped by IRKIT_ISA)
  int threads;  // threads the executor may use; results must not depend on it
  // The same for a step of so many grains.
  int threads_for(double grains) const { return grains < 2 * kShareGrains ? 1 : threads; }
  // How many items such a step is best cut in, at least, if `each` of them for every thread leave enough to take over
  // from one that is late. A small one has no time for that: each item costs something to begin with.
  int64_t items_for(double grains, int64_t each) const {
    return threads_for(grains) < 2 ? 1 : grains < kRunGrains ? threads : each * threads;
  }
  StepAllocator* alloc;
  const char* loc;  // for messages
  // For a stage of a chain (kernels/chain): about so many output rows should make an item; 0: not a stage.
  int64_t band_rows;

  // Attribute readers: an absent key or a value out of [lo, hi] is Code::bad_file naming step and key.
  bool has(const char* key) const;
  Status attr_int(const char* key, int64_t lo, int64_t hi, int64_t* out) const;
  Status attr_ints(const char* key, int count, int64_t lo, int64_t hi, int64_t* out) const;          // exact count
  Status attr_ints_n(const char* key, int max, int64_t lo, int64_t hi, int64_t* out, int* n) const;  // up to max
  Status attr_f32(const char* key, float* out) const;  // "inf", "-inf" allowed
  Status attr_str(const char* key, const char** out) const;
  // in[i] (or out[i]) exists and has this dtype and rank (rank -1: any); bad_file otherwise.
  Status want_in(int i, DType dtype, int rank) const;
  Status want_out(int i, DType dtype, int rank) const;
};

// A step as a stage of a chain, which has one image: `items` consecutive work items make `rows` rows of output, the
// last ones maybe fewer. They read rows [r * step - pad, r * step - pad + span) of the input for output row r, as far
// as these exist, and touch no other rows, nor any byte more than kBandSlack pixels behind them.
struct Band {
  int64_t rows = 0, items = 0;  // 0: the step can't be a stage
  int64_t step = 1, pad = 0, span = 1;
};
constexpr int64_t kBandSlack = 64;

struct PreparedStep {
  KernelFn fn = nullptr;
  const void* params = nullptr;  // from ctx.alloc
  int64_t items = 0;             // work items the executor may split among threads
  int64_t grain = 1;             // items that take about kGrainNs: less is not worth giving to a thread
  double grains = 0;             // of the whole step, which is not items / grain when an item takes several; 0: it is
  int64_t scratch = 0;           // bytes each thread needs; its pointer is the last entry of bufs, 64-byte aligned
  // Bit k: output 0 may lie in place of input k. Whatever the threads and the order of items, all that the kernel reads
  // of that input is, before it writes an element of the output, the same element. A plan that wants more is refused.
  uint64_t in_place = 0;
  const char* kernel = "";  // name for profile and plan, e.g. "qconv.s8s8s8.avx512vnni"
  Band band;                // when ctx.band_rows asked for it

  double all_grains() const { return grains > 0 ? grains : static_cast<double>(items) / static_cast<double>(grain); }
};

typedef Status (*PrepareFn)(StepContext&, PreparedStep*);

// Best row of that family and types whose level is allowed; null when there is none.
const KernelRow* pick_kernel(const char* family, const char* types, Isa isa);
// All rows compiled into this binary, for tests and benches.
const KernelRow* all_kernels(int* count);

// Strides in elements that walk a tensor in the order of its memory.
inline bool is_dense(const Tensor& t, const int64_t* strides) {
  int64_t step = 1;
  for (int i = t.rank - 1; i >= 0; step *= t.dims[i--])
    if (t.dims[i] != 1 && strides[i] != step) return false;
  return true;
}

// Overflow-checked size arithmetic: false on overflow or a negative operand.
inline bool mul_ok(int64_t a, int64_t b, int64_t* out) {
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}
inline bool add_ok(int64_t a, int64_t b, int64_t* out) {
  return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}

}  // namespace irk
