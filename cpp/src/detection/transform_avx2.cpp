#define MICROINFER_LANES 8
#define MICROINFER_TRANSFORMS transforms_avx2
#define MICROINFER_NAME "avx2"
#include "transform_impl.hpp"
