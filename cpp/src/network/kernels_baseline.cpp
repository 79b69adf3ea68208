#define MICROINFER_LANES 4
#define MICROINFER_KERNELS kernels_baseline
#define MICROINFER_NAME "baseline"
#include "kernels_impl.hpp"
