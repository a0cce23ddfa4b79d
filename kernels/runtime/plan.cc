#include "runtime/plan.h"

#include <math.h>
#include <string.h>

#include "runtime/family.h"
#include "runtime/limits.h"

namespace irk {
namespace {

long long ll(int64_t v) { return static_cast<long long>(v); }

const Json* list(const Json* root, const char* key) {
  const Json* v = root->get(key);
  return v && v->is(Json::Kind::array) ? v : nullptr;
}

class Reader {
 public:
  Reader(const ConstTable& consts, Plan* plan) : consts_(consts), plan_(*plan) {}

  Status run() {
    const Json* root = plan_.doc.root();
    if (!root->is(Json::Kind::object)) return fail(Code::bad_file, "plan is not an object");
    int64_t version = 0;
    const Json* v = root->get("version");
    if (!v || !v->as_int(&version)) return fail(Code::bad_file, "plan has no integer 'version'");
    if (version > kPlanVersion)
      return fail(Code::bad_version, "plan version %lld is newer than %d, the newest this irkit reads", ll(version),
                  kPlanVersion);
    if (version < 1)
      return fail(Code::bad_version, "plan version %lld does not exist; versions begin at 1", ll(version));
    if (const Json* tree = root->get("tree")) {
      if (!tree->str()) return fail(Code::bad_file, "plan 'tree' is not a string");
      plan_.tree = tree->str();
    }
    v = root->get("arena");
    if (!v || !v->as_int(&plan_.arena) || plan_.arena < 0 || plan_.arena > kMaxArenaBytes)
      return fail(Code::bad_file, "plan 'arena' is not an integer from 0 to 2^36");
    IRK_TRY(ports(root, "inputs", &plan_.inputs));
    IRK_TRY(ports(root, "outputs", &plan_.outputs));
    if (plan_.outputs.size() == 0) return fail(Code::bad_file, "plan has no outputs");
    IRK_TRY(tensors(root));
    IRK_TRY(match_ports(plan_.inputs, Place::input, "input"));
    IRK_TRY(match_ports(plan_.outputs, Place::output, "output"));
    IRK_TRY(steps(root));
    return dataflow();
  }

 private:
  Status ports(const Json* root, const char* key, Array<PlanPort>* out) {
    const Json* v = list(root, key);
    if (!v) return fail(Code::bad_file, "plan has no list '%s'", key);
    if (v->size() > kMaxPorts) return fail(Code::bad_file, "%lld %s; at most %lld", ll(v->size()), key, ll(kMaxPorts));
    if (!out->alloc(v->size())) return fail(Code::out_of_memory, "out of memory for %lld %s", ll(v->size()), key);
    for (int64_t i = 0; i < v->size(); i++) {
      const Json *name = v->at(i)->get("name"), *tensor = v->at(i)->get("tensor");
      int64_t t;
      if (!name || !name->str()) return fail(Code::bad_file, "%s[%lld] has no string 'name'", key, ll(i));
      if (!tensor || !tensor->as_int(&t) || t < 0 || t >= kMaxTensors)
        return fail(Code::bad_file, "%s[%lld] '%.80s': 'tensor' is not an index", key, ll(i), name->str());
      (*out)[i] = {name->str(), static_cast<int32_t>(t)};
    }
    return Status();
  }

  Status tensors(const Json* root) {
    const Json* v = list(root, "tensors");
    if (!v) return fail(Code::bad_file, "plan has no list 'tensors'");
    if (v->size() > kMaxTensors)
      return fail(Code::bad_file, "%lld plan tensors; at most %lld", ll(v->size()), ll(kMaxTensors));
    if (!plan_.tensors.alloc(v->size()))
      return fail(Code::out_of_memory, "out of memory for %lld tensors", ll(v->size()));
    for (int64_t i = 0; i < v->size(); i++) IRK_TRY(tensor(v->at(i), i, &plan_.tensors[i]));
    return Status();
  }

  Status tensor(const Json* v, int64_t i, PlanTensor* out) {
    Tensor& t = out->t;
    const Json *dtype = v->get("dtype"), *shape = list(v, "shape");
    if (!dtype || !dtype->str() || !dtype_from_plan(dtype->str(), &t.dtype))
      return fail(Code::bad_file, "plan tensor %lld: unknown or missing dtype", ll(i));
    if (!shape) return fail(Code::bad_file, "plan tensor %lld: no list 'shape'", ll(i));
    if (shape->size() > kMaxRank)
      return fail(Code::bad_file, "plan tensor %lld: rank %lld; at most %d", ll(i), ll(shape->size()), kMaxRank);
    t.rank = static_cast<int>(shape->size());
    for (int k = 0; k < t.rank; k++)
      if (!shape->at(k)->as_int(&t.dims[k]) || t.dims[k] < 1 || t.dims[k] > kMaxDim)
        return fail(Code::bad_file, "plan tensor %lld: dimension %d is not an integer from 1 to 2^31", ll(i), k);
    if (!size_tensor(&t)) return fail(Code::bad_file, "plan tensor %lld: larger than 2^36 bytes", ll(i));
    IRK_TRY(quant(v, i, &t));
    return place(list(v, "loc"), i, out);
  }

