// The C API of irkit.h over runtime/model.h.
#include <string.h>

#include "base/cpu.h"
#include "irkit.h"
#include "runtime/model.h"

namespace {

using irk::Code;
using irk::DType;
using irk::Model;
using irk::Status;

static_assert(IRK_BAD_FILE == static_cast<int>(Code::bad_file) &&
                  IRK_BAD_VERSION == static_cast<int>(Code::bad_version) &&
                  IRK_BAD_INPUT == static_cast<int>(Code::bad_input) &&
                  IRK_OUT_OF_MEMORY == static_cast<int>(Code::out_of_memory) &&
                  IRK_UNSUPPORTED == static_cast<int>(Code::unsupported) && IRK_IO == static_cast<int>(Code::io) &&
                  IRK_INTERNAL == static_cast<int>(Code::internal),
              "irk_code");
static_assert(IRK_F64 == static_cast<int>(DType::f64) && IRK_I8 == static_cast<int>(DType::i8) &&
                  IRK_I64 == static_cast<int>(DType::i64) && IRK_BOOL == static_cast<int>(DType::boolean),
              "irk_dtype");

irk_model* c(Model* m) { return reinterpret_cast<irk_model*>(m); }
Model* cpp(irk_model* m) { return reinterpret_cast<Model*>(m); }
const Model* cpp(const irk_model* m) { return reinterpret_cast<const Model*>(m); }

irk_code report(const Status& s, irk_error* err) {
  if (err) {
    err->code = static_cast<irk_code>(s.code);
    memcpy(err->message, s.msg, strlen(s.msg) + 1);
  }
  return static_cast<irk_code>(s.code);
}
static_assert(sizeof(irk_error::message) == sizeof(Status::msg), "message");

irk_code null_argument(const char* function, irk_error* err) {
  return report(irk::fail(Code::bad_input, "%s: a null argument", function), err);
}

bool known(irk_dtype t) { return t >= IRK_F32 && t <= IRK_BOOL; }

irk::LoadOptions load_options(const irk_options* o) {
  irk::LoadOptions out;
  if (o) {
    out.isa = o->isa;
    out.threads = o->threads;
  }
  return out;
}

irk_code load_bytes(const char* function, Status (*load)(const void*, int64_t, const irk::LoadOptions&, Model**),
                    const void* data, size_t size, const irk_options* options, irk_model** out, irk_error* err) {
  if (!data || !out) return null_argument(function, err);
  *out = nullptr;
  if (size > static_cast<size_t>(PTRDIFF_MAX))
    return report(irk::fail(Code::bad_input, "size %zu is beyond any artifact", size), err);
  Model* m = nullptr;
  const Status s = load(data, static_cast<int64_t>(size), load_options(options), &m);
  *out = c(m);
  return report(s, err);
}

Status describe(const irk::Array<irk::PlanPort>& ports, const irk::Plan& plan, const char* what, int i,
                irk_tensor* out) {
  if (i < 0 || i >= ports.size())
    return irk::fail(Code::bad_input, "%s %d of %lld", what, i, static_cast<long long>(ports.size()));
  const irk::Tensor& t = plan.tensors[ports[i].tensor].t;
  memset(out, 0, sizeof *out);
  out->name = ports[i].name;
  out->dtype = static_cast<irk_dtype>(t.dtype);
  out->rank = t.rank;
  for (int d = 0; d < t.rank; d++) out->dims[d] = t.dims[d];
  out->bytes = static_cast<size_t>(t.bytes);
  out->scale = t.scale;
  out->zero = t.zero;
  return Status();
}

Status check_sizes(const Model& m, const size_t* in, int n_in, const size_t* out, int n_out) {
  if (n_in != m.plan().inputs.size() || n_out != m.plan().outputs.size())
    return irk::fail(Code::bad_input, "expected %lld inputs and %lld outputs, got %d and %d",
                     static_cast<long long>(m.plan().inputs.size()), static_cast<long long>(m.plan().outputs.size()),
                     n_in, n_out);
  for (int i = 0; i < n_in; i++)
    if (in[i] != static_cast<size_t>(m.input(i).bytes))
      return irk::fail(Code::bad_input, "input %d '%.80s': expected %lld bytes, got %zu", i, m.plan().inputs[i].name,
                       static_cast<long long>(m.input(i).bytes), in[i]);
  for (int i = 0; i < n_out; i++)
    if (out[i] != static_cast<size_t>(m.output(i).bytes))
      return irk::fail(Code::bad_input, "output %d '%.80s': expected %lld bytes, got %zu", i, m.plan().outputs[i].name,
                       static_cast<long long>(m.output(i).bytes), out[i]);
  return Status();
}

}  // namespace

const char* irk_version(void) { return IRK_VERSION; }

const char* irk_code_name(irk_code code) {
  static const char* const names[] = {"ok",          "bad file", "bad version",   "bad input", "out of memory",
                                      "unsupported", "io error", "internal error"};
  static_assert(sizeof names / sizeof names[0] == IRK_INTERNAL + 1, "one name per code");
  return code >= IRK_OK && code <= IRK_INTERNAL ? names[code] : "unknown error";
}

