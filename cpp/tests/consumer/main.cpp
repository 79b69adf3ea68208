/// Prints the version, the disks of a pattern, the rotation nearest to a matrix and its angle to the
/// identity.

#include <microinfer/geodesic.hpp>
#include <microinfer/procrustes.hpp>
#include <microinfer/tokenizer.hpp>
#include <microinfer/version.hpp>

#include <array>
#include <cstdint>
#include <cstdio>

int main() {
    const std::array<float, 3> qx = {0.5F, 0.0F, 0.0F};
    const std::array<float, 3> qy = {0.0F, -1.25F, 0.001F};  // the last one: the direct beam
    const std::array<float, 3> intensity = {1.0F, 4.0F, 50.0F};
    const std::array<std::int64_t, 2> offsets = {0, 3};
    const microinfer::TokenSpec spec = {2.0F, 256, 360, 1e-3F, 64, 0.05F, 76, 2};
    std::array<float, 9> values{};
    std::array<std::int32_t, 9> bins{};
    std::array<bool, 3> mask{};
    std::int32_t count = 0;
    bool valid = false;
    microinfer::tokenize(
        {qx.data(), qy.data(), intensity.data(), offsets.data(), 1, 3}, spec,
        {&values[0], &values[3], &values[6], &bins[0], &bins[3], &bins[6], mask.data(), &count, &valid, 3});

    const std::array<double, 9> matrix = {0.0, -2.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 2.0};
    const std::array<double, 9> identity = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0};
    std::array<double, 9> rotation{};
    microinfer::project_to_so3(matrix.data(), 1, rotation.data());
    double angle = 0.0;
    std::int64_t index = 0;
    microinfer::symmetry_min_geodesic<double>({rotation.data(), identity.data(), identity.data(), 1, 1},
                                              &angle, &index);
    std::printf("%s %d %.3f %.3f %.6f\n", MICROINFER_VERSION, count, values[0], values[1], angle);
}
