// int8 steps one after the other, band by band: each makes the rows that the next one needs now, and the tensors
// between them are windows of a few rows in scratch.
//
// Inputs: x, then those of each stage but its first, which is what the stage before it makes. Attribute "stages": a
// list of {"family", "inputs": how many the stage has, "out": [h, w, c] of its output, and what the family wants}.
//
// A stage is prepared as a step of its own whose tensors have one image, and told where its tensors would begin if they
// were there from row 0 on: it never learns that most of their rows are missing. So it does what it does outside of a
// chain, and the bits are the same.
#include "chain/bands.h"

#include <string.h>

#include "base/ints.h"
#include "base/json.h"
#include "runtime/registry.h"

namespace irk {

namespace {

constexpr int64_t kMostStages = 8;
constexpr int kMostBufs = 16;     // of a stage, scratch included
constexpr int64_t kPixels = 448;  // that make a band: with fewer, the start of each costs some percent

// The chain goes by the level of its first stage's kernel: "<family>.<types>.<level>".
const char* name_of(const char* first) {
#if defined(__x86_64__)
  static const char names[][24] = {"chain.s8s8.scalar", "chain.s8s8.avx2", "chain.s8s8.avx512", "chain.s8s8.avx512vnni",
                                   "chain.s8s8.amx"};
#else
  static const char names[][24] = {"chain.s8s8.scalar", "chain.s8s8.neon", "chain.s8s8.neondot", "chain.s8s8.neoni8mm"};
#endif
  constexpr size_t kPrefix = sizeof("chain.s8s8") - 1;
  const size_t n = strlen(first);
  for (const char* name : names) {
    const size_t level = strlen(name) - kPrefix;
    if (n > level && !strcmp(first + n - level, name + kPrefix)) return name;
  }
  return names[0];
}

struct BandStage {
  PreparedStep step;
  int64_t in_h, h;     // rows of its input and output
  int64_t row;         // bytes of an output row
  int64_t window, at;  // rows of output that scratch holds, and where; not for the last stage
  int n_bufs;
  int first;                 // buffer of the chain that is this stage's second one
  int64_t image[kMostBufs];  // bytes from one image to the next in each of its buffers that has images
};

struct BandParams {
  int64_t count, bands, rows;  // stages; items per image, and output rows of an item
  int64_t own;                 // where the scratch of the stages begins
  int out;                     // buffer
  BandStage stage[kMostStages];
};

// What a range of items has come to in one image.
struct Progress {
  int64_t first[kMostStages], made[kMostStages];  // rows [first, made) of each stage are there
};

// Address of row 0 of a tensor whose row `first` is at `at`. An address, not a pointer: row 0 may lie outside.
void* row_zero(char* at, int64_t first, int64_t row) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(at) - static_cast<uintptr_t>(first * row));
}

class BandRun {
 public:
  BandRun(void* const* bufs, const BandParams& p, int64_t image)
      : p_(p), bufs_(bufs), scratch_(static_cast<char*>(bufs[p.out + 1])), image_(image) {}

  // Output rows from `row` on: every stage starts with the band that has the first row it needs.
  void start(int64_t row) {
    for (int64_t s = p_.count - 1; s >= 0; s--) {
      const BandStage& k = p_.stage[s];
      const int64_t rows = k.step.band.rows;
      at_.first[s] = at_.made[s] = min64(row, k.h - 1) / rows * rows;
      row = first_input(k, at_.made[s]);
    }
  }

  // Makes rows of stage s up to `stop`; of those it has, the ones before `keep` are not needed any more.
  void make(int64_t s, int64_t keep, int64_t stop) {
    const BandStage& k = p_.stage[s];
    const Band& b = k.step.band;
    while (at_.made[s] < stop) {
      const int64_t begin = at_.made[s], end = min64(begin + b.rows, k.h);
      if (s > 0) make(s - 1, first_input(k, begin), min64((end - 1) * b.step - b.pad + b.span, k.in_h));
      if (s + 1 < p_.count && end - at_.first[s] > k.window) slide(s, keep);
      run(s, begin / b.rows);
      at_.made[s] = end;
    }
  }

