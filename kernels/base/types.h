// Plain types shared by the runtime and every kernel family. No STL, no exceptions.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace irk {

enum class DType : uint8_t { f32, f64, i8, u8, i16, i32, i64, boolean };

inline int64_t dtype_size(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::i16:
      return 2;
    default:
      return 1;
  }
}

// ISA levels; a kernel of level L runs on every CPU whose level is >= L of the same architecture.
enum class Isa : int { scalar = 0, avx2, avx512, avx512vnni, amx, neon = 16, neondot, neoni8mm };

constexpr int kMaxRank = 8;
constexpr int kMaxOperands = 64;
constexpr int kMaxThreads = 256;

// A tensor of a step, as the loader has checked it: dims > 0, count and bytes do not overflow. Dims are in memory
// order.
struct Tensor {
  DType dtype;
  int rank;
  int64_t dims[kMaxRank];
  float scale;  // per-tensor quantization; scale == 0: none
  int32_t zero;
  const void* data;  // constants only, else null; 64-byte alignment is not promised
  int64_t count;     // elements
  int64_t bytes;
};

// The one kernel signature. bufs: the step's inputs (null where absent), then its outputs, then this thread's scratch.
// [begin, end) is the range of work items to do; ranges of one step never overlap and together cover [0, items).
typedef void (*KernelFn)(void* const* bufs, const void* params, int64_t begin, int64_t end);

// A row of a family's kernels.inc. mr, nr, kr: register tile (rows, columns, k-unroll).
struct KernelRow {
  const char* family;
  const char* types;
  Isa isa;
  int mr, nr, kr;
  KernelFn fn;
};

}  // namespace irk
