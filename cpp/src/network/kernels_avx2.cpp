#define MICROINFER_LANES 8
#define MICROINFER_KERNELS kernels_avx2
#define MICROINFER_NAME "avx2"
#include "kernels_impl.hpp"
