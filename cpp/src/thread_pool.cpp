#include <microinfer/thread_pool.hpp>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace microinfer {
namespace {

/// One parallel loop: its blocks are claimed one at a time, by whoever is free.
class Loop {
  public:
    Loop(std::int64_t size, std::int64_t block, const std::function<void(std::int64_t, std::int64_t)>& body)
        : size_(size), block_(block), body_(body) {}

    void work() {
        for (;;) {
            const std::int64_t begin = next_.fetch_add(block_, std::memory_order_relaxed);
            if (begin >= size_) {
                return;
            }
            try {
                body_(begin, std::min(begin + block_, size_));
            } catch (...) {
                next_.store(size_, std::memory_order_relaxed);
                const std::lock_guard lock(error_mutex_);
                if (!error_) {
                    error_ = std::current_exception();
                }
            }
        }
    }

    void rethrow() const {
        if (error_) {
            std::rethrow_exception(error_);
        }
    }

  private:
    const std::int64_t size_;
    const std::int64_t block_;
    const std::function<void(std::int64_t, std::int64_t)>& body_;
    std::atomic<std::int64_t> next_{0};
    std::mutex error_mutex_;
    std::exception_ptr error_;
};

/// Worker threads that join the calling thread in one loop at a time.
class Pool {
  public:
    explicit Pool(int workers) {
        for (int i = 0; i < workers; ++i) {
            try {
                threads_.emplace_back([this] { serve(); });
            } catch (const std::system_error&) {
                break;  // the system gives no more threads: the loop is right with fewer
            }
        }
    }

    ~Pool() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    /// False where the pool is busy with another loop; nothing has run then.
    bool try_run(Loop& loop) {
        const std::unique_lock busy(busy_, std::try_to_lock);
        if (!busy.owns_lock()) {
            return false;
        }
        {
            const std::lock_guard lock(mutex_);
            loop_ = &loop;
            ++generation_;
        }
        wake_.notify_all();
        loop.work();
        std::unique_lock lock(mutex_);
        loop_ = nullptr;  // a worker that wakes only now finds nothing to do
        idle_.wait(lock, [this] { return active_ == 0; });
        return true;
    }

  private:
    void serve();

    std::mutex busy_;  ///< held by the caller of the running loop
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable idle_;
    Loop* loop_ = nullptr;
    std::uint64_t generation_ = 0;
    int active_ = 0;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

thread_local bool inside_loop = false;

/// Marks the current thread as inside a loop's body, so that a loop in there runs on this thread alone.
class InsideLoop {
  public:
    InsideLoop() { inside_loop = true; }
    ~InsideLoop() { inside_loop = false; }
    InsideLoop(const InsideLoop&) = delete;
    InsideLoop& operator=(const InsideLoop&) = delete;
};

void Pool::serve() {
    const InsideLoop inside;
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return stop_ || (loop_ != nullptr && generation_ != seen); });
        if (stop_) {
            return;
        }
        seen = generation_;
        Loop& loop = *loop_;
        ++active_;
        lock.unlock();
        loop.work();
        lock.lock();
        if (--active_ == 0) {
            idle_.notify_one();
        }
    }
}

int available_processors() {
#ifdef __linux__
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        return std::max(1, CPU_COUNT(&allowed));
    }
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int default_threads() {
    if (const char* text = std::getenv("OMP_NUM_THREADS")) {
        char* end = nullptr;
        const long count = std::strtol(text, &end, 10);  // "4,2" sets nested levels: the first counts here
        if (end != text && count >= 1 && count <= 4096) {
            return static_cast<int>(count);
        }
    }
    return available_processors();
}

/// The process's pool and its size. Never destroyed, so that no thread is joined while the process exits.
struct Registry {
    std::mutex mutex;
    int threads = 0;  ///< 0: not yet asked for
    std::shared_ptr<Pool> pool;
};

Registry& registry() {
    static Registry* const instance = [] {
        auto* made = new Registry;
        pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                       [] {
                           // The parent's threads do not exist here: leave its pool behind, locks and all.
                           Registry& child = registry();
                           new std::shared_ptr<Pool>(std::move(child.pool));
                           child.pool = nullptr;
                           child.mutex.unlock();
                       });
        return made;
    }();
    return *instance;
}

int threads_of(Registry& shared) {
    if (shared.threads == 0) {
        shared.threads = default_threads();
    }
    return shared.threads;
}

std::shared_ptr<Pool> current_pool() {
    Registry& shared = registry();
    const std::lock_guard lock(shared.mutex);
    const int threads = threads_of(shared);
    if (threads > 1 && !shared.pool) {
        shared.pool = std::make_shared<Pool>(threads - 1);
    }
    return shared.pool;
}

}  // namespace

int num_threads() {
    Registry& shared = registry();
    const std::lock_guard lock(shared.mutex);
    return threads_of(shared);
}

void set_num_threads(int count) {
    if (count < 1) {
        throw std::invalid_argument("the number of threads must be at least 1, got " + std::to_string(count));
    }
    Registry& shared = registry();
    std::shared_ptr<Pool>
        retired;  // joined after the lock is gone; a loop that still runs on it keeps it alive
    const std::lock_guard lock(shared.mutex);
    if (count != shared.threads) {
        shared.threads = count;
        retired = std::move(shared.pool);
    }
}

void parallel_for(std::int64_t size, std::int64_t block,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
    if (size <= 0) {
        return;
    }
    if (block < 1) {
        throw std::invalid_argument("the block of a parallel loop must be at least 1, got " +
                                    std::to_string(block));
    }
    Loop loop(size, block, body);
    if (inside_loop) {
        loop.work();
    } else {
        const InsideLoop inside;
        const std::shared_ptr<Pool> pool = size > block ? current_pool() : nullptr;
        if (!pool || !pool->try_run(loop)) {
            loop.work();
        }
    }
    loop.rethrow();
}

}  // namespace microinfer