  Status quant(const Json* v, int64_t i, Tensor* t) {
    const Json *scale = v->get("scale"), *zero = v->get("zero");
    if (!scale) {
      if (zero) return fail(Code::bad_file, "plan tensor %lld: 'zero' without 'scale'", ll(i));
      return Status();
    }
    double s;
    if (!scale->as_real(&s)) return fail(Code::bad_file, "plan tensor %lld: 'scale' is not a number", ll(i));
    // The bound comes first: a double beyond float's range must not reach the conversion.
    if (!(s > 0 && s <= 3.0e38) || !(static_cast<float>(s) > 0))
      return fail(Code::bad_file, "plan tensor %lld: 'scale' is not a positive finite float32", ll(i));
    t->scale = static_cast<float>(s);
    int64_t z = 0;
    if (zero && (!zero->as_int(&z) || z < INT32_MIN || z > INT32_MAX))
      return fail(Code::bad_file, "plan tensor %lld: 'zero' is not a 32-bit integer", ll(i));
    const bool fits = t->dtype == DType::i8 ? z >= -128 && z <= 127 : t->dtype == DType::u8 ? z >= 0 && z <= 255 : true;
    if (!fits)
      return fail(Code::bad_file, "plan tensor %lld: zero point %lld does not fit %s", ll(i), ll(z),
                  dtype_name(t->dtype));
    t->zero = static_cast<int32_t>(z);
    return Status();
  }

  Status place(const Json* loc, int64_t i, PlanTensor* out) {
    const char* kind = loc && loc->size() == 2 ? loc->at(0)->str() : nullptr;
    if (!kind) return fail(Code::bad_file, "plan tensor %lld: 'loc' is not [kind, position]", ll(i));
    const Json* pos = loc->at(1);
    if (strcmp(kind, "const") == 0) return constant(pos->str(), i, out);
    if (!pos->as_int(&out->pos) || out->pos < 0)
      return fail(Code::bad_file, "plan tensor %lld: position in 'loc' is not an integer from 0", ll(i));
    if (strcmp(kind, "arena") == 0) return arena(i, out);
    const bool in = strcmp(kind, "in") == 0;
    if (!in && strcmp(kind, "out") != 0)
      return fail(Code::bad_file, "plan tensor %lld: unknown place '%.20s'; expected in, out, arena or const", ll(i),
                  kind);
    const int64_t ports = in ? plan_.inputs.size() : plan_.outputs.size();
    if (out->pos >= ports)
      return fail(Code::bad_file, "plan tensor %lld: %s %lld of %lld", ll(i), in ? "input" : "output", ll(out->pos),
                  ll(ports));
    out->place = in ? Place::input : Place::output;
    return Status();
  }

  Status arena(int64_t i, PlanTensor* out) {
    out->place = Place::arena;
    if (out->pos % kArenaAlign != 0)
      return fail(Code::bad_file, "plan tensor %lld: arena offset %lld is not a multiple of %lld", ll(i), ll(out->pos),
                  ll(kArenaAlign));
    int64_t end;
    if (!add_ok(out->pos, out->t.bytes, &end) || end > plan_.arena)
      return fail(Code::bad_file, "plan tensor %lld: %lld bytes at %lld leave the arena of %lld", ll(i),
                  ll(out->t.bytes), ll(out->pos), ll(plan_.arena));
    return Status();
  }

  Status constant(const char* key, int64_t i, PlanTensor* out) {
    out->place = Place::constant;
    if (!key) return fail(Code::bad_file, "plan tensor %lld: constant's key is not a string", ll(i));
    const ConstTensor* c = consts_.find(key);
    if (!c) return fail(Code::bad_file, "plan tensor %lld: there is no constant '%.120s'", ll(i), key);
    if (c->tensor.dtype != out->t.dtype || c->tensor.bytes != out->t.bytes)
      return fail(Code::bad_file, "plan tensor %lld: constant '%.100s' is %s of %lld bytes, the plan says %s of %lld",
                  ll(i), key, dtype_name(c->tensor.dtype), ll(c->tensor.bytes), dtype_name(out->t.dtype),
                  ll(out->t.bytes));
    out->t.data = c->tensor.data;
    return Status();
  }

