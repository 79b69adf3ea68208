#include "throws.hpp"

#include <microinfer/thread_pool.hpp>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

using microinfer::num_threads;
using microinfer::parallel_for;
using microinfer::set_num_threads;
using microinfer::tests::expect_throws;

namespace {

/// How often a parallel loop calls each of `size` indices.
std::vector<int> visits(std::int64_t size, std::int64_t block) {
    std::vector<int> count(static_cast<std::size_t>(size));
    parallel_for(size, block, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            ++count[static_cast<std::size_t>(i)];
        }
    });
    return count;
}

void expect_each_once(std::int64_t size, std::int64_t block) {
    for (const int count : visits(size, block)) {
        EXPECT_EQ(count, 1) << "calls of an index";
    }
}

/// Runs `test` in a forked child and expects it to return true there, within a time.
template <typename Test>
void expect_in_child(const Test& test) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);  // a child that hangs is killed, and the test fails
        _exit(test() ? 0 : 1);
    }
    int status = 0;
    EXPECT_TRUE(waitpid(child, &status, 0) == child) << "the child could not be waited for";
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the forked child failed or hung";
}

bool child_counts_right() {
    const std::vector<int> count = visits(10000, 7);
    return std::accumulate(count.begin(), count.end(), 0) == 10000;
}

}  // namespace

TEST(ThreadPool, EveryIndexIsVisitedOnce) {
    for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        EXPECT_EQ(num_threads(), threads) << "number of threads";
        for (const std::int64_t size : {0, 1, 63, 64, 65, 10000}) {
            expect_each_once(size, 64);
            expect_each_once(size, 1);
        }
    }
}

TEST(ThreadPool, BlocksRunOnSeveralThreads) {
    set_num_threads(4);
    // Each block waits for the others: with fewer than four threads this would not end but by giving up.
    std::atomic<int> arrived{0};
    parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
        ++arrived;
        for (int tries = 0; arrived < 4 && tries < 20000; ++tries) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        EXPECT_EQ(arrived.load(), 4) << "blocks at work at once";
    });
}

TEST(ThreadPool, ExceptionsReachTheCallerAndThePoolGoesOn) {
    for (const int threads : {1, 4}) {
        set_num_threads(threads);
        for (int round = 0; round < 50; ++round) {
            expect_throws<std::domain_error>(
                [] {
                    parallel_for(1000, 1, [](std::int64_t begin, std::int64_t) {
                        if (begin == 137) {
                            throw std::domain_error("block 137");
                        }
                    });
                },
                "block 137");
            expect_each_once(1000, 3);
        }
    }
}

TEST(ThreadPool, LoopsInsideLoopsRun) {
    set_num_threads(4);
    std::atomic<int> total{0};
    parallel_for(20, 1, [&](std::int64_t, std::int64_t) {
        parallel_for(30, 2,
                     [&](std::int64_t begin, std::int64_t end) { total += static_cast<int>(end - begin); });
    });
    EXPECT_EQ(total.load(), 600) << "calls of the inner bodies";
}

TEST(ThreadPool, LoopsOfSeveralCallersRunWhileTheSizeChanges) {
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([&, caller] {
            for (int round = 0; round < 200; ++round) {
                if (caller == 0) {
                    set_num_threads(1 + round % 4);
                }
                const std::vector<int> count = visits(500, 11);
                wrong += std::accumulate(count.begin(), count.end(), 0) != 500;
            }
        });
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
    EXPECT_EQ(wrong.load(), 0) << "loops that missed an index";
}

TEST(ThreadPool, AForkedChildMakesItsOwnPool) {
    set_num_threads(4);
    expect_each_once(10000, 7);  // the parent's pool exists now
    for (int round = 0; round < 20; ++round) {
        expect_in_child([] { return child_counts_right() && num_threads() == 4; });
    }
    expect_each_once(10000, 7);
}

TEST(ThreadPool, AChildForkedWhileLoopsRunMakesItsOwnPool) {
    set_num_threads(3);
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        while (!stop) {
            visits(2000, 5);
        }
    });
    try {
        for (int round = 0; round < 20; ++round) {
            expect_in_child(child_counts_right);
        }
    } catch (...) {
        stop = true;
        busy.join();
        throw;
    }
    stop = true;
    busy.join();
}

TEST(ThreadPool, NumbersOfThreadsBelowOneAreRefused) {
    expect_throws<std::invalid_argument>([] { set_num_threads(0); }, "at least 1, got 0");
    expect_throws<std::invalid_argument>([] { parallel_for(1, 0, [](std::int64_t, std::int64_t) {}); },
                                         "at least 1, got 0");
}
