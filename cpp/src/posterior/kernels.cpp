#include "kernels.hpp"

namespace microinfer::posterior {

extern const Kernels kernels_baseline;
#ifdef MICROINFER_X86
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

const Kernels& kernels() {
#ifdef MICROINFER_X86
    static const Kernels& best = __builtin_cpu_supports("avx512f") ? kernels_avx512
                                 : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                                     ? kernels_avx2
                                     : kernels_baseline;
    return best;
#else
    return kernels_baseline;
#endif
}

}  // namespace microinfer::posterior