  // Port k names a tensor placed at input (output) k, and every view of that buffer has its size.
  Status match_ports(const Array<PlanPort>& ports, Place place, const char* what) {
    for (int64_t k = 0; k < ports.size(); k++) {
      if (ports[k].tensor >= plan_.tensors.size())
        return fail(Code::bad_file, "%s %lld: tensor %d of %lld", what, ll(k), ports[k].tensor,
                    ll(plan_.tensors.size()));
      const PlanTensor& t = plan_.tensors[ports[k].tensor];
      if (t.place != place || t.pos != k)
        return fail(Code::bad_file, "%s %lld: tensor %d is not placed there", what, ll(k), ports[k].tensor);
    }
    for (int64_t i = 0; i < plan_.tensors.size(); i++) {
      const PlanTensor& t = plan_.tensors[i];
      if (t.place == place && t.t.bytes != plan_.tensors[ports[t.pos].tensor].t.bytes)
        return fail(Code::bad_file, "plan tensor %lld: %lld bytes in %s %lld of %lld bytes", ll(i), ll(t.t.bytes), what,
                    ll(t.pos), ll(plan_.tensors[ports[t.pos].tensor].t.bytes));
    }
    return Status();
  }

  Status steps(const Json* root) {
    const Json* v = list(root, "steps");
    if (!v) return fail(Code::bad_file, "plan has no list 'steps'");
    if (v->size() > kMaxSteps) return fail(Code::bad_file, "%lld steps; at most %lld", ll(v->size()), ll(kMaxSteps));
    int64_t operands = 0;
    for (int64_t i = 0; i < v->size(); i++) {
      const Json *in = list(v->at(i), "in"), *out = list(v->at(i), "out");
      if (!in || !out) return fail(Code::bad_file, "step %lld: no lists 'in' and 'out'", ll(i));
      if (in->size() > kMaxOperands || out->size() > kMaxOperands)
        return fail(Code::bad_file, "step %lld: %lld inputs and %lld outputs; at most %d each", ll(i), ll(in->size()),
                    ll(out->size()), kMaxOperands);
      if (out->size() < 1) return fail(Code::bad_file, "step %lld: no outputs", ll(i));
      operands += in->size() + out->size();
    }
    if (!plan_.steps.alloc(v->size()) || !plan_.operands.alloc(operands))
      return fail(Code::out_of_memory, "out of memory for %lld steps", ll(v->size()));
    int64_t at = 0;
    for (int64_t i = 0; i < v->size(); i++) IRK_TRY(step(v->at(i), i, &at));
    return Status();
  }

  Status step(const Json* v, int64_t i, int64_t* at) {
    PlanStep& s = plan_.steps[i];
    const Json *family = v->get("family"), *name = v->get("name"), *in = v->get("in"), *out = v->get("out");
    s.attrs = v->get("attrs");
    if (!family || !family->str()) return fail(Code::bad_file, "step %lld: no string 'family'", ll(i));
    if (name && !name->str()) return fail(Code::bad_file, "step %lld: 'name' is not a string", ll(i));
    if (!s.attrs || !s.attrs->is(Json::Kind::object))
      return fail(Code::bad_file, "step %lld: no object 'attrs'", ll(i));
    s.family = family->str();
    s.name = name ? name->str() : "";
    s.n_in = static_cast<int>(in->size());
    s.n_out = static_cast<int>(out->size());
    s.operands = *at;
    for (int64_t k = 0; k < in->size() + out->size(); k++) {
      const bool is_in = k < in->size();
      const Json* x = is_in ? in->at(k) : out->at(k - in->size());
      int64_t t;
      if (!x->as_int(&t) || t < (is_in ? -1 : 0) || t >= plan_.tensors.size())
        return fail(Code::bad_file, "step %lld: %s %lld is not the index of a tensor", ll(i),
                    is_in ? "input" : "output", ll(is_in ? k : k - in->size()));
      plan_.operands[(*at)++] = static_cast<int32_t>(t);
    }
    return Status();
  }

  struct Range {
    int64_t begin, end;
    bool written;
  };

