// The Python module irkit._native: a thin layer over runtime/model.h. Typed stubs: irkit/_native.pyi.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/xxh64.h"
#include "peaks/peaks.h"
#include "runtime/model.h"

namespace py = pybind11;

namespace {

using irk::Code;
using irk::DType;
using irk::Status;

void check(const Status& s) {
  if (s.ok()) return;
  if (PyErr_Occurred()) throw py::error_already_set();  // a callback's own exception says more
  const char* name = "RuntimeFailure";
  if (s.code == Code::bad_file || s.code == Code::bad_version || s.code == Code::io) name = "ArtifactError";
  if (s.code == Code::bad_input) name = "InputError";
  py::object type = py::module_::import("irkit.errors").attr(name);
  // A message may be cut within a character of a name.
  PyObject* text = PyUnicode_DecodeUTF8(s.msg, static_cast<Py_ssize_t>(strlen(s.msg)), "replace");
  if (text) PyErr_SetObject(type.ptr(), py::reinterpret_steal<py::object>(text).ptr());
  throw py::error_already_set();
}

[[noreturn]] void bad_input(const std::string& message) {
  check(irk::fail(Code::bad_input, "%s", message.c_str()));
  throw std::logic_error("unreachable");
}

py::buffer_info contiguous(py::handle h) {
  if (!PyObject_CheckBuffer(h.ptr())) bad_input("expected bytes or another buffer");
  py::buffer_info info = py::reinterpret_borrow<py::buffer>(h).request();
  py::ssize_t step = info.itemsize;
  for (py::ssize_t d = info.ndim; d-- > 0; step *= info.shape[d])
    if (info.strides[d] != step && info.shape[d] > 1) bad_input("buffer is not C-contiguous");
  return info;
}

py::dtype numpy_dtype(DType t) {
  switch (t) {
    case DType::f32:
      return py::dtype::of<float>();
    case DType::f64:
      return py::dtype::of<double>();
    case DType::i8:
      return py::dtype::of<int8_t>();
    case DType::u8:
      return py::dtype::of<uint8_t>();
    case DType::i16:
      return py::dtype::of<int16_t>();
    case DType::i32:
      return py::dtype::of<int32_t>();
    case DType::i64:
      return py::dtype::of<int64_t>();
    case DType::boolean:
      return py::dtype::of<bool>();
  }
  throw std::logic_error("dtype");
}

std::vector<py::ssize_t> shape_of(const irk::Tensor& t) { return {t.dims, t.dims + t.rank}; }

py::tuple shape_tuple(const irk::Tensor& t) {
  py::tuple out(t.rank);
  for (int i = 0; i < t.rank; i++) out[i] = t.dims[i];
  return out;
}

// (family, types, isa) of the table's row with that function; None for what runs rows of other families.
py::object row_of(irk::KernelFn fn) {
  int n = 0;
  const irk::KernelRow* rows = irk::all_kernels(&n);
  for (int i = 0; i < n; i++)
    if (fn && rows[i].fn == fn) return py::make_tuple(rows[i].family, rows[i].types, irk::isa_name(rows[i].isa));
  return py::none();
}

// An array over memory that we own; the empty capsule keeps NumPy from copying it.
py::array view_of(const irk::Tensor& t, const void* data, bool writeable) {
  py::capsule owner(data, [](void*) {});
  py::array a(numpy_dtype(t.dtype), shape_of(t), data, owner);
  if (!writeable) py::detail::array_proxy(a.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return a;
}

class NativeModel {
 public:
  struct Callback {
    NativeModel* model;
    int64_t step;
    py::object fn;
  };

  ~NativeModel() { delete model_; }
  NativeModel(const NativeModel&) = delete;

  static std::unique_ptr<NativeModel> load(const py::object& source, const std::optional<std::string>& isa, int threads,
                                           const py::object& choose) {
    std::unique_ptr<NativeModel> m(new NativeModel());
    const irk::LoadOptions options = load_options(isa, threads, choose);
    Status s;
    if (PyObject_CheckBuffer(source.ptr())) {
      const py::buffer_info info = contiguous(source);
      py::gil_scoped_release nogil;
      s = irk::Model::load_memory(info.ptr, info.size * info.itemsize, options, &m->model_);
    } else {
      const std::string path = py::module_::import("os").attr("fsencode")(source).cast<std::string>();
      if (path.find('\0') != std::string::npos) bad_input("path contains a NUL byte");
      py::gil_scoped_release nogil;
      s = irk::Model::load_file(path.c_str(), options, &m->model_);
    }
    check(s);
    m->describe_ports();
    return m;
  }

  static std::unique_ptr<NativeModel> load_plan(const std::string& json, const py::dict& consts,
                                                const std::optional<std::string>& isa, int threads,
                                                const py::object& choose) {
    std::unique_ptr<NativeModel> m(new NativeModel());
    irk::ConstTable table;
    if (!table.alloc(static_cast<int64_t>(consts.size()))) throw std::bad_alloc();
    int64_t k = 0;
    for (auto [key, value] : consts) {
      m->names_.push_back(key.cast<std::string>());
      const std::string& name = m->names_.back();
      if (!py::isinstance<py::array>(value)) bad_input("constant '" + name + "' is not a NumPy array");
      py::array a = py::reinterpret_borrow<py::array>(value);
      if (!(a.flags() & py::array::c_style)) bad_input("constant '" + name + "' is not C-contiguous");
      irk::ConstTensor& c = table.entries()[k++];
      c.name = name.c_str();
      c.tensor.dtype = dtype_of(a, "constant '" + name + "'");
      if (a.ndim() > irk::kMaxRank) bad_input("constant '" + name + "' has more than 8 dimensions");
      c.tensor.rank = static_cast<int>(a.ndim());
      for (int d = 0; d < c.tensor.rank; d++) c.tensor.dims[d] = a.shape(d);
      if (!irk::size_tensor(&c.tensor)) bad_input("constant '" + name + "' is empty or too large");
      c.tensor.data = a.data();
      m->consts_.push_back(std::move(a));
    }
    const irk::LoadOptions options = load_options(isa, threads, choose);
    Status s;
    {
      py::gil_scoped_release nogil;
      s = irk::Model::load_plan(json.data(), static_cast<int64_t>(json.size()), table, options, &m->model_);
    }
    check(s);
    m->describe_ports();
    return m;
  }

  py::list run(const py::list& inputs) {
    std::vector<const void*> in = bind(inputs);
    py::list out;
    std::vector<void*> out_ptr = make_outputs(&out);
    call(in.data(), out_ptr.data(), {});
    return out;
  }

  // A call's fast path: outputs when every input fits exactly, else None (the caller then finds out why).
  py::object try_run(const py::args& inputs) {
    constexpr size_t kPorts = 16;  // beyond, the slow path is not what costs
    const void* in[kPorts];
    const size_t n = static_cast<size_t>(model_->plan().inputs.size());
    if (inputs.size() != n || n > kPorts) return py::none();
    constexpr int kFlags = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    for (size_t i = 0; i < n; i++) {
      const py::handle h = PyTuple_GET_ITEM(inputs.ptr(), static_cast<Py_ssize_t>(i));
      if (!py::isinstance<py::array>(h)) return py::none();
      const py::array a = py::reinterpret_borrow<py::array>(h);
      const irk::Tensor& t = model_->input(static_cast<int64_t>(i));
      if ((a.flags() & kFlags) != kFlags || a.ndim() != t.rank || !a.dtype().is(in_dtypes_[i])) return py::none();
      for (int d = 0; d < t.rank; d++)
        if (a.shape(d) != t.dims[d]) return py::none();
      in[i] = a.data();
    }
    py::list out;
    std::vector<void*> out_ptr = make_outputs(&out);
    call(in, out_ptr.data(), {});
    return std::move(out);
  }

  // Shapes that outputs get in place of those in memory order; the same number of elements.
  void set_output_shapes(const std::vector<std::vector<py::ssize_t>>& shapes) {
    if (static_cast<int64_t>(shapes.size()) != model_->plan().outputs.size())
      bad_input("wrong number of output shapes");
    for (size_t i = 0; i < shapes.size(); i++) {
      int64_t count = 1;
      for (py::ssize_t d : shapes[i])
        if (!irk::mul_ok(count, d, &count)) bad_input("output shape is negative or too large");
      if (count != model_->output(static_cast<int64_t>(i)).count)
        bad_input("output " + std::to_string(i) + " has another number of elements than its shape");
    }
    out_shapes_ = shapes;
  }

  void run_into(const py::list& inputs, const py::list& outputs) {
    std::vector<const void*> in = bind(inputs);
    std::vector<const void*> out = bind(outputs, false);
    std::vector<void*> out_ptr;
    for (size_t i = 0; i < out.size(); i++) {
      if (!py::reinterpret_borrow<py::array>(outputs[i]).writeable())
        bad_input("output " + std::to_string(i) + " is not writeable");
      out_ptr.push_back(const_cast<void*>(out[i]));
    }
    call(in.data(), out_ptr.data(), {});
  }

  py::list profile(const py::list& inputs, int repeats) {
    if (repeats < 1) bad_input("repeats must be at least 1");
    std::vector<const void*> in = bind(inputs);
    py::list out;
    std::vector<void*> out_ptr = make_outputs(&out);
    std::vector<int64_t> best(n_steps(), INT64_MAX), ns(n_steps());
    irk::RunOptions options;
    options.step_ns = ns.data();
    for (int r = 0; r < repeats; r++) {
      std::fill(ns.begin(), ns.end(), 0);
      call(in.data(), out_ptr.data(), options);
      for (size_t i = 0; i < ns.size(); i++) best[i] = std::min(best[i], ns[i]);
    }
    py::list rows;
    for (size_t i = 0; i < ns.size(); i++) {
      const irk::PlanStep& s = model_->plan().steps[static_cast<int64_t>(i)];
      rows.append(py::make_tuple(s.name, s.family, kernel(static_cast<int64_t>(i)), best[i]));
    }
    return rows;
  }

  py::list trace(const py::list& inputs) {
    std::vector<const void*> in = bind(inputs);
    py::list out, rows;
    std::vector<void*> out_ptr = make_outputs(&out);
    struct Tracer {
      const irk::Plan* plan;
      py::list* rows;
      bool failed = false;
    } tracer{&model_->plan(), &rows};
    irk::RunOptions options;
    options.trace_user = &tracer;
    options.trace = [](void* user, int64_t step, void* const* outputs) {
      Tracer& t = *static_cast<Tracer*>(user);
      if (t.failed) return;
      py::gil_scoped_acquire gil;
      try {
        const irk::PlanStep& s = t.plan->steps[step];
        py::list row;
        for (int k = 0; k < s.n_out; k++) {
          const irk::Tensor& x = t.plan->tensors[t.plan->operands[s.operands + s.n_in + k]].t;
          row.append(py::array(numpy_dtype(x.dtype), shape_of(x), outputs[k]));
        }
        t.rows->append(row);
      } catch (...) {
        t.failed = true;
      }
    };
    call(in.data(), out_ptr.data(), options);
    if (tracer.failed) throw std::bad_alloc();
    return rows;
  }

  py::list steps() const {
    py::list out;
    for (int64_t i = 0; i < static_cast<int64_t>(n_steps()); i++) {
      const irk::PlanStep& s = model_->plan().steps[i];
      const irk::PreparedStep& k = model_->step(i);
      const int32_t* ops = &model_->plan().operands[s.operands];
      py::dict d;
      d["name"] = s.name;
      d["family"] = s.family;
      d["kernel"] = kernel(i);
      d["row"] = row_of(k.fn);
      d["items"] = k.items;
      d["grain"] = k.grain;
      d["scratch"] = k.scratch;
      d["in"] = std::vector<int32_t>(ops, ops + s.n_in);
      d["out"] = std::vector<int32_t>(ops + s.n_in, ops + s.n_in + s.n_out);
      out.append(d);
    }
    return out;
  }

  py::list ports(bool input) const {
    py::list out;
    const auto& list = input ? model_->plan().inputs : model_->plan().outputs;
    for (int64_t i = 0; i < list.size(); i++) {
      const irk::Tensor& t = input ? model_->input(i) : model_->output(i);
      py::dict d;
      d["name"] = list[i].name;
      d["dtype"] = irk::dtype_name(t.dtype);
      d["shape"] = shape_tuple(t);
      d["scale"] = t.scale;
      d["zero"] = t.zero;
      out.append(d);
    }
    return out;
  }

  std::vector<std::string> tensor_names() const {
    std::vector<std::string> out;
    for (int64_t i = 0; i < model_->consts().size(); i++) out.push_back(model_->consts()[i].name);
    return out;
  }

  std::vector<std::string> kernels() const {
    std::vector<std::string> out;
    for (size_t i = 0; i < n_steps(); i++) out.push_back(kernel(static_cast<int64_t>(i)));
    return out;
  }

  std::vector<int> step_threads() const {
    std::vector<int> out;
    for (size_t i = 0; i < n_steps(); i++) out.push_back(model_->step_threads(static_cast<int64_t>(i)));
    return out;
  }

  void set_kernel(int64_t step, uintptr_t fn, uintptr_t params, int64_t items, int64_t grain, int64_t scratch,
                  const std::string& name, const py::object& keep_alive) {
    irk::PreparedStep k;
    k.fn = reinterpret_cast<irk::KernelFn>(fn);
    k.params = reinterpret_cast<const void*>(params);
    k.items = items;
    k.grain = grain;
    k.scratch = scratch;
    names_.push_back(name);
    k.kernel = names_.back().c_str();
    check(model_->set_kernel(step, k));
    kept_.push_back(keep_alive);
  }

  void set_callback(int64_t step, const py::object& fn) {
    if (!PyCallable_Check(fn.ptr())) bad_input("callback is not callable");
    auto cb = std::make_unique<Callback>(Callback{this, step, fn});
    check(model_->set_host(step, &host, cb.get()));
    callbacks_.push_back(std::move(cb));
  }

  int threads() const { return model_->threads(); }
  void set_threads(int n) {
    if (n < 1) bad_input("threads must be at least 1, got " + std::to_string(n));
    check(model_->set_threads(n));
  }
  // A read-only view; it keeps the model, and so the mapped file, alive.
  static py::array tensor(const py::object& self, const std::string& name) {
    const irk::ConstTensor* c = self.cast<NativeModel&>().model_->consts().find(name.c_str());
    if (!c) throw py::key_error(name);
    py::array a(numpy_dtype(c->tensor.dtype), shape_of(c->tensor), c->tensor.data, self);
    py::detail::array_proxy(a.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return a;
  }

  std::string isa() const { return irk::isa_name(model_->isa()); }
  std::string tree() const { return model_->plan().tree; }
  int64_t arena() const { return model_->plan().arena; }

 private:
  NativeModel() = default;

  static irk::LoadOptions load_options(const std::optional<std::string>& isa, int threads, const py::object& choose) {
    irk::LoadOptions out{isa ? isa->c_str() : nullptr, threads};
    if (!choose.is_none()) {
      out.choose = &ask;
      out.choose_user = choose.ptr();
    }
    return out;
  }

  // Choices are a help: one that can't be had or is not to be understood leaves the runtime its own.
  static void ask(void* user, uint64_t digest, int64_t steps, irk::StepChoice* choices) {
    py::gil_scoped_acquire gil;
    try {
      const py::object answer = py::reinterpret_borrow<py::object>(static_cast<PyObject*>(user))(digest, steps);
      if (answer.is_none()) return;
      const auto list = answer.cast<std::vector<std::pair<std::string, int>>>();
      if (static_cast<int64_t>(list.size()) != steps) return;
      for (const auto& [isa, threads] : list) {
        irk::StepChoice& c = *choices++;
        irk::Isa level;
        if (irk::effective_isa(isa.c_str(), &level).ok()) c.isa = level;
        c.threads = threads;
      }
    } catch (py::error_already_set& e) {
      e.discard_as_unraisable("irkit: choices of a model");
    } catch (const std::exception&) {
      PyErr_Clear();
    }
  }

  // What every call needs of the ports, found once.
  void describe_ports() {
    for (int64_t i = 0; i < model_->plan().inputs.size(); i++)
      in_dtypes_.push_back(numpy_dtype(model_->input(i).dtype));
    for (int64_t i = 0; i < model_->plan().outputs.size(); i++) {
      out_dtypes_.push_back(numpy_dtype(model_->output(i).dtype));
      out_shapes_.push_back(shape_of(model_->output(i)));
    }
  }

  size_t n_steps() const { return static_cast<size_t>(model_->plan().steps.size()); }
  const char* kernel(int64_t i) const { return model_->step(i).kernel; }

  static DType dtype_of(const py::array& a, const std::string& what) {
    for (DType t : {DType::f32, DType::f64, DType::i8, DType::u8, DType::i16, DType::i32, DType::i64, DType::boolean})
      if (a.dtype().is(numpy_dtype(t)) || a.dtype().equal(numpy_dtype(t))) return t;
    bad_input(what + " has dtype " + py::str(a.dtype()).cast<std::string>() + ", which irkit does not have");
  }

  std::vector<const void*> bind(const py::list& arrays, bool input = true) const {
    const auto& ports = input ? model_->plan().inputs : model_->plan().outputs;
    const std::string kind = input ? "input" : "output";
    const size_t n = static_cast<size_t>(ports.size());
    if (arrays.size() != n)
      bad_input("expected " + std::to_string(n) + " " + kind + "(s), got " + std::to_string(arrays.size()));
    std::vector<const void*> out(n);
    for (size_t i = 0; i < n; i++) {
      py::handle h = arrays[i];
      const int64_t at = static_cast<int64_t>(i);
      const irk::Tensor& t = input ? model_->input(at) : model_->output(at);
      const auto what = [&] { return kind + " " + std::to_string(i) + " '" + ports[at].name + "'"; };
      if (!py::isinstance<py::array>(h))
        bad_input(what() + " is not a NumPy array but " + py::str(py::type::of(h)).cast<std::string>());
      const py::array a = py::reinterpret_borrow<py::array>(h);
      const py::dtype want = numpy_dtype(t.dtype);
      bool same = a.ndim() == t.rank;
      for (int d = 0; same && d < t.rank; d++) same = a.shape(d) == t.dims[d];
      if (!same || !(a.dtype().is(want) || a.dtype().equal(want)))
        bad_input(what() + ": expected " + py::str(want).cast<std::string>() +
                  py::str(shape_tuple(t)).cast<std::string>() + ", got " + py::str(a.dtype()).cast<std::string>() +
                  py::str(a.attr("shape")).cast<std::string>());
      constexpr int kFlags = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
      if ((a.flags() & kFlags) != kFlags) bad_input(what() + " is not C-contiguous and aligned");
      out[i] = a.data();
    }
    return out;
  }

  std::vector<void*> make_outputs(py::list* out) const {
    std::vector<void*> ptrs;
    for (int64_t i = 0; i < model_->plan().outputs.size(); i++) {
      const size_t k = static_cast<size_t>(i);
      py::array a(out_dtypes_[k], out_shapes_[k]);
      ptrs.push_back(a.mutable_data());
      out->append(std::move(a));
    }
    return ptrs;
  }

  void call(const void* const* in, void* const* out, const irk::RunOptions& options) {
    Status s;
    {
      py::gil_scoped_release nogil;
      s = model_->run(in, out, options);
    }
    check(s);
  }

  // Runs on the calling thread, which gave the GIL away in call(). A Python exception stays set for check() to raise.
  static int host(void* user, void* const* bufs) {
    const Callback& cb = *static_cast<Callback*>(user);
    py::gil_scoped_acquire gil;
    try {
      const irk::Plan& plan = cb.model->model_->plan();
      const irk::PlanStep& s = plan.steps[cb.step];
      py::list in, out;
      for (int k = 0; k < s.n_in + s.n_out; k++) {
        const int32_t t = plan.operands[s.operands + k];
        if (t < 0)
          in.append(py::none());
        else
          (k < s.n_in ? in : out).append(view_of(plan.tensors[t].t, bufs[k], k >= s.n_in));
      }
      cb.fn(in, out);
      return 0;
    } catch (py::error_already_set& e) {
      e.restore();
    } catch (const std::exception& e) {
      PyErr_SetString(PyExc_RuntimeError, e.what());
    }
    return 1;
  }

  irk::Model* model_ = nullptr;
  std::vector<py::dtype> in_dtypes_, out_dtypes_;
  std::vector<std::vector<py::ssize_t>> out_shapes_;
  std::deque<std::string> names_;  // stable addresses
  std::vector<py::array> consts_;
  std::vector<std::unique_ptr<Callback>> callbacks_;
  std::vector<py::object> kept_;
};

std::vector<std::string> isas() {
  irk::Isa levels[8];
  const int n = irk::cpu_isas(levels);
  std::vector<std::string> out;
  for (int i = 0; i < n; i++) out.push_back(irk::isa_name(levels[i]));
  return out;
}

py::list kernel_rows() {
  int n = 0;
  const irk::KernelRow* rows = irk::all_kernels(&n);
  py::list out;
  for (int i = 0; i < n; i++) {
    const irk::KernelRow& r = rows[i];
    out.append(py::make_tuple(r.family, r.types, irk::isa_name(r.isa), r.mr, r.nr, r.kr));
  }
  return out;
}

py::list peak_loops() {
  int n = 0;
  const irk::PeakLoop* loops = irk::peak_loops(&n);
  py::list out;
  for (int i = 0; i < n; i++)
    if (loops[i].isa <= irk::cpu_isa()) out.append(py::make_tuple(loops[i].kind, irk::isa_name(loops[i].isa)));
  return out;
}

using Span = std::tuple<int64_t, int64_t, double>;

// Start and end by one clock of all threads, so that several of them can be put together; and the work done.
Span peak_run(const std::string& kind, const std::string& isa, int64_t rounds) {
  int n = 0;
  const irk::PeakLoop* loops = irk::peak_loops(&n);
  for (int i = 0; i < n; i++) {
    const irk::PeakLoop& p = loops[i];
    if (kind != p.kind || isa != irk::isa_name(p.isa) || p.isa > irk::cpu_isa()) continue;
    py::gil_scoped_release nogil;
    const int64_t start = irk::now_ns();
    p.run(rounds);
    return {start, irk::now_ns(), p.ops * static_cast<double>(rounds)};
  }
  bad_input("no loop for " + kind + " with " + isa + " on this CPU");
}

Span peak_read(const py::buffer& data, int64_t rounds) {
  const py::buffer_info info = contiguous(data);
  const int64_t bytes = info.size * info.itemsize;
  if (bytes % 1024 || reinterpret_cast<uintptr_t>(info.ptr) % 64)
    bad_input("expected a multiple of 1024 bytes, aligned to 64");
  py::gil_scoped_release nogil;
  const int64_t start = irk::now_ns();
  irk::peak_read(info.ptr, bytes, rounds);
  return {start, irk::now_ns(), static_cast<double>(bytes) * static_cast<double>(rounds)};
}

std::string effective_isa(const std::optional<std::string>& cap) {
  irk::Isa isa;
  check(irk::effective_isa(cap ? cap->c_str() : nullptr, &isa));
  return irk::isa_name(isa);
}

// Digest over the buffers' bytes in order, as one stream.
uint64_t xxh64(const py::args& buffers) {
  irk::Xxh64 h;
  for (py::handle b : buffers) {
    const py::buffer_info info = contiguous(b);
    h.update(info.ptr, info.size * info.itemsize);
  }
  return h.digest();
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native runtime of irkit.";
  m.attr("FORMAT_VERSION") = std::to_string(irk::kFormatMajor) + "." + std::to_string(irk::kFormatMinor);
  m.attr("PLAN_KEY") = irk::kPlanKey;
  m.def("isas", &isas, "ISA levels this CPU runs, best last.");
  m.def("effective_isa", &effective_isa, py::arg("cap") = py::none(), "The level kernels are chosen for, given a cap.");
  m.def("default_threads", &irk::default_threads, "IRKIT_THREADS, else the CPUs of this process.");
  m.def("kernel_rows", &kernel_rows, "Rows of the kernel table: (family, types, isa, mr, nr, kr).");
  m.def("peak_loops", &peak_loops, "(kind, isa) of the loops that measure this CPU's arithmetic.");
  m.def("peak_run", &peak_run, py::arg("kind"), py::arg("isa"), py::arg("rounds"),
        "Run one: (start ns, end ns, operations).");
  m.def("peak_read", &peak_read, py::arg("data"), py::arg("rounds"), "Read a buffer: (start ns, end ns, bytes).");
  m.def("xxh64", &xxh64, "XXH64 (seed 0) of the contiguous buffers' bytes as one stream.");
  m.def("load", &NativeModel::load, py::arg("source"), py::arg("isa") = py::none(), py::arg("threads") = 0,
        py::arg("choose") = py::none(), "Load an artifact from a path or from bytes.");
  m.def("load_plan", &NativeModel::load_plan, py::arg("plan"), py::arg("consts"), py::arg("isa") = py::none(),
        py::arg("threads") = 0, py::arg("choose") = py::none(),
        "Load a plan (JSON) with its constants, C-contiguous arrays in memory order.");
  py::class_<NativeModel>(m, "Model")
      .def("run", &NativeModel::run, py::arg("inputs"))
      .def("run_into", &NativeModel::run_into, py::arg("inputs"), py::arg("outputs"))
      .def("try_run", &NativeModel::try_run)
      .def("set_output_shapes", &NativeModel::set_output_shapes, py::arg("shapes"))
      .def("profile", &NativeModel::profile, py::arg("inputs"), py::arg("repeats") = 1)
      .def("trace", &NativeModel::trace, py::arg("inputs"))
      .def("steps", &NativeModel::steps)
      .def("tensor_names", &NativeModel::tensor_names)
      .def("tensor", &NativeModel::tensor, py::arg("name"))
      .def("set_kernel", &NativeModel::set_kernel, py::arg("step"), py::arg("fn"), py::arg("params") = 0,
           py::arg("items") = 1, py::arg("grain") = 1, py::arg("scratch") = 0, py::arg("name") = "numba",
           py::arg("keep_alive") = py::none())
      .def("set_callback", &NativeModel::set_callback, py::arg("step"), py::arg("fn"))
      .def_property_readonly("inputs", [](const NativeModel& m) { return m.ports(true); })
      .def_property_readonly("outputs", [](const NativeModel& m) { return m.ports(false); })
      .def_property_readonly("kernels", &NativeModel::kernels)
      .def_property_readonly("step_threads", &NativeModel::step_threads)
      .def_property_readonly("isa", &NativeModel::isa)
      .def_property_readonly("tree", &NativeModel::tree)
      .def_property_readonly("arena", &NativeModel::arena)
      .def_property("threads", &NativeModel::threads, &NativeModel::set_threads);
}
