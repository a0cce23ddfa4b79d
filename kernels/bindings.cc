// The Python module irkit._native: a thin layer over the C++ runtime.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/cpu.h"
#include "runtime/family.h"

namespace py = pybind11;

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

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native runtime of irkit.";
  m.def("isas", &isas, "ISA levels this CPU runs, best last.");
  m.def("kernel_rows", &kernel_rows, "Rows of the kernel table: (family, types, isa, mr, nr, kr).");
}
