/// What the models' networks on the CPU have in common: their numbers, their weights, the machine's
/// instructions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace microinfer {

/// What the linear maps of a network multiply. Products are summed in float32. All else is float32 where they
/// multiply float32. Where they multiply bfloat16, which magnifies differences, the factors lie on grids on
/// which these sums are exact but in rare cases, and norms, attention and other sums are float64, rounded to
/// float32 once: so the answers depend on the order of summing as little as those of float32 do.
enum class Numbers { float32, bfloat16 };

/// A linear map's weights, (outputs, inputs), and its bias, (outputs,), null only in `cell_waves`. Not
/// owning.
struct LinearWeights {
    const float* weight;
    const float* bias;
    std::int64_t outputs;
    std::int64_t inputs;
};

/// A layer norm's weights, (width,) each. Not owning.
struct LayerNormWeights {
    const float* scale;
    const float* shift;
};

/// The weights of one transformer block.
struct BlockWeights {
    LayerNormWeights norm1;
    LinearWeights qkv;
    LinearWeights out;
    LayerNormWeights norm2;
    LinearWeights up;
    LinearWeights down;
};

/// The instruction sets that this machine has of those that the loops are compiled for, the fastest last.
std::vector<std::string> instruction_sets();

/// Whether the fastest of them multiplies bfloat16.
bool multiplies_bfloat16();

/// Whether networks are faster for it. On AMD's processors they are; Intel's take four times as long for such
/// an instruction as for one of float32, but for their matrix units, which the loops do not use.
bool gains_by_bfloat16();

}  // namespace microinfer
