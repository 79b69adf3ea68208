/// What the examples read and print: peaks and orientations of a scan, as CSV.
#pragma once

#include <microinfer/mapper.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace scan {

/// The peaks of each position of each row.
using Rows = std::vector<std::vector<std::vector<microinfer::Peak>>>;

/// Reads a file with a line `row,column,qx,qy,intensity` for every peak, in 1/Angstrom from the direct beam.
/// Rows become equally long: a position that the file leaves out has no peaks.
inline Rows read(const std::string& path) {
    constexpr std::size_t most_positions = 10'000'000;
    constexpr std::size_t most_positions_per_peak = 1000;
    struct Line {
        std::size_t row, column;
        microinfer::Peak peak;
    };
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error(path + ": cannot be read");
    }
    std::string line;
    std::getline(file, line);
    if (!line.starts_with("row,column,qx,qy,intensity")) {
        throw std::runtime_error(path + ", line 1: expected row,column,qx,qy,intensity, got " + line);
    }
    std::vector<Line> lines;
    std::size_t rows = 0;
    std::size_t columns = 0;
    for (std::size_t number = 2; std::getline(file, line); ++number) {
        Line read{};
        int end = 0;
        std::sscanf(line.c_str(), "%6zu,%6zu,%f,%f,%f %n", &read.row, &read.column, &read.peak.qx,
                    &read.peak.qy, &read.peak.intensity, &end);
        if (end == 0 || static_cast<std::size_t>(end) != line.size() ||
            std::max(read.row, read.column) > 999999) {
            throw std::runtime_error(path + ", line " + std::to_string(number) +
                                     ": expected row,column,qx,qy,intensity, got " + line);
        }
        rows = std::max(rows, read.row + 1);
        columns = std::max(columns, read.column + 1);
        lines.push_back(read);
    }
    const std::size_t most = std::min(most_positions, most_positions_per_peak * lines.size());
    if (rows * columns > most) {  // before any is made
        throw std::runtime_error(path + ": the scan is too large: " + std::to_string(rows) + " x " +
                                 std::to_string(columns) + " positions, at most " + std::to_string(most) +
                                 " for " + std::to_string(lines.size()) + " peaks");
    }
    Rows scan(rows, std::vector<std::vector<microinfer::Peak>>(columns));
    for (const Line& read : lines) {
        scan[read.row][read.column].push_back(read.peak);
    }
    return scan;
}

inline microinfer::PeakList peaks_of(const std::vector<std::vector<microinfer::Peak>>& row) {
    microinfer::PeakList peaks;
    for (const auto& position : row) {
        peaks.add(position);
    }
    return peaks;
}

inline void print_names() {
    std::puts("row,column,valid,phase,confidence,score,m00,m01,m02,m10,m11,m12,m20,m21,m22");
}

/// Prints a line for every position of a row.
inline void print(std::size_t row, const std::vector<microinfer::Answer>& answers,
                  const microinfer::ModelInfo& model) {
    for (std::size_t column = 0; column < answers.size(); ++column) {
        const microinfer::Answer& answer = answers[column];
        const std::string phase =
            answer.valid ? model.phases[static_cast<std::size_t>(answer.phase)].name : "";
        std::printf("%zu,%zu,%d,%s,%.9g,%.9g", row, column, answer.valid ? 1 : 0, phase.c_str(),
                    answer.confidence, answer.score);
        for (const auto& line : answer.matrix.m) {
            std::printf(",%.9g,%.9g,%.9g", line[0], line[1], line[2]);
        }
        std::putchar('\n');
    }
}

/// Throws where something could not be printed: the disk is full, say.
inline void finish() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        throw std::runtime_error("standard output: the orientations cannot be written");
    }
}

}  // namespace scan
