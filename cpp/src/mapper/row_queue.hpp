/// Rows that wait to be mapped, and the thread that maps them.
#pragma once

#include <microinfer/mapper.hpp>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace microinfer::mapper {

/// Maps rows on a thread of its own, in the order in which they came.
class RowQueue {
  public:
    using Map = std::function<std::vector<Answer>(const RaggedPeaks&)>;

    /// `capacity` rows may wait; std::invalid_argument where it is 0.
    RowQueue(Map map, std::size_t capacity);

    /// Finishes the row in hand; those that still wait get a std::runtime_error that says so, and so do calls
    /// of submit() that wait for room.
    ~RowQueue();

    RowQueue(const RowQueue&) = delete;
    RowQueue& operator=(const RowQueue&) = delete;

    /// Adds a row, once there is room for it. What `map` throws comes out of the future.
    [[nodiscard]] std::future<std::vector<Answer>> submit(PeakList peaks);

  private:
    struct Row {
        PeakList peaks;
        std::promise<std::vector<Answer>> answers;
    };

    void serve();

    const Map map_;
    const std::size_t capacity_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Row> rows_;
    std::size_t submitters_ = 0;  // calls of submit() that wait for room
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace microinfer::mapper