 private:
  static int64_t first_input(const BandStage& k, int64_t row) {
    return min64(max64(row * k.step.band.step - k.step.band.pad, 0), k.in_h - 1);
  }

  void slide(int64_t s, int64_t keep) {
    const BandStage& k = p_.stage[s];
    char* window = scratch_ + k.at;
    const int64_t from = min64(max64(keep, at_.first[s]), at_.made[s]);
    memmove(window, window + (from - at_.first[s]) * k.row, static_cast<size_t>((at_.made[s] - from) * k.row));
    at_.first[s] = from;
  }

  void run(int64_t s, int64_t band) {
    const BandStage& k = p_.stage[s];
    void* bufs[kMostBufs];
    for (int i = 1; i + 2 < k.n_bufs; i++) bufs[i] = moved(k.first + i - 1, k.image[i]);
    bufs[0] = s == 0 ? moved(0, k.image[0]) : row_of(s - 1);
    bufs[k.n_bufs - 2] = s + 1 == p_.count ? moved(p_.out, k.image[k.n_bufs - 2]) : row_of(s);
    bufs[k.n_bufs - 1] = scratch_ + p_.own;
    k.step.fn(bufs, k.step.params, band * k.step.band.items, (band + 1) * k.step.band.items);
  }

  void* moved(int buf, int64_t image) const {
    return bufs_[buf] ? static_cast<char*>(bufs_[buf]) + image_ * image : nullptr;
  }
  void* row_of(int64_t s) const { return row_zero(scratch_ + p_.stage[s].at, at_.first[s], p_.stage[s].row); }

  const BandParams& p_;
  void* const* bufs_;
  char* scratch_;
  int64_t image_;
  Progress at_ = {};
};

void run_bands(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const BandParams& p = *static_cast<const BandParams*>(params);
  while (begin < end) {
    const int64_t image = begin / p.bands, first = begin % p.bands;
    const int64_t stop = min64(p.bands, first + end - begin);
    BandRun r(bufs, p, image);
    r.start(first * p.rows);
    r.make(p.count - 1, 0, min64(stop * p.rows, p.stage[p.count - 1].h));
    begin += stop - first;
  }
}

// The tensor with one image of its n.
Tensor one_image(const Tensor& t, int64_t n) {
  Tensor one = t;
  one.dims[0] /= n;
  one.count /= n;
  one.bytes /= n;
  return one;
}

Status stage_output(const StepContext& s, Tensor* y) {
  int64_t out[3];
  IRK_TRY(s.attr_ints("out", 3, 1, 1 << 20, out));
  *y = {};
  y->dtype = DType::i8;
  y->rank = 4;
  y->dims[0] = 1;
  memcpy(y->dims + 1, out, sizeof out);
  y->bytes = y->count = out[0] * out[1] * out[2];
  if (y->bytes > int64_t{1} << 40) return fail(Code::bad_file, "%s: chain too large", s.loc);
  return {};
}

// Rows that are in a window at most: what a band of the next stage reads, and a band that reaches beyond it. Where the
// next band reads some of these rows again, there is room for more bands, so that rows are seldom moved.
int64_t window_rows(const BandStage& k, const Band& next) {
  const int64_t need = (next.rows - 1) * next.step + next.span;
  const int64_t more = next.span > next.step ? need : 0;
  return min64(need + k.step.band.rows - 1 + more, k.h);
}

}  // namespace

