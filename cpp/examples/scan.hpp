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
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error(path + ": cannot be read");
    }
    std::string line;
    std::getline(file, line);
    if (!line.starts_with("row,column,qx,qy,intensity")) {
        throw std::runtime_error(path + ", line 1: expected row,column,qx,qy,intensity, got " + line);
    }
    Rows rows;
    std::size_t columns = 0;
    for (std::size_t number = 2; std::getline(file, line); ++number) {
        std::size_t row = 0;
        std::size_t column = 0;
        microinfer::Peak peak{};
        int end = 0;
        std::sscanf(line.c_str(), "%6zu,%6zu,%f,%f,%f %n", &row, &column, &peak.qx, &peak.qy, &peak.intensity,
                    &end);
        if (end == 0 || static_cast<std::size_t>(end) != line.size() || std::max(row, column) > 999999) {
            throw std::runtime_error(path + ", line " + std::to_string(number) +
                                     ": expected row,column,qx,qy,intensity, got " + line);
        }
        columns = std::max(columns, column + 1);
        rows.resize(std::max(rows.size(), row + 1));
        if (rows.size() * columns > most_positions) {
            throw std::runtime_error(path + ", line " + std::to_string(number) + ": the scan is too large");
        }
        rows[row].resize(std::max(rows[row].size(), column + 1));
        rows[row][column].push_back(peak);
    }
    for (auto& row : rows) {
        row.resize(columns);
    }
    return rows;
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
