#define MICROINFER_LANES 16
#define MICROINFER_KERNELS kernels_avx512
#include "kernels_impl.hpp"
