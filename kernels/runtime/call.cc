// Calls of a model: the memory that each takes, and its run over the steps.
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fpenv.h"
#include "base/ints.h"
#include "runtime/limits.h"
#include "runtime/model.h"
#include "runtime/scratch.h"
#include "runtime/threadpool.h"

namespace irk {
namespace {

long long ll(int64_t v) { return static_cast<long long>(v); }

// Not zeroed. In huge pages where they are to be had: the arena is what inference walks all the time. Its end is not,
// so that it takes no more memory than it has bytes.
void* alloc_pages(int64_t bytes) {
  constexpr int64_t kHuge = 2 << 20;
  const bool big = bytes >= kHuge;
  void* p = nullptr;
  const int64_t size = round_up(bytes > 0 ? bytes : 1, 64);
  if (posix_memalign(&p, static_cast<size_t>(big ? kHuge : kScratchAlign), static_cast<size_t>(size)) != 0)
    return nullptr;
#if defined(MADV_HUGEPAGE)
  if (big) madvise(p, static_cast<size_t>(size / kHuge * kHuge), MADV_HUGEPAGE);
#endif
  return p;
}

}  // namespace

// ---- contexts ------------------------------------------------------------------------------------------------------

// What one call needs: taken for the call, kept for the next one.
struct Model::Context : OnHeap {
  std::atomic<int> busy{1};
  char* arena = nullptr;  // and behind it the scratch that found no place there
  int threads = 0;        // that there is scratch for
  int kernels = -1;       // of the model when memory was laid out
  Array<void*> bufs;      // of all steps; inputs and outputs are set per call
  Array<int64_t> stride;  // of each step: from one thread's scratch to the next one's
  int shares = -1;        // of the model when the steps' threads were set
  Array<Work> works;      // the steps, but for those that the host runs
  Array<int64_t> row;     // of each step: how many from it on make one job, up to the last one that is split

