#define MICROINFER_LANES 16
#define MICROINFER_BFLOAT16
#define MICROINFER_KERNELS kernels_avx512_bf16
#define MICROINFER_NAME "avx512_bf16"
#include "kernels_impl.hpp"
