// A loaded model: checked plan, prepared steps, and contexts so that any number of threads can call it at once.
#pragma once
#include <atomic>

#include "base/array.h"
#include "base/heap.h"
#include "runtime/container.h"
#include "runtime/family.h"
#include "runtime/plan.h"

namespace irk {

// How to run a step, where that is not left to the runtime. Never changes results.
struct StepChoice {
  Isa isa;      // highest level to use
  int threads;  // 0: as many as the step is worth
};

// Fills choices[steps], which are the runtime's own at first. `digest` is XXH64 of the plan's text.
typedef void (*ChooseFn)(void* user, uint64_t digest, int64_t steps, StepChoice* choices);

struct LoadOptions {
  const char* isa = nullptr;  // cap by name; null: IRKIT_ISA, else what the CPU has
  int threads = 0;            // 0: default_threads()
  ChooseFn choose = nullptr;  // null: the runtime's own choices
  void* choose_user = nullptr;
};

// Bytes; arena and scratch are those of one call, scratch what does not fit into unused parts of the arena.
struct MemoryUse {
  int64_t artifact, prepared, arena, scratch;
};

// A step that the host program runs, on the calling thread. Nonzero stops the call with Code::internal.
typedef int (*HostFn)(void* user, void* const* bufs);

// Called after each step of a traced call, on the calling thread: the step's number and its outputs.
typedef void (*TraceFn)(void* user, int64_t step, void* const* outputs);

struct RunOptions {
  int64_t* step_ns = nullptr;  // per step: nanoseconds are added
  TraceFn trace = nullptr;
  void* trace_user = nullptr;
};

// Families whose steps the host program attaches after loading: NumPy fallbacks and kernels compiled at run time.
constexpr const char* kHostFamilies[] = {"python", "numba"};

class Model : public OnHeap {
 public:
  static Status load_file(const char* path, const LoadOptions& options, Model** out);
  // Copies `data`.
  static Status load_memory(const void* data, int64_t size, const LoadOptions& options, Model** out);
  // `data`, aligned to 8 bytes, must outlive the model.
  static Status load_borrowed(const void* data, int64_t size, const LoadOptions& options, Model** out);
  // The constants' names and data must outlive the model.
  static Status load_plan(const char* json, int64_t n, const ConstTable& consts, const LoadOptions& options,
                          Model** out);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // One buffer per input and output, row-major, aligned to the element size; outputs overlap nothing else.
  Status run(const void* const* inputs, void* const* outputs, const RunOptions& options = RunOptions());

  const Plan& plan() const { return plan_; }
  const ConstTable& consts() const { return consts_; }
  const Tensor& input(int64_t i) const { return plan_.tensors[plan_.inputs[i].tensor].t; }
  const Tensor& output(int64_t i) const { return plan_.tensors[plan_.outputs[i].tensor].t; }
  MemoryUse memory_use() const;
  Isa isa() const { return isa_; }
  int threads() const { return threads_.load(std::memory_order_relaxed); }
  Status set_threads(int threads);  // fewer, and no error, when the system gives no more
  const PreparedStep& step(int64_t i) const { return steps_[i].prepared; }
  // Threads that the step gets of a call that has the pool to itself.
  int step_threads(int64_t i) const { return steps_[i].threads; }

  // Before the first call, or with no call under way. Any step may be replaced; families in kHostFamilies must be.
  Status set_kernel(int64_t step, const PreparedStep& kernel);
  Status set_host(int64_t step, HostFn fn, void* user);

 private:
  struct Step {
    PreparedStep prepared;
    HostFn host;
    void* host_user;
    int64_t bufs;  // first of the step's entries in Context::bufs
    int n_bufs;
    int threads;
  };
  struct Patch {  // an entry of Context::bufs that is set per call
    int64_t slot, port;
    bool input;
  };
  struct Context;
  class Dropper;

  Model() = default;
  static Status create(Model** out);
  Status load_bytes(const LoadOptions& options);
  Status prepare(const LoadOptions& options, const void* plan, int64_t plan_bytes);
  Status prepare_steps();
  int64_t drop_weights(int64_t step, Dropper* read);
  Status prepare_step(int64_t i);
  Status check_in_place(int64_t i, const char* loc) const;
  Status list_patches();
  Status put_kernel(int64_t step, const PreparedStep& kernel);
  void share_out();
  Status check_buffers(const void* const* inputs, void* const* outputs) const;
  Status acquire(Context** out);
  static void release(Context* c);
  Status fit(Context* c);
  void line_up(Context* c);
  Status run_steps(Context* c, const RunOptions& options);

  static constexpr int kMaxContexts = 256;  // calls under way at once

  FileBytes bytes_;
  ConstTable consts_;
  Plan plan_;
  StepAllocator blocks_;
  Array<Step> steps_;
  Array<StepChoice> choices_;  // of each step; empty: the runtime's own
  Array<Patch> patches_;
  int64_t n_bufs_ = 0;
  std::atomic<int64_t> scratch_{0};  // of a call, beyond the arena
  int kernels_ = 0;                  // counts changes of kernels, which contexts follow
  std::atomic<int> shares_{0};       // the same of the steps' threads
  int64_t gain_ = 0;                 // ns that threads save in a call, about; 0: no step is worth more than one
  int64_t alone_ = 0;                // ns of a call on one thread, about
  Isa isa_ = Isa::scalar;
  std::atomic<int> threads_{1};
  std::atomic<Context*> contexts_[kMaxContexts] = {};
};

}  // namespace irk
