#include <math.h>
#include <string.h>

#include "base/json.h"
#include "runtime/container.h"
#include "runtime/family.h"

namespace irk {
namespace {

long long ll(int64_t v) { return static_cast<long long>(v); }

bool int_in(const Json* v, int64_t lo, int64_t hi, int64_t* out) {
  int64_t x;
  if (!v || !v->as_int(&x) || x < lo || x > hi) return false;
  *out = x;
  return true;
}

}  // namespace

bool StepContext::has(const char* key) const { return attrs->get(key) != nullptr; }

Status StepContext::attr_int(const char* key, int64_t lo, int64_t hi, int64_t* out) const {
  if (int_in(attrs->get(key), lo, hi, out)) return Status();
  return fail(Code::bad_file, "%.100s: attribute '%.40s' is not an integer in [%lld, %lld]", loc, key, ll(lo), ll(hi));
}

Status StepContext::attr_ints(const char* key, int count, int64_t lo, int64_t hi, int64_t* out) const {
  const Json* v = attrs->get(key);
  bool ok = v && v->is(Json::Kind::array) && v->size() == count;
  for (int i = 0; ok && i < count; i++) ok = int_in(v->at(i), lo, hi, &out[i]);
  if (ok) return Status();
  return fail(Code::bad_file, "%.100s: attribute '%.40s' is not a list of %d integers in [%lld, %lld]", loc, key, count,
              ll(lo), ll(hi));
}

Status StepContext::attr_ints_n(const char* key, int max, int64_t lo, int64_t hi, int64_t* out, int* n) const {
  const Json* v = attrs->get(key);
  bool ok = v && v->is(Json::Kind::array) && v->size() <= max;
  for (int i = 0; ok && i < v->size(); i++) ok = int_in(v->at(i), lo, hi, &out[i]);
  if (!ok)
    return fail(Code::bad_file, "%.100s: attribute '%.40s' is not a list of at most %d integers in [%lld, %lld]", loc,
                key, max, ll(lo), ll(hi));
  *n = static_cast<int>(v->size());
  return Status();
}

Status StepContext::attr_f32(const char* key, float* out) const {
  const Json* v = attrs->get(key);
  double x;
  if (v && v->str() && strcmp(v->str(), "inf") == 0) return *out = INFINITY, Status();
  if (v && v->str() && strcmp(v->str(), "-inf") == 0) return *out = -INFINITY, Status();
  if (!v || !v->as_real(&x) || !(fabs(x) <= 3.4028234663852886e38))
    return fail(Code::bad_file, "%.100s: attribute '%.40s' is not a float32, \"inf\" or \"-inf\"", loc, key);
  *out = static_cast<float>(x);
  return Status();
}

Status StepContext::attr_str(const char* key, const char** out) const {
  const Json* v = attrs->get(key);
  if (!v || !v->str()) return fail(Code::bad_file, "%.100s: attribute '%.40s' is not a string", loc, key);
  *out = v->str();
  return Status();
}

namespace {

Status want(const char* loc, const char* what, int i, int n, const Tensor* const* tensors, DType dtype, int rank) {
  if (i < 0 || i >= n || !tensors[i]) return fail(Code::bad_file, "%.100s: %s %d is missing", loc, what, i);
  const Tensor& t = *tensors[i];
  if (t.dtype != dtype)
    return fail(Code::bad_file, "%.100s: %s %d is %s, expected %s", loc, what, i, dtype_name(t.dtype),
                dtype_name(dtype));
  if (rank >= 0 && t.rank != rank)
    return fail(Code::bad_file, "%.100s: %s %d has rank %d, expected %d", loc, what, i, t.rank, rank);
  return Status();
}

}  // namespace

Status StepContext::want_in(int i, DType dtype, int rank) const { return want(loc, "input", i, n_in, in, dtype, rank); }

Status StepContext::want_out(int i, DType dtype, int rank) const {
  return want(loc, "output", i, n_out, out, dtype, rank);
}

}  // namespace irk
