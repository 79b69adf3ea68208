#define MICROINFER_LANES 16
#define MICROINFER_KERNELS kernels_avx512
#define MICROINFER_NAME "avx512"
#include "kernels_impl.hpp"
