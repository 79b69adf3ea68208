// Maps the Bragg peaks of a scan row by row, as they would come from an acquisition.
//
//   acquisition MODEL PEAKS.csv [--no-refine] [--graph] [--threads N] > orientations.csv
//
// --no-refine leaves the answers as the model gives them; --graph runs the file's graph in torch even where
// the core can run the model; --threads sets the core's threads (OMP_NUM_THREADS sets torch's, too).
//
// PEAKS.csv has a line for every peak, `row,column,qx,qy,intensity`, in 1/Angstrom from the direct beam, the
// scan positions in order; a position without peaks may be left out. The orientations go to standard output,
// what the model is and how long rows took to standard error.
#include <microinfer/mapper.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fstream>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxPositions = 100'000'000;

/// The peaks of a scan: rows of scan positions.
using Scan = std::vector<std::vector<std::vector<microinfer::Peak>>>;

/// Reads a number and the character behind it.
double field(const char*& at, char end, const std::string& where) {
    char* stop = nullptr;
    const double value = std::strtod(at, &stop);
    if (stop == at || *stop != end) {
        throw std::runtime_error(where + ": expected row,column,qx,qy,intensity");
    }
    at = end == '\0' ? stop : stop + 1;
    return value;
}

/// Reads a line, also one that ends as on Windows.
bool read_line(std::ifstream& file, std::string& line) {
    const bool more = static_cast<bool>(std::getline(file, line));
    if (more && !line.empty() && line.back() == '\r') {
        line.pop_back();
    }
    return more;
}

bool is_index(double value) {
    return value >= 0 && value < 1e6 && value == std::floor(value);
}

Scan read_scan(const std::string& path) {
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error(path + ": cannot be read");
    }
    Scan scan;
    std::size_t columns = 0;
    std::string line;
    read_line(file, line);
    if (line != "row,column,qx,qy,intensity") {
        throw std::runtime_error(path + ", line 1: expected row,column,qx,qy,intensity, got " + line);
    }
    for (int number = 2; read_line(file, line); ++number) {
        if (line.empty()) {
            continue;
        }
        const std::string where = path + ", line " + std::to_string(number);
        const char* at = line.c_str();
        const double row = field(at, ',', where);
        const double column = field(at, ',', where);
        if (!is_index(row) || !is_index(column)) {
            throw std::runtime_error(where + ": row and column must be whole numbers from 0 to 999999");
        }
        const double qx = field(at, ',', where);
        const double qy = field(at, ',', where);
        const double intensity = field(at, '\0', where);
        const auto i = static_cast<std::size_t>(row);
        const auto j = static_cast<std::size_t>(column);
        columns = std::max(columns, j + 1);
        scan.resize(std::max(scan.size(), i + 1));
        scan[i].resize(std::max(scan[i].size(), j + 1));
        scan[i][j].push_back({static_cast<float>(qx), static_cast<float>(qy), static_cast<float>(intensity)});
    }
    if (scan.size() * columns > kMaxPositions) {
        throw std::runtime_error(path + ": its rows and columns make a scan of " +
                                 std::to_string(scan.size()) + " x " + std::to_string(columns) +
                                 " positions, more than this program holds in memory");
    }
    for (auto& row : scan) {
        row.resize(columns);
    }
    return scan;
}

microinfer::PeakList peaks_of(const std::vector<std::vector<microinfer::Peak>>& row) {
    microinfer::PeakList peaks;
    for (const auto& position : row) {
        peaks.add(position);
    }
    return peaks;
}

void print(std::size_t row, const std::vector<microinfer::Answer>& answers,
           const microinfer::ModelInfo& model) {
    for (std::size_t column = 0; column < answers.size(); ++column) {
        const microinfer::Answer& answer = answers[column];
        std::printf("%zu,%zu,%d,%s", row, column, answer.valid ? 1 : 0,
                    answer.valid ? model.phases[static_cast<std::size_t>(answer.phase)].name.c_str() : "");
        std::printf(",%.9g,%.9g", answer.confidence, answer.score);
        for (const auto& line : answer.matrix.m) {
            std::printf(",%.9g,%.9g,%.9g", line[0], line[1], line[2]);
        }
        std::printf("\n");
    }
}

