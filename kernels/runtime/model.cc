#include "runtime/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/fpenv.h"
#include "base/ints.h"
#include "base/xxh64.h"
#include "runtime/limits.h"
#include "runtime/registry.h"
#include "runtime/threadpool.h"

namespace irk {
namespace {

long long ll(int64_t v) { return static_cast<long long>(v); }

// The family's name when its steps are the host program's, else null.
const char* host_family(const char* family) {
  for (const char* f : kHostFamilies)
    if (strcmp(f, family) == 0) return f;
  return nullptr;
}

}  // namespace

Status Model::create(Model** out) {
  *out = new (OrNull{}) Model();
  if (!*out) return fail(Code::out_of_memory, "out of memory");
  return Status();
}

namespace {

// Hands out the model only when loading it succeeded.
Status finish(const Status& s, Model** out) {
  if (!s.ok()) {
    delete *out;
    *out = nullptr;
  }
  return s;
}

}  // namespace

Status Model::load_file(const char* path, const LoadOptions& options, Model** out) {
  IRK_TRY(create(out));
  Status s = (*out)->bytes_.map(path);
  if (s.ok()) s = (*out)->load_bytes(options);
  return finish(s, out);
}

Status Model::load_memory(const void* data, int64_t size, const LoadOptions& options, Model** out) {
  IRK_TRY(create(out));
  Status s = (*out)->bytes_.copy(data, size);
  if (s.ok()) s = (*out)->load_bytes(options);
  return finish(s, out);
}

Status Model::load_borrowed(const void* data, int64_t size, const LoadOptions& options, Model** out) {
  IRK_TRY(create(out));
  Status s = (*out)->bytes_.borrow(data, size);
  if (s.ok()) s = (*out)->load_bytes(options);
  return finish(s, out);
}

Status Model::load_plan(const char* json, int64_t n, const ConstTable& consts, const LoadOptions& options,
                        Model** out) {
  IRK_TRY(create(out));
  ConstTable& own = (*out)->consts_;
  Status s;
  if (own.alloc(consts.size())) {
    for (int64_t i = 0; i < consts.size(); i++) own.entries()[i] = consts[i];
    s = own.seal();
  } else {
    s = fail(Code::out_of_memory, "out of memory for %lld constants", ll(consts.size()));
  }
  if (s.ok()) s = read_plan(json, n, own, &(*out)->plan_);
  if (s.ok()) s = (*out)->prepare(options, json, n);
  return finish(s, out);
}

Status Model::load_bytes(const LoadOptions& options) {
  {
    JsonDoc header;
    IRK_TRY(read_container(bytes_.data(), bytes_.size(), &header, &consts_));
    IRK_TRY(consts_.keep_names());
  }
  const ConstTensor* plan = consts_.find(kPlanKey);
  if (!plan) return fail(Code::bad_file, "artifact has no tensor '%s'", kPlanKey);
  if (plan->tensor.dtype != DType::u8 || plan->tensor.rank != 1)
    return fail(Code::bad_file, "'%s' is not a list of U8", kPlanKey);
  IRK_TRY(read_plan(static_cast<const char*>(plan->tensor.data), plan->tensor.bytes, consts_, &plan_));
  return prepare(options, plan->tensor.data, plan->tensor.bytes);
}

Status Model::prepare(const LoadOptions& options, const void* plan, int64_t plan_bytes) {
  IRK_TRY(effective_isa(options.isa, &isa_));
  IRK_TRY(set_threads(options.threads));
  if (!steps_.alloc(plan_.steps.size()))
    return fail(Code::out_of_memory, "out of memory for %lld steps", ll(plan_.steps.size()));
  if (options.choose) {
    if (!choices_.alloc(steps_.size())) return fail(Code::out_of_memory, "out of memory for choices");
    for (StepChoice& c : choices_) c = {isa_, 0};
    Xxh64 digest;
    digest.update(plan, plan_bytes);
    options.choose(options.choose_user, digest.digest(), steps_.size(), choices_.data());
    for (StepChoice& c : choices_) {
      if (c.isa > isa_) c.isa = isa_;
      if (c.threads < 0 || c.threads > kMaxThreads) c.threads = 0;
    }
  }
  const FpEnv fp;  // what a prepare function computes must not depend on the caller's modes either
  IRK_TRY(prepare_steps());
  share_out();
  IRK_TRY(plan_.drop_doc());
  IRK_TRY(list_patches());
  Context* c;
  IRK_TRY(acquire(&c));  // so that a model whose memory is not to be had fails here, and calls allocate nothing
  release(c);
  return Status();
}

namespace {

struct Weight {
  int64_t bytes, step;
};

int heaviest_first(const void* a, const void* b) {
  const Weight *x = static_cast<const Weight*>(a), *y = static_cast<const Weight*>(b);
  if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
  return x->step < y->step ? -1 : 1;
}

}  // namespace

// Gives back the pages of constants: small ones, which share pages, some together.
class Model::Dropper {
 public:
  explicit Dropper(const FileBytes& file) : file_(file) {}
  void drop(const void* data, int64_t bytes) {
    constexpr int64_t kSmall = 16 << 10, kMost = 256 << 10;
    if (bytes >= kSmall) {
      file_.drop_pages(data, bytes);
      return;
    }
    const char *const begin = static_cast<const char*>(data), *const end = begin + bytes;
    if (!begin_ || begin < begin_) begin_ = begin;
    if (!end_ || end > end_) end_ = end;
    waiting_ += bytes + kSmall;  // and what is read with it
    if (waiting_ < kMost) return;
    file_.drop_pages(begin_, end_ - begin_);
    begin_ = end_ = nullptr;
    waiting_ = 0;
  }