const char* irk_dtype_name(irk_dtype dtype) { return known(dtype) ? irk::dtype_name(static_cast<DType>(dtype)) : "?"; }

size_t irk_dtype_size(irk_dtype dtype) {
  return known(dtype) ? static_cast<size_t>(irk::dtype_size(static_cast<DType>(dtype))) : 0;
}

const char* irk_cpu_isa(int index) {
  irk::Isa levels[8];
  const int n = irk::cpu_isas(levels);
  return index >= 0 && index < n ? irk::isa_name(levels[index]) : nullptr;
}

irk_code irk_load_file(const char* path, const irk_options* options, irk_model** out, irk_error* err) {
  if (!path || !out) return null_argument("irk_load_file", err);
  Model* m = nullptr;
  const Status s = Model::load_file(path, load_options(options), &m);
  *out = c(m);
  return report(s, err);
}

irk_code irk_load_memory(const void* data, size_t size, const irk_options* options, irk_model** out, irk_error* err) {
  return load_bytes("irk_load_memory", Model::load_memory, data, size, options, out, err);
}

irk_code irk_load_borrowed(const void* data, size_t size, const irk_options* options, irk_model** out, irk_error* err) {
  return load_bytes("irk_load_borrowed", Model::load_borrowed, data, size, options, out, err);
}

void irk_free(irk_model* model) { delete cpp(model); }

int irk_input_count(const irk_model* model) { return model ? static_cast<int>(cpp(model)->plan().inputs.size()) : 0; }

int irk_output_count(const irk_model* model) { return model ? static_cast<int>(cpp(model)->plan().outputs.size()) : 0; }

irk_code irk_input(const irk_model* model, int index, irk_tensor* out, irk_error* err) {
  if (!model || !out) return null_argument("irk_input", err);
  const irk::Plan& p = cpp(model)->plan();
  return report(describe(p.inputs, p, "input", index, out), err);
}

irk_code irk_output(const irk_model* model, int index, irk_tensor* out, irk_error* err) {
  if (!model || !out) return null_argument("irk_output", err);
  const irk::Plan& p = cpp(model)->plan();
  return report(describe(p.outputs, p, "output", index, out), err);
}

int irk_threads(const irk_model* model) { return model ? cpp(model)->threads() : 0; }

irk_code irk_set_threads(irk_model* model, int threads, irk_error* err) {
  if (!model) return null_argument("irk_set_threads", err);
  if (threads < 1) return report(irk::fail(Code::bad_input, "threads must be from 1 to 256, got %d", threads), err);
  return report(cpp(model)->set_threads(threads), err);
}

const char* irk_isa(const irk_model* model) { return model ? irk::isa_name(cpp(model)->isa()) : ""; }

irk_code irk_memory_use(const irk_model* model, irk_memory* out, irk_error* err) {
  if (!model || !out) return null_argument("irk_memory_use", err);
  const irk::MemoryUse use = cpp(model)->memory_use();
  *out = {static_cast<size_t>(use.artifact), static_cast<size_t>(use.prepared), static_cast<size_t>(use.arena),
          static_cast<size_t>(use.scratch)};
  return report(Status(), err);
}

irk_code irk_run(irk_model* model, const void* const* inputs, const size_t* input_bytes, int n_inputs,
                 void* const* outputs, const size_t* output_bytes, int n_outputs, irk_error* err) {
  return irk_profile(model, inputs, input_bytes, n_inputs, outputs, output_bytes, n_outputs, nullptr, err);
}

irk_code irk_profile(irk_model* model, const void* const* inputs, const size_t* input_bytes, int n_inputs,
                     void* const* outputs, const size_t* output_bytes, int n_outputs, int64_t* step_ns,
                     irk_error* err) {
  if (!model || (n_inputs > 0 && (!inputs || !input_bytes)) || (n_outputs > 0 && (!outputs || !output_bytes)))
    return null_argument(step_ns ? "irk_profile" : "irk_run", err);
  Status s = check_sizes(*cpp(model), input_bytes, n_inputs, output_bytes, n_outputs);
  irk::RunOptions options;
  options.step_ns = step_ns;
  if (s.ok()) s = cpp(model)->run(inputs, outputs, options);
  return report(s, err);
}

int irk_step_count(const irk_model* model) { return model ? static_cast<int>(cpp(model)->plan().steps.size()) : 0; }

irk_code irk_step_info(const irk_model* model, int step, irk_step* out, irk_error* err) {
  if (!model || !out) return null_argument("irk_step_info", err);
  const irk::Plan& p = cpp(model)->plan();
  if (step < 0 || step >= p.steps.size())
    return report(irk::fail(Code::bad_input, "step %d of %lld", step, static_cast<long long>(p.steps.size())), err);
  *out = {p.steps[step].name, p.steps[step].family, cpp(model)->step(step).kernel};
  return report(Status(), err);
}

irk_code irk_set_host_step(irk_model* model, int step, irk_host_fn fn, void* user, irk_error* err) {
  if (!model || !fn) return null_argument("irk_set_host_step", err);
  return report(cpp(model)->set_host(step, fn, user), err);
}
