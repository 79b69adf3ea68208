#include "kernels.hpp"

#include <microinfer/model.hpp>

#include <stdexcept>

namespace microinfer {
namespace networks {

extern const Kernels kernels_baseline;
#ifdef MICROINFER_X86
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512_bf16;
#endif

namespace {

/// What this machine can run, the fastest last.
std::vector<const Kernels*> supported() {
    std::vector<const Kernels*> tables = {&kernels_baseline};
#ifdef MICROINFER_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        tables.push_back(&kernels_avx2);
    }
    if (__builtin_cpu_supports("avx512f")) {
        tables.push_back(&kernels_avx512);
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16")) {
        tables.push_back(&kernels_avx512_bf16);
    }
#endif
    return tables;
}

}  // namespace

const Kernels& kernels(const std::string& instructions, Numbers numbers) {
    const std::vector<const Kernels*> tables = supported();
    const Kernels* chosen = instructions == "auto" ? tables.back() : nullptr;
    std::string names = "auto";
    for (const Kernels* const table : tables) {
        chosen = instructions == table->name ? table : chosen;
        names += std::string(", ") + table->name;
    }
    if (chosen == nullptr) {
        throw std::invalid_argument("instructions must be one of those that this CPU has, " + names +
                                    ", got '" + instructions + "'");
    }
    if (numbers == Numbers::bfloat16 && chosen->linear_bfloat16 == nullptr) {
        throw std::invalid_argument(std::string("the instruction set ") + chosen->name +
                                    " does not multiply bfloat16");
    }
    return *chosen;
}

}  // namespace networks

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const networks::Kernels* const table : networks::supported()) {
        names.emplace_back(table->name);
    }
    return names;
}

bool multiplies_bfloat16() {
    return networks::supported().back()->linear_bfloat16 != nullptr;
}

bool gains_by_bfloat16() {
#ifdef MICROINFER_X86
    return multiplies_bfloat16() && __builtin_cpu_is("amd");
#else
    return false;
#endif
}

}  // namespace microinfer
