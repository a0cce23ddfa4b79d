// Elementwise programs: what the ISA files get from prepare.cc.
//
// A program is a list of instructions over f32 values. The result's index space, in its memory order, is collapsed to
// outer dimensions and two inner ones, rows x cols; a work item is a tile of it. In a tile every value is either one
// scalar or a contiguous run of rows * cols floats: an operand read in place, or a copy that lines a broadcast up, or a
// temporary. Instruction after instruction then runs over the tile, which stays in L1.
#pragma once
#include <stdint.h>

namespace irk {
namespace eltwise {

enum Op : int32_t {
#define IRK_ELT(code, name, operands, cost) op_##name = code,
#include "eltwise/ops.inc"
#undef IRK_ELT
};

constexpr int kMaxInputs = 16;
constexpr int kMaxInstrs = 48;
constexpr int kMaxImms = 96;
constexpr int kMaxOuter = 6;

enum Mode : int32_t { direct, scalar, lined_up };

struct Operand {
  int32_t mode;
  int32_t slot;  // lined_up: its place in scratch
  int64_t outer[kMaxOuter];
  int64_t s1, s0;  // strides in elements along rows and cols; 0 where broadcast
};

// a, b, c index one table of pointers: inputs, results of instructions, immediates.
struct Instr {
  int32_t op;
  int32_t a, b, c;
  int32_t a_scalar, b_scalar;
  int32_t slot;  // of the result; the last instruction writes the output instead
};

struct Params {
  int32_t n_in, n_instr, n_imm, n_outer;
  int64_t outer_dims[kMaxOuter];
  int64_t rows, cols;            // inner dimensions
  int64_t tile_rows, tile_cols;  // tile_rows > 1 only when tile_cols == cols
  int64_t tiles_r, tiles_c;
  int64_t slot_floats;
  Operand in[kMaxInputs];
  Instr code[kMaxInstrs];
  float imm[kMaxImms];
};

struct CastParams {
  int64_t count, block;
  int32_t from, to;  // DType
};

}  // namespace eltwise
}  // namespace irk
