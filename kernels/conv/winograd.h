// Float 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3): Lavin & Gray,
// arXiv:1509.09308.
//
// An output tile of T x T pixels is A^T ((G g G^T) * (B^T d B)) A, d being (T + 2) x (T + 2) input pixels and g the
// filter: (T + 2)^2 multiply-adds a channel pair in place of 9 T^2, 1 / 2.25 of them for T = 2 and 1 / 4 for T = 4. The
// filters are transformed when a model is loaded if they are few, else in each call.
//
// Points of T = 4 are 0, +-5/8, +-3/2 and infinity, not 0, +-1, +-2: a fourth of the largest error and half of the
// typical one, at the same cost, and all constants are exact in float (why points matter: Barabasz et al.,
// arXiv:1803.10986). Points of T = 2 are 0, +-1 and infinity.
//
// Every output element is one fixed sequence of operations, as in conv.h: the rows and columns of B^T d B, one chain
// acc = fma(v, u, acc) over input channels from zero, columns and rows of the sums, + bias, + residual, activation. The
// bits depend neither on the ISA nor on the tiling nor on threads. They differ from those of the direct sum, within the
// bound of irkit/ops/winograd.py.
#pragma once
#include "base/act.h"
#include "base/types.h"

namespace irk {

struct WinogradParams {
  int64_t tile;  // T: 2 or 4
  int64_t ih, iw, ic;
  int64_t oh, ow, oc;
  int64_t pad[2];            // top, left
  int64_t tiles_h, tiles_w;  // of an image
  int64_t tiles;             // of all images
  ActParams act;
  const float* w;      // [panel][position][ic][nv * lanes], transformed, if held; else [panel][ic][9][nv * lanes]
  const float* bias;   // [nvec * lanes], zeros where absent
  const float* slope;  // the same for Act::leaky
  const float* zero;   // ic zeros, and at least a panel of them
  int64_t nvec;        // vectors of output channels
  int64_t panels;      // panel p holds vectors [p * nvec / panels, (p + 1) * nvec / panels)
  int64_t mblocks;     // block b holds tiles [b * tiles / mblocks, ...)
  int64_t nblocks;     // block b holds panels [b * panels / nblocks, ...)
  int max_rows;        // of the register tile of the widest panel
  bool prefetch;       // weights come from afar
  bool held;           // weights are transformed when a model is loaded
  bool whole;          // if not: once in a call, not for each block of tiles
  int64_t v_row;       // floats of a tile in transformed input
  int64_t v_step;      // floats from one position to the next in transformed input, and in products
  int64_t m_step;
  int64_t w_step;  // the same in weights that a call transforms
};

// Constants of T = 4: the points +-kA and +-kB.
constexpr float kWinoA = 0.625f, kWinoB = 1.5f;

}  // namespace irk
