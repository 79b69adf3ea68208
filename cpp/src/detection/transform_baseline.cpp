#define MICROINFER_LANES 4
#define MICROINFER_TRANSFORMS transforms_baseline
#define MICROINFER_NAME "baseline"
#include "transform_impl.hpp"
