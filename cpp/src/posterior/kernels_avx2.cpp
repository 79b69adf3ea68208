#define MICROINFER_LANES 8
#define MICROINFER_KERNELS kernels_avx2
#include "kernels_impl.hpp"