double milliseconds_since(Clock::time_point began) {
    return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

void report(const char* what, std::vector<double> times) {
    if (times.empty()) {
        return;
    }
    std::sort(times.begin(), times.end());
    const auto quantile = [&](double share) {
        return times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1))];
    };
    std::fprintf(stderr, "%-12s median %.2f ms, 90 %% %.2f ms, 99 %% %.2f ms, longest %.2f ms\n", what,
                 quantile(0.5), quantile(0.9), quantile(0.99), times.back());
}

int number_of_threads(const char* text) {
    char* end = nullptr;
    const long count = std::strtol(text, &end, 10);
    if (end == text || *end != '\0' || count < 1 || count > 1024) {
        throw std::runtime_error(std::string("--threads takes a number from 1 to 1024, got ") + text);
    }
    return static_cast<int>(count);
}

int usage(const std::string& problem) {
    std::fprintf(stderr,
                 "error: %s\nusage: acquisition MODEL PEAKS.csv [--no-refine] [--graph] [--threads N] > "
                 "orientations.csv\n",
                 problem.c_str());
    return 2;
}

int run(const std::string& model_path, const std::string& peaks_path,
        const microinfer::MapperOptions& options) {
    const Scan scan = read_scan(peaks_path);
    const auto began = Clock::now();
    microinfer::Mapper mapper(model_path, options);
    const microinfer::ModelInfo& model = mapper.model();
    std::fprintf(stderr, "model %s (%s, %s), run by its %s, loaded in %.0f ms; scan of %zu rows\n",
                 model.name.c_str(), model.format.c_str(), model.dtype.c_str(), model.engine.c_str(),
                 milliseconds_since(began), scan.size());

    // A model's first calls are slow. Here the first row stands for them.
    for (int call = 0; call < 3 && !scan.empty(); ++call) {
        const auto start = Clock::now();
        (void)mapper.map(peaks_of(scan.front()));
        std::fprintf(stderr, "warm-up      %.2f ms\n", milliseconds_since(start));
    }

    // One row at a time: how long a row waits for its answers.
    std::vector<double> latency;
    for (const auto& row : scan) {
        const microinfer::PeakList peaks = peaks_of(row);
        const auto start = Clock::now();
        (void)mapper.map(peaks);
        latency.push_back(milliseconds_since(start));
    }
    report("row", latency);

    // A stream: rows are submitted as they are scanned, and collected as they are done.
    std::printf("row,column,valid,phase,confidence,score,m00,m01,m02,m10,m11,m12,m20,m21,m22\n");
    std::deque<std::future<std::vector<microinfer::Answer>>> waiting;
    std::size_t collected = 0;
    const auto collect = [&] {
        print(collected++, waiting.front().get(), model);
        waiting.pop_front();
    };
    const auto start = Clock::now();
    for (const auto& row : scan) {
        waiting.push_back(mapper.submit(peaks_of(row)));
        while (!waiting.empty() &&
               waiting.front().wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
            collect();
        }
    }
    while (!waiting.empty()) {
        collect();
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        throw std::runtime_error("standard output: the orientations cannot be written");
    }
    std::size_t positions = 0;
    for (const auto& row : scan) {
        positions += row.size();
    }
    const double seconds = milliseconds_since(start) / 1e3;
    std::fprintf(stderr, "stream       %zu positions in %.3f s, %.0f per second\n", positions, seconds,
                 static_cast<double>(positions) / seconds);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    microinfer::MapperOptions options;
    std::vector<std::string> paths;
    try {
        for (int i = 1; i < argc; ++i) {
            const std::string argument = argv[i];
            if (argument == "--no-refine") {
                options.refine = false;
            } else if (argument == "--graph") {
                options.graph = true;
            } else if (argument == "--threads" && i + 1 < argc) {
                microinfer::set_num_threads(number_of_threads(argv[++i]));
            } else if (argument.rfind("--", 0) == 0) {
                return usage("unknown option, or one without its value: " + argument);
            } else {
                paths.push_back(argument);
            }
        }
        if (paths.size() != 2) {
            return usage("expected a model and a file of peaks, got " + std::to_string(paths.size()) +
                         " paths");
        }
        return run(paths[0], paths[1], options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
