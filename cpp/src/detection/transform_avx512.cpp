#define MICROINFER_LANES 16
#define MICROINFER_TRANSFORMS transforms_avx512
#define MICROINFER_NAME "avx512"
#include "transform_impl.hpp"