  // Nothing is read before it is written, nothing read-only is written, steps don't overwrite what they read.
  Status dataflow() {
    int64_t in_arena = 0, writes = 0;
    for (const PlanTensor& t : plan_.tensors) in_arena += t.place == Place::arena;
    for (const PlanStep& s : plan_.steps) writes += s.n_out;
    if (in_arena > INT64_C(4000000000) / (writes + 1))  // keeps the quadratic walk below within about a second
      return fail(Code::bad_file, "plan too large: %lld arena tensors and %lld step outputs", ll(in_arena), ll(writes));
    if (!ranges_.alloc(in_arena) || !slot_.alloc(plan_.tensors.size()) || !out_written_.alloc(plan_.outputs.size()))
      return fail(Code::out_of_memory, "out of memory while checking the plan");
    int64_t k = 0;
    for (int64_t i = 0; i < plan_.tensors.size(); i++) {
      const PlanTensor& t = plan_.tensors[i];
      if (t.place != Place::arena) continue;
      slot_[i] = k;
      ranges_[k++] = {t.pos, t.pos + t.t.bytes, false};
    }
    for (int64_t i = 0; i < plan_.steps.size(); i++) {
      const PlanStep& s = plan_.steps[i];
      for (int a = 0; a < s.n_in; a++) IRK_TRY(read(i, a, plan_.operands[s.operands + a]));
      for (int b = 0; b < s.n_out; b++) IRK_TRY(write(i, b));
      for (int b = 0; b < s.n_out; b++) mark(plan_.operands[s.operands + s.n_in + b]);
    }
    for (int64_t i = 0; i < plan_.outputs.size(); i++)
      if (!out_written_[i])
        return fail(Code::bad_file, "output %lld '%.80s' is written by no step", ll(i), plan_.outputs[i].name);
    return Status();
  }

  Status read(int64_t i, int a, int32_t t) {
    if (t < 0) return Status();
    const PlanTensor& p = plan_.tensors[t];
    const bool ok =
        p.place == Place::arena ? ranges_[slot_[t]].written : p.place != Place::output || out_written_[p.pos];
    if (!ok)
      return fail(Code::bad_file, "step %lld: input %d (tensor %d) is read before it is written, or was overwritten",
                  ll(i), a, t);
    return Status();
  }

  static bool same_place(const PlanTensor& a, const PlanTensor& b) { return a.place == b.place && a.pos == b.pos; }

  static bool overlap(const PlanTensor& a, const PlanTensor& b) {
    if (a.place != b.place) return false;
    if (a.place != Place::arena) return a.pos == b.pos;
    return a.pos < b.pos + b.t.bytes && b.pos < a.pos + a.t.bytes;
  }

  Status write(int64_t i, int b) {
    const PlanStep& s = plan_.steps[i];
    const int32_t* ops = &plan_.operands[s.operands];
    const PlanTensor& out = plan_.tensors[ops[s.n_in + b]];
    if (out.place == Place::input || out.place == Place::constant)
      return fail(Code::bad_file, "step %lld: output %d is %s", ll(i), b,
                  out.place == Place::input ? "an input of the model" : "a constant");
    for (int a = 0; a < s.n_in; a++) {
      if (ops[a] < 0) continue;
      const PlanTensor& in = plan_.tensors[ops[a]];
      if (overlap(in, out) && !same_place(in, out))
        return fail(Code::bad_file, "step %lld: output %d overlaps input %d", ll(i), b, a);
    }
    for (int c = 0; c < b; c++)
      if (overlap(plan_.tensors[ops[s.n_in + c]], out))
        return fail(Code::bad_file, "step %lld: outputs %d and %d overlap", ll(i), c, b);
    return Status();
  }

  void mark(int32_t t) {
    const PlanTensor& p = plan_.tensors[t];
    if (p.place == Place::output) {
      out_written_[p.pos] = true;
      return;
    }
    const int64_t begin = p.pos, end = p.pos + p.t.bytes;
    for (Range& r : ranges_)
      if (r.begin < end && begin < r.end)
        r.written = r.begin >= begin && r.end <= end;  // partly overwritten: no longer its value
  }

  const ConstTable& consts_;
  Plan& plan_;
  Array<Range> ranges_;  // arena tensors
  Array<int64_t> slot_;  // tensor -> index in ranges_
  Array<bool> out_written_;
};

}  // namespace

Status Plan::drop_doc() {
  int64_t bytes = Texts::bytes(tree);
  for (const PlanPort& p : inputs) bytes += Texts::bytes(p.name);
  for (const PlanPort& p : outputs) bytes += Texts::bytes(p.name);
  for (const PlanStep& s : steps) bytes += Texts::bytes(s.family) + Texts::bytes(s.name);
  if (!texts.alloc(bytes)) return fail(Code::out_of_memory, "out of memory for the plan's names");
  tree = texts.add(tree);
  for (PlanPort& p : inputs) p.name = texts.add(p.name);
  for (PlanPort& p : outputs) p.name = texts.add(p.name);
  for (PlanStep& s : steps) {
    s.family = texts.add(s.family);
    s.name = texts.add(s.name);
    s.attrs = nullptr;
  }
  doc.clear();
  return Status();
}

Status read_plan(const char* text, int64_t n, const ConstTable& consts, Plan* out) {
  if (n > kMaxPlanBytes) return fail(Code::bad_file, "plan of %lld bytes; at most 64 MiB", ll(n));
  IRK_TRY(out->doc.parse(text, n, "plan"));
  return Reader(consts, out).run();
}

}  // namespace irk
