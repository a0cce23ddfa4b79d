// The Python module irkit._native: a thin layer over runtime/model.h. Typed stubs: irkit/_native.pyi.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/xxh64.h"
#include "python/convert.h"
#include "runtime/model.h"

namespace irk_py {
namespace {

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

std::string effective_isa(const std::optional<std::string>& cap) {
  irk::Isa isa;
  check(irk::effective_isa(cap ? cap->c_str() : nullptr, &isa));
  return irk::isa_name(isa);
}

int default_threads() {
  int n;
  check(irk::default_threads(&n));
  return n;
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
}  // namespace irk_py

PYBIND11_MODULE(_native, m) {
  using namespace irk_py;
  m.doc() = "Native runtime of irkit.";
  // Set up once, when the module is imported rather than with the first model: NumPy's interface, the CPU's levels.
  numpy_dtype(irk::DType::f32);
  irk::cpu_isa();
  m.attr("FORMAT_VERSION") = std::to_string(irk::kFormatMajor) + "." + std::to_string(irk::kFormatMinor);
  m.attr("PLAN_KEY") = irk::kPlanKey;
  m.def("isas", &isas, "ISA levels this CPU runs, best last.");
  m.def("effective_isa", &effective_isa, py::arg("cap") = py::none(), "The level kernels are chosen for, given a cap.");
  m.def("default_threads", &default_threads, "IRKIT_THREADS, else the CPUs of this process.");
  m.def("kernel_rows", &kernel_rows, "Rows of the kernel table: (family, types, isa, mr, nr, kr).");
  m.def("xxh64", &xxh64, "XXH64 (seed 0) of the contiguous buffers' bytes as one stream.");
  add_peaks(m);
  add_model(m);
}
