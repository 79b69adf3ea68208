#define MICROINFER_LANES 4
#define MICROINFER_KERNELS kernels_baseline
#include "kernels_impl.hpp"
