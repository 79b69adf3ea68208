#include "kernels.hpp"

#include <microinfer/posterior.hpp>

#include <stdexcept>

namespace microinfer {
namespace posterior {

extern const Kernels kernels_baseline;
#ifdef MICROINFER_X86
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
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
#endif
    return tables;
}

}  // namespace

const Kernels& kernels(const std::string& instructions) {
    const std::vector<const Kernels*> tables = supported();
    if (instructions == "auto") {
        return *tables.back();
    }
    std::string names = "auto";
    for (const Kernels* const table : tables) {
        if (instructions == table->name) {
            return *table;
        }
        names += std::string(", ") + table->name;
    }
    throw std::invalid_argument("instructions must be one of those that this CPU has, " + names + ", got '" +
                                instructions + "'");
}

}  // namespace posterior

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const posterior::Kernels* const table : posterior::supported()) {
        names.emplace_back(table->name);
    }
    return names;
}

}  // namespace microinfer
