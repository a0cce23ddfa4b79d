#include "python/convert.h"

#include <cstring>
#include <stdexcept>

namespace irk_py {

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

DType dtype_of(const py::array& a, const std::string& what) {
  for (DType t : {DType::f32, DType::f64, DType::i8, DType::u8, DType::i16, DType::i32, DType::i64, DType::boolean})
    if (a.dtype().is(numpy_dtype(t)) || a.dtype().equal(numpy_dtype(t))) return t;
  bad_input(what + " has dtype " + py::str(a.dtype()).cast<std::string>() + ", which irkit does not have");
}

py::array view_of(const irk::Tensor& t, const void* data, const py::object& owner, bool writeable) {
  py::array a(numpy_dtype(t.dtype), shape_of(t), data, owner);
  if (!writeable) py::detail::array_proxy(a.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return a;
}

}  // namespace irk_py
