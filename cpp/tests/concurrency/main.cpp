// Maps random rows with one Mapper from several threads at once, by map() and by submit(), and compares.
//
//   concurrency MODEL [--graph]
//
// Every row is mapped alone first. Prints how many rows agreed; exit status 1 where one did not.
#include <microinfer/mapper.hpp>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <exception>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Answers = std::vector<microinfer::Answer>;

microinfer::PeakList random_row(std::mt19937& random) {
    std::uniform_int_distribution<int> size(0, 30);
    std::uniform_real_distribution<float> q(-1.4F, 1.4F);
    std::uniform_real_distribution<float> strength(0.01F, 1.0F);
    microinfer::PeakList row;
    for (int position = size(random); position > 0; --position) {
        std::vector<microinfer::Peak> peaks(static_cast<std::size_t>(size(random)));
        for (microinfer::Peak& peak : peaks) {
            peak = {q(random), q(random), strength(random)};
        }
        row.add(peaks);
    }
    return row;
}

bool same(const Answers& one, const Answers& two) {
    if (one.size() != two.size()) {
        return false;
    }
    for (std::size_t i = 0; i < one.size(); ++i) {
        bool agree = one[i].valid == two[i].valid && one[i].phase == two[i].phase &&
                     std::abs(one[i].confidence - two[i].confidence) < 1e-4F;
        for (int k = 0; agree && one[i].valid && k < 9; ++k) {
            agree = std::abs(one[i].matrix.m[k / 3][k % 3] - two[i].matrix.m[k / 3][k % 3]) < 1e-4F;
        }
        if (!agree) {
            return false;
        }
    }
    return true;
}

int run(const char* model, bool graph) {
    constexpr std::size_t kRows = 24;
    microinfer::Mapper mapper(model, {.refine = true, .queue = 3, .graph = graph});
    std::mt19937 random(7);
    std::vector<microinfer::PeakList> rows;
    std::vector<Answers> alone;
    for (std::size_t i = 0; i < kRows; ++i) {
        rows.push_back(random_row(random));
        alone.push_back(mapper.map(rows.back()));
    }

    std::atomic<std::size_t> agreed = 0;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 2; ++thread) {
        threads.emplace_back([&] {
            for (std::size_t i = 0; i < kRows; ++i) {
                agreed += same(mapper.map(rows[i]), alone[i]) ? 1 : 0;
            }
        });
        threads.emplace_back([&] {
            std::vector<std::future<Answers>> waiting;
            for (const microinfer::PeakList& row : rows) {
                waiting.push_back(mapper.submit(row));
            }
            for (std::size_t i = 0; i < kRows; ++i) {
                agreed += same(waiting[i].get(), alone[i]) ? 1 : 0;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    std::printf("%zu of %zu rows agree\n", agreed.load(), 4 * kRows);
    return agreed == 4 * kRows ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const bool graph = argc == 3 && std::string(argv[2]) == "--graph";
    if (argc != (graph ? 3 : 2)) {
        std::fprintf(stderr, "usage: concurrency MODEL [--graph]\n");
        return 2;
    }
    try {
        return run(argv[1], graph);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