Status prepare_bands(StepContext& ctx, PreparedStep* out) {
  const Json* stages = ctx.attrs->get("stages");
  if (!stages->is(Json::Kind::array) || stages->size() < 2 || stages->size() > kMostStages)
    return fail(Code::bad_file, "%s: a chain has 2 to %lld stages", ctx.loc, (long long)kMostStages);
  IRK_TRY(ctx.want_in(0, DType::i8, 4));
  IRK_TRY(ctx.want_out(0, DType::i8, 4));
  const int64_t n = ctx.in[0]->dims[0];
  if (ctx.n_out != 1 || ctx.out[0]->dims[0] != n)
    return fail(Code::bad_file, "%s: a chain has one output, as many images", ctx.loc);
  BandParams* p = static_cast<BandParams*>(ctx.alloc->alloc(sizeof(BandParams)));
  if (!p) return fail(Code::out_of_memory, "%s: out of memory", ctx.loc);
  *p = {};
  p->count = stages->size();
  p->out = ctx.n_in;
  Tensor x = one_image(*ctx.in[0], n), y, others[kMostBufs];
  int at = 1;
  for (int64_t s = 0; s < p->count; s++, x = y) {
    BandStage& k = p->stage[s];
    const bool last = s + 1 == p->count;
    StepContext c = ctx;
    c.attrs = stages->at(s);
    const char* family;
    int64_t inputs;
    IRK_TRY(c.attr_str("family", &family));
    IRK_TRY(c.attr_int("inputs", 1, kMostBufs - 2, &inputs));
    if (at + inputs - 1 > ctx.n_in) return fail(Code::bad_file, "%s: inputs are not those of the stages", ctx.loc);
    c.n_in = static_cast<int>(inputs);
    k.n_bufs = c.n_in + 2;
    k.first = at;
    if (last)
      y = one_image(*ctx.out[0], n);
    else
      IRK_TRY(stage_output(c, &y));
    c.in[0] = &x;
    k.image[0] = x.bytes;
    for (int i = 1; i < c.n_in; i++, at++) {
      c.in[i] = ctx.in[at];
      // Constants are the same for all images, other inputs have as many images.
      if (!c.in[i] || c.in[i]->data) continue;
      if (c.in[i]->rank != 4 || c.in[i]->dims[0] != n)
        return fail(Code::bad_file, "%s: input %d has other images than the chain", ctx.loc, at);
      others[i] = one_image(*c.in[i], n);
      c.in[i] = &others[i];
      k.image[i] = others[i].bytes;
    }
    c.out[0] = &y;
    k.image[c.n_in] = y.bytes;
    const int64_t before = s > 0 ? p->stage[s - 1].step.band.rows : 1;
    c.band_rows = round_up((kPixels + y.dims[2] - 1) / y.dims[2], before);
    const PrepareFn prepare = find_family(family);
    if (!prepare) return fail(Code::unsupported, "%s: this build has no kernel family '%.32s'", ctx.loc, family);
    IRK_TRY(prepare(c, &k.step));
    const Band& b = k.step.band;
    if (b.rows < 1 || b.items < 1)
      return fail(Code::bad_file, "%s: '%.32s' can't be stage %lld of a chain", ctx.loc, family, (long long)s);
    k.in_h = x.dims[1], k.h = y.dims[1];
    k.row = y.bytes / k.h;
    const double counted = static_cast<double>(k.step.items) / static_cast<double>(k.step.grain);
    out->grains += static_cast<double>(n) * (k.step.grains > counted ? k.step.grains : counted);
    out->scratch = max64(out->scratch, k.step.scratch);
    if (s == 0) continue;
    BandStage& source = p->stage[s - 1];
    source.window = window_rows(source, b);
    source.at = p->own;
    p->own = round_up(p->own + source.window * source.row + kBandSlack * x.dims[3] + 64, 64);
  }
  if (at != ctx.n_in) return fail(Code::bad_file, "%s: inputs are not those of the stages", ctx.loc);
  out->scratch += p->own;
  const BandStage& last = p->stage[p->count - 1];
  p->rows = last.step.band.rows;
  p->bands = (last.h + p->rows - 1) / p->rows;
  out->fn = run_bands;
  // The last stage makes each row once, and nothing else reads its other inputs; those of other stages may be read for
  // the start of a later item.
  for (int i = 1; i + 2 < last.n_bufs; i++) out->in_place |= (last.step.in_place >> i & 1) << (last.first + i - 1);
  out->params = p;
  out->items = n * p->bands;
  // Few large pieces: at the start of each some rows are computed again.
  const double most = 4.0 * ctx.threads, pieces = out->grains < 1 ? 1 : out->grains < most ? out->grains : most;
  out->grain = max64(1, static_cast<int64_t>(static_cast<double>(out->items) / pieces));
  out->kernel = name_of(p->stage[0].step.kernel);
  return {};
}

}  // namespace irk
