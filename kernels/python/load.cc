// How Python loads a model: from a file, from bytes, or from a plan with its constants.
#include <pybind11/stl.h>

#include <utility>

#include "base/cpu.h"
#include "python/model.h"

namespace irk_py {

using irk::Status;

std::unique_ptr<NativeModel> NativeModel::load(const py::object& source, const std::optional<std::string>& isa,
                                               int threads, const py::object& choose) {
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

std::unique_ptr<NativeModel> NativeModel::load_plan(const std::string& json, const py::dict& consts,
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

irk::LoadOptions NativeModel::load_options(const std::optional<std::string>& isa, int threads,
                                           const py::object& choose) {
  irk::LoadOptions out{isa ? isa->c_str() : nullptr, threads};
  if (!choose.is_none()) {
    out.choose = &ask;
    out.choose_user = choose.ptr();
  }
  return out;
}

// Choices are a help: one that can't be had or is not to be understood leaves the runtime its own.
void NativeModel::ask(void* user, uint64_t digest, int64_t steps, irk::StepChoice* choices) {
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
void NativeModel::describe_ports() {
  for (int64_t i = 0; i < model_->plan().inputs.size(); i++) in_dtypes_.push_back(numpy_dtype(model_->input(i).dtype));
  for (int64_t i = 0; i < model_->plan().outputs.size(); i++) {
    out_dtypes_.push_back(numpy_dtype(model_->output(i).dtype));
    out_shapes_.push_back(shape_of(model_->output(i)));
  }
}

}  // namespace irk_py
