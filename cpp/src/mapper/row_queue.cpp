#include "row_queue.hpp"

#include <exception>
#include <stdexcept>
#include <utility>

namespace microinfer::mapper {

namespace {

std::runtime_error destroyed() {
    return std::runtime_error("this row was not mapped: its Mapper was destroyed while the row waited");
}

}  // namespace

RowQueue::RowQueue(Map map, std::size_t capacity) : map_(std::move(map)), capacity_(capacity) {
    if (capacity < 1) {
        throw std::invalid_argument("MapperOptions::queue must be at least 1, got 0");
    }
    thread_ = std::thread([this] { serve(); });
}

RowQueue::~RowQueue() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
    for (Row& row : rows_) {
        row.answers.set_exception(std::make_exception_ptr(destroyed()));
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return submitters_ == 0; });
}

std::future<std::vector<Answer>> RowQueue::submit(PeakList peaks) {
    std::unique_lock lock(mutex_);
    ++submitters_;
    changed_.wait(lock, [this] { return stopping_ || rows_.size() < capacity_; });
    --submitters_;
    if (stopping_) {
        changed_.notify_all();
        throw destroyed();
    }
    rows_.push_back({std::move(peaks), {}});
    changed_.notify_all();
    return rows_.back().answers.get_future();
}

void RowQueue::serve() {
    for (;;) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || !rows_.empty(); });
        if (stopping_) {
            return;
        }
        Row row = std::move(rows_.front());
        rows_.pop_front();
        lock.unlock();
        changed_.notify_all();
        try {
            row.answers.set_value(map_(row.peaks.view()));
        } catch (...) {
            row.answers.set_exception(std::current_exception());
        }
    }
}

}  // namespace microinfer::mapper
