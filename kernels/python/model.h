// A model as Python holds it: binds arrays to its ports, owns what it refers to, and gives the GIL away during calls.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "python/convert.h"
#include "runtime/model.h"

namespace irk_py {

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
                                           const py::object& choose);
  static std::unique_ptr<NativeModel> load_plan(const std::string& json, const py::dict& consts,
                                                const std::optional<std::string>& isa, int threads,
                                                const py::object& choose);

  py::list run(const py::list& inputs);
  py::object try_run(const py::args& inputs);
  void run_into(const py::list& inputs, const py::list& outputs);
  py::list profile(const py::list& inputs, int repeats);
  py::list trace(const py::list& inputs);
  void set_output_shapes(const std::vector<std::vector<py::ssize_t>>& shapes);
  void set_kernel(int64_t step, uintptr_t fn, uintptr_t params, int64_t items, int64_t grain, int64_t scratch,
                  const std::string& name, const py::object& keep_alive);
  void set_callback(int64_t step, const py::object& fn);
  void set_threads(int n);

  py::list steps() const;
  py::list ports(bool input) const;
  std::vector<std::string> tensor_names() const;
  static py::array tensor(const py::object& self, const std::string& name);
  std::vector<std::string> kernels() const;
  std::vector<int> step_threads() const;
  int threads() const { return model_->threads(); }
  std::string isa() const { return irk::isa_name(model_->isa()); }
  std::string tree() const { return model_->plan().tree; }
  int64_t arena() const { return model_->plan().arena; }

 private:
  NativeModel() = default;

  static irk::LoadOptions load_options(const std::optional<std::string>& isa, int threads, const py::object& choose);
  static void ask(void* user, uint64_t digest, int64_t steps, irk::StepChoice* choices);
  void describe_ports();
  size_t n_steps() const { return static_cast<size_t>(model_->plan().steps.size()); }
  const char* kernel(int64_t i) const { return model_->step(i).kernel; }
  std::vector<const void*> bind(const py::list& arrays, bool input = true) const;
  std::vector<void*> make_outputs(py::list* out) const;
  void call(const void* const* in, void* const* out, const irk::RunOptions& options);
  static int host(void* user, void* const* bufs);

  irk::Model* model_ = nullptr;
  std::vector<py::dtype> in_dtypes_, out_dtypes_;
  std::vector<std::vector<py::ssize_t>> out_shapes_;
  std::deque<std::string> names_;  // stable addresses
  std::vector<py::array> consts_;
  std::vector<std::unique_ptr<Callback>> callbacks_;
  std::vector<py::object> kept_;
};

}  // namespace irk_py
