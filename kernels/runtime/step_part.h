// How threads share a step: see threadpool.h.
#pragma once
#include <string.h>

#include <atomic>

#include "runtime/threadpool.h"

namespace irk {

// What a thread has to do with the step at hand. Words of an earlier step stand for: nothing is done yet, nor taken
// from the thread's range. Those of a later one for: all threads are done with the step. Two steps' words are enough,
// as a step is begun by who has seen that the one before is done.
struct Share {
  // Step (32 bits); what is left of the thread's range: end (16), begin (16).
  alignas(128) std::atomic<uint64_t> left{0};
  // Step (32 bits); units that the thread has done (32). Apart, as the others look at it all the time.
  alignas(128) std::atomic<uint64_t> done{0};
};

constexpr uint64_t kMostSteps = 0xffffffff;  // that are counted until all begins anew
constexpr int64_t kMostUnits = 0xffff;
constexpr uint64_t kPiece = 8;  // grains that are taken at once at least, of one's own

constexpr uint64_t pack(uint64_t step, uint64_t begin, uint64_t end) { return step << 32 | end << 16 | begin; }

// A step in units: one item, or several where there are very many.
struct Cut {
  int64_t unit, units;
  uint64_t crumb;  // units that are worth a kernel's start
  int threads;     // that share it
};

inline Cut cut(const Work& w, int threads) {
  Cut c;
  c.unit = w.items > kMostUnits ? w.items / kMostUnits + 1 : 1;
  c.units = c.unit > 1 ? (w.items - 1) / c.unit + 1 : w.items;
  const int64_t crumb = c.unit > 1 ? w.grain / c.unit : w.grain;
  c.crumb = static_cast<uint64_t>(crumb < c.units ? crumb : c.units);
  c.threads = w.threads < threads ? w.threads : threads;
  if (c.threads > c.units) c.threads = static_cast<int>(c.units);
  return c;
}

// Takes half of what is left of a share, `least` units at least.
inline bool take(Share& s, uint64_t step, uint64_t first, uint64_t last, uint64_t least, uint64_t* begin,
                 uint64_t* end) {
  uint64_t r = s.left.load(std::memory_order_relaxed);
  for (;;) {
    const bool touched = r >> 32 == step;
    const uint64_t b = touched ? r & 0xffff : first, e = touched ? r >> 16 & 0xffff : last;
    if (r >> 32 > step || b >= e) return false;
    uint64_t n = (e - b + 1) / 2;
    if (n < least) n = least;
    if (n > e - b) n = e - b;
    if (s.left.compare_exchange_weak(r, pack(step, b + n, e), std::memory_order_relaxed)) {
      *begin = b;
      *end = b + n;
      return true;
    }
  }
}

// A thread's part of a step.
class Part {
 public:
  Part(const Work& w, const Cut& c, int self, uint64_t step, Share* shares)
      : w_(w), c_(c), self_(self), step_(step), shares_(shares) {
    if (self >= c.threads) return;
    memcpy(bufs_, w.bufs, static_cast<size_t>(w.n_bufs) * sizeof(void*));
    bufs_[w.n_bufs - 1] = static_cast<char*>(w.bufs[w.n_bufs - 1]) + self * w.scratch_stride;
  }

  // Every range costs the kernel's start, so a short share is taken whole.
  void own() {
    if (self_ < c_.threads) work_on(self_, kPiece * c_.crumb);
  }

  // What others have left. To look at it takes their words away from them: for those who would wait long.
  void others() {
    if (self_ >= c_.threads) return;
    for (int k = self_ + 1; k < c_.threads; k++) work_on(k, c_.crumb);
    for (int k = 0; k < self_; k++) work_on(k, c_.crumb);
  }

  // All of the step is done.
  bool complete() const {
    uint64_t units = 0;
    for (int t = 0; t < c_.threads; t++) {
      const uint64_t d = shares_[t].done.load(std::memory_order_acquire);
      if (d >> 32 > step_) return true;
      if (d >> 32 == step_) units += d & 0xffffffffu;
    }
    return units == static_cast<uint64_t>(c_.units);
  }

  double share() const { return static_cast<double>(done_) / static_cast<double>(c_.units); }

 private:
  void work_on(int of, uint64_t least) {
    const uint64_t first = static_cast<uint64_t>(c_.units * of / c_.threads);
    const uint64_t last = static_cast<uint64_t>(c_.units * (of + 1) / c_.threads);
    uint64_t b, e;
    while (take(shares_[of], step_, first, last, least, &b, &e)) {
      const int64_t begin = static_cast<int64_t>(b) * c_.unit, end = static_cast<int64_t>(e) * c_.unit;
      w_.fn(bufs_, w_.params, begin, end < w_.items ? end : w_.items);
      done_ += e - b;
      shares_[self_].done.store(step_ << 32 | done_, std::memory_order_release);
    }
  }

  const Work& w_;
  const Cut& c_;
  int self_;
  uint64_t step_;
  Share* shares_;
  uint64_t done_ = 0;
  void* bufs_[2 * kMaxOperands + 1];
};

}  // namespace irk
