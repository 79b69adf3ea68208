#include "mapper/row_queue.hpp"
#include "throws.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace microinfer;
using microinfer::mapper::RowQueue;
using microinfer::tests::expect_throws;

namespace {

/// A row of positions with 1, 2, ... peaks each.
PeakList row_of(int positions) {
    PeakList row;
    for (int i = 1; i <= positions; ++i) {
        row.add(std::vector<Peak>(static_cast<std::size_t>(i), Peak{0.5F, 0.25F, 1.0F}));
    }
    return row;
}

/// An answer for each position, whose phase is its number of peaks.
std::vector<Answer> peaks_of_each(const RaggedPeaks& peaks) {
    std::vector<Answer> answers;
    for (std::int64_t i = 0; i < peaks.patterns; ++i) {
        answers.push_back(
            {{}, static_cast<std::int32_t>(peaks.offsets[i + 1] - peaks.offsets[i]), 1.0F, 1.0F, true, {}});
    }
    return answers;
}

}  // namespace

TEST(RowQueue, AnswersEachRowToWhoeverSubmittedIt) {
    RowQueue queue(peaks_of_each, 2);
    std::vector<std::thread> threads;
    std::vector<std::vector<std::future<std::vector<Answer>>>> waiting(4);
    for (std::size_t t = 0; t < waiting.size(); ++t) {
        threads.emplace_back([&, t] {
            for (int row = 0; row < 50; ++row) {
                waiting[t].push_back(queue.submit(row_of(row % 7)));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (auto& rows : waiting) {
        for (std::size_t row = 0; row < rows.size(); ++row) {
            const std::vector<Answer> answers = rows[row].get();
            ASSERT_EQ(answers.size(), row % 7);
            for (std::size_t i = 0; i < answers.size(); ++i) {
                EXPECT_EQ(answers[i].phase, static_cast<std::int32_t>(i) + 1);
            }
        }
    }
}

TEST(RowQueue, GivesWhatTheMapThrows) {
    RowQueue queue([](const RaggedPeaks&) -> std::vector<Answer> { throw std::runtime_error("no memory"); },
                   1);
    std::future<std::vector<Answer>> row = queue.submit(row_of(1));
    expect_throws<std::runtime_error>([&] { (void)row.get(); }, "no memory");
}

TEST(RowQueue, RowsThatWaitWhileItIsDestroyedSaySo) {
    std::vector<std::future<std::vector<Answer>>> rows;
    {
        RowQueue queue(
            [](const RaggedPeaks& peaks) {
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
                return peaks_of_each(peaks);
            },
            30);
        for (int row = 0; row < 30; ++row) {
            rows.push_back(queue.submit(row_of(row)));
        }
    }
    std::size_t mapped = 0;
    std::size_t left = 0;
    for (std::size_t row = 0; row < rows.size(); ++row) {
        try {
            EXPECT_EQ(rows[row].get().size(), row);
            EXPECT_EQ(left, 0U) << "row " << row << " overtook another";
            ++mapped;
        } catch (const std::runtime_error& error) {
            EXPECT_NE(std::string(error.what()).find("its Mapper was destroyed"), std::string::npos);
            ++left;
        }
    }
    EXPECT_GT(left, 0U);
    EXPECT_EQ(mapped + left, rows.size());
}

TEST(RowQueue, CallsThatWaitForRoomWhileItIsDestroyedSaySo) {
    std::promise<void> go_on;
    const std::shared_future<void> until = go_on.get_future().share();
    auto queue = std::make_unique<RowQueue>(
        [until](const RaggedPeaks& peaks) {
            until.wait();
            return peaks_of_each(peaks);
        },
        1);
    RowQueue& waiting = *queue;
    std::future<std::vector<Answer>> first = waiting.submit(row_of(2));
    std::future<std::vector<Answer>> second = waiting.submit(row_of(3));  // once the first is in hand
    std::vector<std::future<void>> submitters;
    for (int i = 0; i < 3; ++i) {
        submitters.push_back(std::async(std::launch::async, [&] { (void)waiting.submit(row_of(4)); }));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::thread destroyer([&] { queue.reset(); });
    for (std::future<void>& submitter : submitters) {
        expect_throws<std::runtime_error>([&] { submitter.get(); }, "its Mapper was destroyed");
    }
    go_on.set_value();
    destroyer.join();
    EXPECT_EQ(first.get().size(), 2U);
    expect_throws<std::runtime_error>([&] { (void)second.get(); }, "its Mapper was destroyed");
}

TEST(RowQueue, NeedsRoomForARow) {
    expect_throws<std::invalid_argument>([] { RowQueue(peaks_of_each, 0); }, "must be at least 1, got 0");
}