 private:
  const FileBytes& file_;
  const char *begin_ = nullptr, *end_ = nullptr;
  int64_t waiting_ = 0;
};

// Kernels have their own copies of most constants. With the file's pages beside them weights would be there twice, so
// pages are given back as steps are done. At first all are in memory, read for the checksum; the steps with most
// weights come first, while there are few copies, and for the first of them as much is given back that will be read
// again later.
Status Model::prepare_steps() {
  Array<Weight> order;
  if (!order.alloc(steps_.size())) return fail(Code::out_of_memory, "out of memory for %lld steps", ll(steps_.size()));
  int64_t all = 0;
  for (int64_t i = 0; i < steps_.size(); i++) {
    const PlanStep& p = plan_.steps[i];
    steps_[i].bufs = n_bufs_;
    steps_[i].n_bufs = p.n_in + p.n_out + 1;
    n_bufs_ += steps_[i].n_bufs;
    order[i] = {0, i};
    if (host_family(p.family)) continue;
    for (int k = 0; k < p.n_in; k++) {
      const int32_t t = plan_.operands[p.operands + k];
      if (t >= 0 && plan_.tensors[t].place == Place::constant) order[i].bytes += plan_.tensors[t].t.bytes;
    }
    all += order[i].bytes;
  }
  if (order.size() > 1) qsort(order.data(), static_cast<size_t>(order.size()), sizeof(Weight), heaviest_first);
  Dropper read(bytes_);
  int64_t dropped = 0;
  // Copies are larger than weights by as much as a huge page; some bytes may well be there twice.
  constexpr int64_t kHuge = 2 << 20, kSpare = FileBytes::kSmallBytes;
  const int64_t twice = order.size() > 0 ? order[0].bytes + (all < kHuge ? -kSpare : kHuge) : 0;
  for (int64_t i = order.size(); i-- > 1 && dropped < twice;) dropped += drop_weights(order[i].step, &read);
  int64_t constants = 0;
  for (int64_t i = 0; i < consts_.size(); i++) constants += consts_[i].tensor.bytes;
  blocks_.expect(min64(all, constants));
  for (const Weight& w : order) {
    IRK_TRY(prepare_step(w.step));
    if (all > kSpare) drop_weights(w.step, &read);
  }
  bytes_.drop_pages();
  blocks_.trim();
  return Status();
}

// Tells how many bytes these were.
int64_t Model::drop_weights(int64_t step, Dropper* read) {
  const PlanStep& p = plan_.steps[step];
  int64_t bytes = 0;
  for (int k = 0; k < p.n_in; k++) {
    const int32_t t = plan_.operands[p.operands + k];
    if (t < 0 || plan_.tensors[t].place != Place::constant) continue;
    read->drop(plan_.tensors[t].t.data, plan_.tensors[t].t.bytes);
    bytes += plan_.tensors[t].t.bytes;
  }
  return bytes;
}

Status Model::prepare_step(int64_t i) {
  const PlanStep& p = plan_.steps[i];
  Step& s = steps_[i];
  s.prepared = PreparedStep();
  char loc[160];
  snprintf(loc, sizeof loc, "step %lld (%.32s, '%.80s')", ll(i), p.family, p.name);
  if (const char* host = host_family(p.family)) {
    s.prepared.kernel = host;
    return check_in_place(i, loc);
  }
  const PrepareFn prepare = find_family(p.family);
  if (!prepare) return fail(Code::unsupported, "%s: this build has no kernel family '%.32s'", loc, p.family);
  StepContext ctx;
  memset(static_cast<void*>(&ctx), 0, sizeof ctx);
  ctx.attrs = p.attrs;
  ctx.n_in = p.n_in;
  ctx.n_out = p.n_out;
  const int32_t* ops = &plan_.operands[p.operands];
  for (int k = 0; k < p.n_in; k++) ctx.in[k] = ops[k] < 0 ? nullptr : &plan_.tensors[ops[k]].t;
  for (int k = 0; k < p.n_out; k++) ctx.out[k] = &plan_.tensors[ops[p.n_in + k]].t;
  const StepChoice choice = choices_.size() > 0 ? choices_[i] : StepChoice{isa_, 0};
  ctx.isa = choice.isa;
  ctx.threads = choice.threads > 0 ? choice.threads : threads();
  ctx.alloc = &blocks_;
  ctx.loc = loc;
  IRK_TRY(prepare(ctx, &s.prepared));
  IRK_TRY(check_in_place(i, loc));
  return put_kernel(i, s.prepared);
}

// Where an output begins where an input does, which is all that read_plan lets overlap, the kernel must be one that can
// write there.
Status Model::check_in_place(int64_t i, const char* loc) const {
  const PlanStep& p = plan_.steps[i];
  const int32_t* ops = &plan_.operands[p.operands];
  for (int a = 0; a < p.n_in; a++) {
    if (ops[a] < 0) continue;
    const PlanTensor& in = plan_.tensors[ops[a]];
    for (int b = 0; b < p.n_out; b++) {
      const PlanTensor& out = plan_.tensors[ops[p.n_in + b]];
      if (in.place != out.place || in.pos != out.pos || in.t.bytes == 0 || out.t.bytes == 0) continue;
      const bool same = in.t.dtype == out.t.dtype && in.t.bytes == out.t.bytes;
      if (b > 0 || !same || !(steps_[i].prepared.in_place >> a & 1))
        return fail(Code::bad_file, "%s: output %d can't be in place of input %d", loc, b, a);
    }
  }
  return Status();
}

Status Model::list_patches() {
  const auto is_port = [](const PlanTensor& t) { return t.place == Place::input || t.place == Place::output; };
  int64_t n = 0;
  for (int32_t t : plan_.operands) n += t >= 0 && is_port(plan_.tensors[t]);
  if (!patches_.alloc(n)) return fail(Code::out_of_memory, "out of memory for %lld operands", ll(n));
  n = 0;
  for (int64_t i = 0; i < steps_.size(); i++) {
    const PlanStep& p = plan_.steps[i];
    for (int k = 0; k < p.n_in + p.n_out; k++) {
      const int32_t t = plan_.operands[p.operands + k];
      if (t < 0 || !is_port(plan_.tensors[t])) continue;
      patches_[n++] = {steps_[i].bufs + k, plan_.tensors[t].pos, plan_.tensors[t].place == Place::input};
    }
  }
  return Status();
}

MemoryUse Model::memory_use() const {
  return {bytes_.size(), blocks_.bytes(), plan_.arena, scratch_.load(std::memory_order_relaxed)};
}

Status Model::set_threads(int threads) {
  if (threads < 0 || threads > kMaxThreads)
    return fail(Code::bad_input, "threads must be from 1 to %d, got %d", kMaxThreads, threads);
  if (threads == 0) IRK_TRY(default_threads(&threads));
  if (threads > 1) threads = pool_reserve(threads);
  threads_.store(threads, std::memory_order_relaxed);
  share_out();
  return Status();
}

// How many threads each step is worth: as many as get kShareGrains each, where the run of such steps that it is in
// saves enough.
void Model::share_out() {
  constexpr double kMost = 1e12;  // grains
  int64_t begin = 0;
  double all = 0, gain = 0, run = 0, saved = 0;
  for (int64_t i = 0; i <= steps_.size(); i++) {
    const PreparedStep none;
    const PreparedStep& k = i < steps_.size() && !steps_[i].host ? steps_[i].prepared : none;
    const int chosen = choices_.size() > 0 && i < steps_.size() ? choices_[i].threads : 0;
    const double grains = k.all_grains();
    const double shares = grains / kShareGrains, items = static_cast<double>(k.items);
    const int64_t most = chosen ? 0 : static_cast<int64_t>(shares < items ? shares : items);
    all += grains;
    if (most >= 2) {
      steps_[i].threads = most < threads() ? static_cast<int>(most) : threads();
      run += grains;
      saved += grains - grains / steps_[i].threads - kStepGrains;
      continue;
    }
    saved -= kJobGrains;
    if (run < kRunGrains || saved < kWorth * run)
      for (int64_t j = begin; j < i; j++) steps_[j].threads = 1;
    else
      gain += saved;
    if (i < steps_.size()) {
      const int64_t n = k.items < chosen ? k.items : chosen;
      steps_[i].threads = n < 2 ? 1 : n < threads() ? static_cast<int>(n) : threads();
      gain += grains - grains / steps_[i].threads;
    }
    begin = i + 1;
    run = saved = 0;
  }
  gain_ = static_cast<int64_t>((gain < kMost ? gain : kMost) * kGrainNs);
  alone_ = static_cast<int64_t>((all < kMost ? all : kMost) * kGrainNs);
  shares_.fetch_add(1, std::memory_order_relaxed);
}

Status Model::put_kernel(int64_t step, const PreparedStep& kernel) {
  if (!kernel.fn || kernel.items < 0 || kernel.grain < 1 || kernel.scratch < 0 || kernel.scratch > kMaxScratchBytes)
    return fail(Code::internal, "step %lld: kernel without function, or bad items, grain or scratch", ll(step));
  steps_[step].prepared = kernel;
  steps_[step].host = nullptr;
  kernels_++;
  return Status();
}

Status Model::set_kernel(int64_t step, const PreparedStep& kernel) {
  if (step < 0 || step >= steps_.size()) return fail(Code::bad_input, "step %lld of %lld", ll(step), ll(steps_.size()));
  IRK_TRY(put_kernel(step, kernel));
  share_out();
  return Status();
}

Status Model::set_host(int64_t step, HostFn fn, void* user) {
  if (step < 0 || step >= steps_.size()) return fail(Code::bad_input, "step %lld of %lld", ll(step), ll(steps_.size()));
  steps_[step].host = fn;
  steps_[step].host_user = user;
  share_out();
  return Status();
}

}  // namespace irk
