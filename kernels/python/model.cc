// irkit._native.Model: calls, and what a loaded model tells about itself.
#include "python/model.h"

#include <pybind11/stl.h>

#include <algorithm>

#include "base/cpu.h"

namespace irk_py {

using irk::Status;

namespace {

// (family, types, isa) of the table's row with that function; None for what runs rows of other families.
py::object row_of(irk::KernelFn fn) {
  int n = 0;
  const irk::KernelRow* rows = irk::all_kernels(&n);
  for (int i = 0; i < n; i++)
    if (fn && rows[i].fn == fn) return py::make_tuple(rows[i].family, rows[i].types, irk::isa_name(rows[i].isa));
  return py::none();
}

}  // namespace

py::list NativeModel::run(const py::list& inputs) {
  std::vector<const void*> in = bind(inputs);
  py::list out;
  std::vector<void*> out_ptr = make_outputs(&out);
  call(in.data(), out_ptr.data(), {});
  return out;
}

// A call's fast path: outputs when every input fits exactly, else None (the caller then finds out why).
py::object NativeModel::try_run(const py::args& inputs) {
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
void NativeModel::set_output_shapes(const std::vector<std::vector<py::ssize_t>>& shapes) {
  if (static_cast<int64_t>(shapes.size()) != model_->plan().outputs.size()) bad_input("wrong number of output shapes");
  for (size_t i = 0; i < shapes.size(); i++) {
    int64_t count = 1;
    for (py::ssize_t d : shapes[i])
      if (!irk::mul_ok(count, d, &count)) bad_input("output shape is negative or too large");
    if (count != model_->output(static_cast<int64_t>(i)).count)
      bad_input("output " + std::to_string(i) + " has another number of elements than its shape");
  }
  out_shapes_ = shapes;
}

void NativeModel::run_into(const py::list& inputs, const py::list& outputs) {
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

py::list NativeModel::profile(const py::list& inputs, int repeats) {
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

py::list NativeModel::trace(const py::list& inputs) {
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

py::list NativeModel::steps() const {
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

py::list NativeModel::ports(bool input) const {
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

std::vector<std::string> NativeModel::tensor_names() const {
  std::vector<std::string> out;
  for (int64_t i = 0; i < model_->consts().size(); i++) out.push_back(model_->consts()[i].name);
  return out;
}

std::vector<std::string> NativeModel::kernels() const {
  std::vector<std::string> out;
  for (size_t i = 0; i < n_steps(); i++) out.push_back(kernel(static_cast<int64_t>(i)));
  return out;
}

std::vector<int> NativeModel::step_threads() const {
  std::vector<int> out;
  for (size_t i = 0; i < n_steps(); i++) out.push_back(model_->step_threads(static_cast<int64_t>(i)));
  return out;
}

void NativeModel::set_kernel(int64_t step, uintptr_t fn, uintptr_t params, int64_t items, int64_t grain,
                             int64_t scratch, const std::string& name, const py::object& keep_alive) {
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

void NativeModel::set_callback(int64_t step, const py::object& fn) {
  if (!PyCallable_Check(fn.ptr())) bad_input("callback is not callable");
  auto cb = std::make_unique<Callback>(Callback{this, step, fn});
  check(model_->set_host(step, &host, cb.get()));
  callbacks_.push_back(std::move(cb));
}

// A read-only view; it keeps the model, and so the mapped file, alive.
py::array NativeModel::tensor(const py::object& self, const std::string& name) {
  const irk::ConstTensor* c = self.cast<NativeModel&>().model_->consts().find(name.c_str());
  if (!c) throw py::key_error(name);
  return view_of(c->tensor, c->tensor.data, self, false);
}

std::vector<const void*> NativeModel::bind(const py::list& arrays, bool input) const {
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

std::vector<void*> NativeModel::make_outputs(py::list* out) const {
  std::vector<void*> ptrs;
  for (int64_t i = 0; i < model_->plan().outputs.size(); i++) {
    const size_t k = static_cast<size_t>(i);
    py::array a(out_dtypes_[k], out_shapes_[k]);
    ptrs.push_back(a.mutable_data());
    out->append(std::move(a));
  }
  return ptrs;
}

void NativeModel::call(const void* const* in, void* const* out, const irk::RunOptions& options) {
  Status s;
  {
    py::gil_scoped_release nogil;
    s = model_->run(in, out, options);
  }
  check(s);
}

// Runs on the calling thread, which gave the GIL away in call(). A Python exception stays set for check() to raise.
int NativeModel::host(void* user, void* const* bufs) {
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
        (k < s.n_in ? in : out)
            .append(view_of(plan.tensors[t].t, bufs[k], py::capsule(bufs[k], [](void*) {}), k >= s.n_in));
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

void NativeModel::set_threads(int n) {
  if (n < 1) bad_input("threads must be at least 1, got " + std::to_string(n));
  check(model_->set_threads(n));
}

void add_model(py::module_& m) {
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

}  // namespace irk_py
