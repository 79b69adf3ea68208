/// The table of `Kernels` on vectors of MICROINFER_LANES floats. Included by one source file for each
/// instruction set, which is compiled for it; so nothing in the files below calls an inline function that
/// other files compile too.
#include "kernels.hpp"
#include "kernels_encoder.hpp"
#include "kernels_posterior.hpp"
#include "kernels_products.hpp"

namespace microinfer::networks {
extern const Kernels MICROINFER_KERNELS;
const Kernels MICROINFER_KERNELS = {MICROINFER_NAME, kPanel,      kHeadLanes,  linear<float>, kRound,
                                    kLinearBfloat16, layer_norm,  attend,      sum_rows,      highest,
                                    next_above,      log_sum_exp, complex_dot, nearest};

}  // namespace microinfer::networks
