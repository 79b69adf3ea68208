/// Parallel loops on a pool of threads of our own, made at first use.
///
/// The number of threads is OMP_NUM_THREADS where that is set, else the number of processors this process may
/// run on. A forked child starts with a fresh pool. A loop that is started while another one runs, or from
/// within another one's body, runs on its calling thread alone.
#pragma once

#include <cstdint>
#include <functional>

namespace microinfer {

/// Threads that a parallel loop uses, the calling one included; at least 1.
int num_threads();

/// Sets the number of threads of the loops that start from now on. Throws std::invalid_argument below 1.
void set_num_threads(int count);

/// Calls `body(begin, end)` for consecutive blocks of at most `block` indices that cover [0, size), on
/// several threads and in no particular order. The first exception that a body throws is thrown here, once
/// all blocks that had started are done. Blocks do not depend on the number of threads.
void parallel_for(std::int64_t size, std::int64_t block,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body);

}  // namespace microinfer