  ~Context() { free(arena); }
};

Status Model::fit(Context* c) {
  const int threads = this->threads();
  if (c->threads >= threads && c->kernels == kernels_) {
    line_up(c);
    return Status();
  }
  Array<int64_t> need, at;
  int64_t end, widest = 0;
  if (!need.alloc(steps_.size()) || !c->stride.alloc(steps_.size()) || !c->works.alloc(steps_.size()) ||
      !c->row.alloc(steps_.size()))
    return fail(Code::out_of_memory, "out of memory for a call");
  const auto own = [&](int64_t i) { return round_up(steps_[i].prepared.scratch, kScratchAlign); };
  const auto others = [&](int64_t i) { return steps_[i].threads - 1; };
  for (int64_t i = 0; i < steps_.size(); i++) widest = own(i) > widest ? own(i) : widest;
  // A thread's scratch should stay where it is, in that core's cache; where there is no room for that, together.
  for (int64_t i = 0; i < steps_.size(); i++) need[i] = own(i) + others(i) * (c->stride[i] = widest);
  IRK_TRY(place_scratch(plan_, need, &at, &end));
  for (int64_t i = 0; i < steps_.size(); i++)
    if (at[i] + need[i] > plan_.arena) need[i] = own(i) + others(i) * (c->stride[i] = own(i));
  IRK_TRY(place_scratch(plan_, need, &at, &end));
  const int64_t bytes = end > plan_.arena ? end : plan_.arena;
  c->threads = 0;
  free(c->arena);
  c->arena = static_cast<char*>(alloc_pages(bytes));
  if (!c->arena)
    return fail(Code::out_of_memory, "out of memory for an arena of %lld bytes and %lld bytes of scratch",
                ll(plan_.arena), ll(bytes - plan_.arena));
  for (int64_t i = 0; i < steps_.size(); i++) {
    const PlanStep& p = plan_.steps[i];
    void** bufs = &c->bufs[steps_[i].bufs];
    for (int k = 0; k < p.n_in + p.n_out; k++) {
      const int32_t t = plan_.operands[p.operands + k];
      if (t >= 0 && plan_.tensors[t].place == Place::arena) bufs[k] = c->arena + plan_.tensors[t].pos;
    }
    bufs[p.n_in + p.n_out] = c->arena + at[i];
  }
  c->threads = threads;
  c->kernels = kernels_;
  c->shares = -1;
  line_up(c);
  scratch_.store(bytes - plan_.arena, std::memory_order_relaxed);
  return Status();
}

// The steps as threads get them.
void Model::line_up(Context* c) {
  const int shares = shares_.load(std::memory_order_relaxed);
  if (c->shares == shares) return;
  c->shares = shares;
  int64_t row = 0;
  for (int64_t i = steps_.size(); i-- > 0;) {
    const Step& s = steps_[i];
    const PreparedStep& k = s.prepared;
    c->works[i] = {k.fn,    k.params, &c->bufs[s.bufs],         s.n_bufs, s.threads, c->stride[i],
                   k.items, k.grain,  k.all_grains() * kGrainNs};
    const bool ours = !s.host && k.fn;
    row = !ours ? 0 : row > 0 || s.threads > 1 ? row + 1 : 0;
    c->row[i] = row;
  }
}

void Model::release(Context* c) { c->busy.store(0, std::memory_order_release); }

Status Model::acquire(Context** out) {
  int slot = 0;
  for (; slot < kMaxContexts; slot++) {
    Context* c = contexts_[slot].load(std::memory_order_acquire);
    if (!c) break;
    int free = 0;
    if (c->busy.load(std::memory_order_relaxed) == 0 &&
        c->busy.compare_exchange_strong(free, 1, std::memory_order_acquire)) {
      const Status s = fit(c);
      if (!s.ok()) release(c);
      *out = c;
      return s;
    }
  }
  Context* c = new (OrNull{}) Context();
  if (!c) return fail(Code::out_of_memory, "out of memory");
  if (!c->bufs.alloc(n_bufs_)) {
    delete c;
    return fail(Code::out_of_memory, "out of memory for %lld operands", ll(n_bufs_));
  }
  for (int64_t i = 0; i < steps_.size(); i++) {
    const PlanStep& p = plan_.steps[i];
    for (int k = 0; k < p.n_in + p.n_out; k++) {
      const int32_t t = plan_.operands[p.operands + k];
      if (t < 0) continue;
      const PlanTensor& tensor = plan_.tensors[t];
      // The one place where constness ends: a kernel gets all buffers as void*, and the plan's check has shown that no
      // step has a constant as its output.
      if (tensor.place == Place::constant) c->bufs[steps_[i].bufs + k] = const_cast<void*>(tensor.t.data);
    }
  }
  const Status s = fit(c);
  if (!s.ok()) {
    delete c;
    return s;
  }
  for (; slot < kMaxContexts; slot++) {
    Context* none = nullptr;
    if (contexts_[slot].compare_exchange_strong(none, c, std::memory_order_acq_rel)) {
      *out = c;
      return Status();
    }
  }
  delete c;
  return fail(Code::internal, "more than %d calls of one model at once", kMaxContexts);
}

Model::~Model() {
  for (auto& c : contexts_) delete c.load(std::memory_order_acquire);
}

// ---- running -------------------------------------------------------------------------------------------------------

Status Model::check_buffers(const void* const* inputs, void* const* outputs) const {
  const int64_t n_in = plan_.inputs.size(), n_out = plan_.outputs.size();
  for (int64_t i = 0; i < n_in; i++)
    if (!inputs[i] || reinterpret_cast<uintptr_t>(inputs[i]) % static_cast<uintptr_t>(dtype_size(input(i).dtype)))
      return fail(Code::bad_input, "input %lld '%.80s': buffer is null or not aligned to its element", ll(i),
                  plan_.inputs[i].name);
  for (int64_t k = 0; k < n_out; k++) {
    const char* out = static_cast<const char*>(outputs[k]);
    if (!out || reinterpret_cast<uintptr_t>(out) % static_cast<uintptr_t>(dtype_size(output(k).dtype)))
      return fail(Code::bad_input, "output %lld '%.80s': buffer is null or not aligned to its element", ll(k),
                  plan_.outputs[k].name);
    for (int64_t i = 0; i < n_in; i++) {
      const char* in = static_cast<const char*>(inputs[i]);
      if (in < out + output(k).bytes && out < in + input(i).bytes)
        return fail(Code::bad_input, "output %lld '%.80s' overlaps input %lld", ll(k), plan_.outputs[k].name, ll(i));
    }
    for (int64_t j = 0; j < k; j++) {
      const char* other = static_cast<const char*>(outputs[j]);
      if (other < out + output(k).bytes && out < other + output(j).bytes)
        return fail(Code::bad_input, "outputs %lld and %lld overlap", ll(j), ll(k));
    }
  }
  return Status();
}

Status Model::run(const void* const* inputs, void* const* outputs, const RunOptions& options) {
  IRK_TRY(check_buffers(inputs, outputs));
  Context* c;
  IRK_TRY(acquire(&c));
  void** bufs = c->bufs.data();
  for (const Patch& p : patches_) bufs[p.slot] = p.input ? const_cast<void*>(inputs[p.port]) : outputs[p.port];
  const FpEnv fp;
  const Status s = run_steps(c, options);
  release(c);
  return s;
}

Status Model::run_steps(Context* c, const RunOptions& options) {
  const int threads = this->threads() < c->threads ? this->threads() : c->threads;
  const CallCount counted;
  const bool pool = gain_ > 0 && counted.share(threads) > 1 && pool_acquire(threads, gain_, alone_);
  Status status;
  void* const* const all = c->bufs.data();
  const bool each = options.trace || options.step_ns;
  for (int64_t i = 0; i < steps_.size(); i++) {
    const Step& s = steps_[i];
    const PreparedStep& k = s.prepared;
    void* const* bufs = all + s.bufs;
    const int64_t start = options.step_ns ? now_ns() : 0;
    if (pool && s.threads > 1 && c->row[i] > 0) {
      // One by one where each step's time is wanted: in a row, threads run ahead of one that is late, and what they do
      // then seems to take no time.
      const int64_t count = each ? 1 : c->row[i];
      pool_run(&c->works[i], count, counted.share(threads));
      i += count - 1;
    } else if (s.host) {
      if (s.host(s.host_user, bufs) != 0) {
        status = fail(Code::internal, "step %lld (%.32s, '%.80s'): the host's function failed", ll(i),
                      plan_.steps[i].family, plan_.steps[i].name);
        break;
      }
    } else if (!k.fn) {
      status = fail(Code::unsupported, "step %lld (%.32s, '%.80s') has no kernel attached", ll(i),
                    plan_.steps[i].family, plan_.steps[i].name);
      break;
    } else if (k.items > 0) {
      k.fn(bufs, k.params, 0, k.items);
    }
    if (options.step_ns) options.step_ns[i] += now_ns() - start;
    if (options.trace) options.trace(options.trace_user, i, bufs + plan_.steps[i].n_in);
  }
  if (pool) pool_release();
  return status;
}

}  // namespace irk
