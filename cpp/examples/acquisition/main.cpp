// Maps the Bragg peaks of a scan row by row, as they would come from an acquisition.
//
//   acquisition MODEL PEAKS.csv [--no-refine] [--threads N] > orientations.csv
//
// MODEL is a checkpoint, a .safetensors file; scan.hpp says what PEAKS.csv holds. --no-refine leaves the
// answers as the network gives them. The orientations go to standard output, what the model is and how long
// rows took to standard error.
#include "../scan.hpp"

#include <microinfer/mapper.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point began) {
    return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

/// Maps one row at a time and reports how long it waits for its answers.
void measure(const microinfer::Mapper& mapper, const scan::Rows& rows) {
    std::vector<double> times;
    for (const auto& row : rows) {
        const microinfer::PeakList peaks = scan::peaks_of(row);
        const auto began = Clock::now();
        (void)mapper.map(peaks);
        times.push_back(milliseconds_since(began));
    }
    std::sort(times.begin(), times.end());
    if (!times.empty()) {
        std::fprintf(stderr, "row: median %.2f ms, 90 %% %.2f ms, longest %.2f ms\n", times[times.size() / 2],
                     times[times.size() * 9 / 10], times.back());
    }
}

/// Submits rows as they are scanned, and prints them as they are done.
void stream(microinfer::Mapper& mapper, const scan::Rows& rows) {
    const auto began = Clock::now();
    std::deque<std::future<std::vector<microinfer::Answer>>> waiting;
    std::size_t printed = 0;
    std::size_t positions = 0;
    const auto print_next = [&] {
        const auto answers = waiting.front().get();
        waiting.pop_front();
        positions += answers.size();
        scan::print(printed++, answers, mapper.model());
    };
    scan::print_names();
    for (const auto& row : rows) {
        waiting.push_back(mapper.submit(scan::peaks_of(row)));
        while (!waiting.empty() &&
               waiting.front().wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
            print_next();
        }
    }
    while (!waiting.empty()) {
        print_next();
    }
    scan::finish();
    const double seconds = milliseconds_since(began) / 1e3;
    std::fprintf(stderr, "stream: %zu positions in %.3f s, %.0f per second\n", positions, seconds,
                 static_cast<double>(positions) / seconds);
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
            } else if (argument == "--threads" && i + 1 < argc) {
                microinfer::set_num_threads(std::stoi(argv[++i]));
            } else if (argument.starts_with("--")) {
                throw std::invalid_argument("unknown option, or one without its value: " + argument);
            } else {
                paths.push_back(argument);
            }
        }
        if (paths.size() != 2) {
            throw std::invalid_argument(
                "usage: acquisition MODEL PEAKS.csv [--no-refine] [--threads N] > orientations.csv");
        }
        const scan::Rows rows = scan::read(paths[1]);
        microinfer::Mapper mapper(paths[0], options);
        std::fprintf(stderr, "model %s (%s); scan of %zu rows\n", mapper.model().name.c_str(),
                     mapper.model().kind.c_str(), rows.size());
        measure(mapper, rows);
        stream(mapper, rows);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
