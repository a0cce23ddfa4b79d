// The plan: which kernels run on which tensors. Read from JSON, every field checked before use.
//
//   {"version": 1, "inputs": [{"name": "x", "tensor": 0}], "outputs": [{"name": "y", "tensor": 57}], "tree": "...",
//    "tensors": [{"dtype": "f32", "shape": [1, 224, 224, 3], "loc": ["in", 0]},
//                {"dtype": "i8", "shape": [..], "scale": 0.02, "zero": -128, "loc": ["arena", 4096]},
//                {"dtype": "i8", "shape": [..], "loc": ["const", "features.0.weight"]},
//                {"dtype": "f32", "shape": [..], "loc": ["out", 0]}],
//    "arena": 1234567,
//    "steps": [{"family": "qconv", "in": [0, 5, -1], "out": [7], "attrs": {..}, "name": "features.0"}]}
//
// Shapes are in memory order. What a plan may not do: read bytes that no step of this call has written, write to inputs
// or constants, write where one of the step's inputs lies (unless both begin at the same offset: in place, which is up
// to the kernel, see PreparedStep::in_place), leave an output unwritten. Several tensors may share an arena offset
// (views). Other keys are ignored.
#pragma once
#include "base/array.h"
#include "base/json.h"
#include "base/texts.h"
#include "runtime/container.h"

namespace irk {

constexpr int kPlanVersion = 1;
constexpr int64_t kArenaAlign = 64;

enum class Place : uint8_t { input, output, arena, constant };

struct PlanTensor {
  Tensor t;
  Place place;
  int64_t pos;  // index of the input or output, byte offset in the arena
};

struct PlanPort {
  const char* name;
  int32_t tensor;
};

struct PlanStep {
  const char *family, *name;
  const Json* attrs;  // null once the document is gone
  int n_in, n_out;
  int64_t operands;  // first of n_in + n_out entries of Plan::operands; -1: absent input
};

struct Plan {
  JsonDoc doc;
  Array<PlanTensor> tensors;
  Array<PlanStep> steps;
  Array<int32_t> operands;
  Array<PlanPort> inputs, outputs;
  int64_t arena = 0;
  const char* tree = "";
  Texts texts;

  // Copies the texts out of the document, which is many times larger than they are, and lets it go.
  Status drop_doc();
};

// Code::bad_file or bad_version with a message that names what is wrong. The plan keeps pointers into `consts`' data.
Status read_plan(const char* text, int64_t n, const ConstTable& consts, Plan* out);

}  // namespace irk
