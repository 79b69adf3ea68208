/// MICROINFER_HD marks the inline functions that CPU code and CUDA kernels share.
#pragma once

#ifdef __CUDACC__
#define MICROINFER_HD __host__ __device__ inline
#else
#define MICROINFER_HD inline
#endif
