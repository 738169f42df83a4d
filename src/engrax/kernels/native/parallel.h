// Work shared out over XLA's thread pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace engrax {

// Parts of a job, taken one after another by whoever is free. The caller works too, and waits only for parts that
// somebody has taken: tasks that the pool never starts are not missed.
class Job {
 public:
  Job(int64_t parts, std::function<void(int64_t)> work) : parts_(parts), work_(std::move(work)) {}

  void run() {
    for (int64_t part; (part = next_.fetch_add(1)) < parts_;) {
      work_(part);
      std::lock_guard<std::mutex> lock(mutex_);
      if (++done_ == parts_) finished_.notify_all();
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return done_ == parts_; });
  }

 private:
  const int64_t parts_;
  const std::function<void(int64_t)> work_;
  std::atomic<int64_t> next_{0};
  int64_t done_ = 0;
  std::mutex mutex_;
  std::condition_variable finished_;
};

// `work(part)` for every part.
template <typename F>
void in_parallel(xla::ffi::ThreadPool& pool, int64_t parts, F work) {
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), parts) - 1;
  if (helpers <= 0) {
    for (int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  auto job = std::make_shared<Job>(parts, work);
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([job] { job->run(); });
  job->run();
  job->wait();
}

}  // namespace engrax
