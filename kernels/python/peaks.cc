// The loops of kernels/peaks, for `irkit bench`.
#include "peaks/peaks.h"

#include <pybind11/stl.h>

#include <tuple>

#include "base/clock.h"
#include "base/cpu.h"
#include "python/convert.h"

namespace irk_py {
namespace {

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

}  // namespace

void add_peaks(py::module_& m) {
  m.def("peak_loops", &peak_loops, "(kind, isa) of the loops that measure this CPU's arithmetic.");
  m.def("peak_run", &peak_run, py::arg("kind"), py::arg("isa"), py::arg("rounds"),
        "Run one: (start ns, end ns, operations).");
  m.def("peak_read", &peak_read, py::arg("data"), py::arg("rounds"), "Read a buffer: (start ns, end ns, bytes).");
}

}  // namespace irk_py
