// What the Python module's parts share: errors and arrays.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "base/types.h"

namespace irk_py {

namespace py = pybind11;

// Raises the class of irkit.errors that goes with the code.
void check(const irk::Status& s);
[[noreturn]] void bad_input(const std::string& message);

py::buffer_info contiguous(py::handle h);

py::dtype numpy_dtype(irk::DType t);
// `what` is for the error's message.
irk::DType dtype_of(const py::array& a, const std::string& what);
std::vector<py::ssize_t> shape_of(const irk::Tensor& t);
py::tuple shape_tuple(const irk::Tensor& t);
// An array over the tensor's memory; it keeps `owner` alive, and its presence keeps NumPy from copying.
py::array view_of(const irk::Tensor& t, const void* data, const py::object& owner, bool writeable);

// The parts of the module.
void add_model(py::module_& m);
void add_peaks(py::module_& m);

}  // namespace irk_py
