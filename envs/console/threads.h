// A pool of threads that works through the rows of a step.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace console {

inline long process_id() {
#if defined(_WIN32)
  return 0;  // no process is forked there
#else
  return long(getpid());
#endif
}

// Runs `work(row, thread)` for each row. Threads take the next row that nobody has, since games take
// differently long, and look for work a moment longer than they need before they sleep: waking one takes
// as long as a frame or two. A forked process has none of its parent's threads: Pool::alive
// tells, and such a pool is left as it is, never destroyed.
class Pool {
 public:
  using Work = std::function<void(int row, int thread)>;

  explicit Pool(int threads) : process_(process_id()) {
    for (int k = 0; k < threads; k++) threads_.emplace_back([this, k] { run(k); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  bool alive() const { return process_ == process_id(); }
  int size() const { return int(threads_.size()); }

  void start(int rows, Work work) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = std::move(work);
      rows_ = rows;
      next_ = 0;
      busy_ = size();
      round_++;
    }
    wake_.notify_all();
  }
  // Takes rows in the calling thread too, until none is left.
  void help(int thread) { take_rows(thread); }
  void wait() {
    if (spin([this] { return busy_ == 0; })) return;
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  template <class Condition>
  static bool spin(Condition condition) {
    for (int k = 0; k < 1000; k++) {
      if (condition()) return true;
      relax();
    }
    return false;
  }
  static void relax() {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    asm volatile("yield");
#endif
  }
  void take_rows(int thread) {
    for (int row; (row = next_.fetch_add(1)) < rows_;) work_(row, thread);
  }
  void run(int thread) {
    unsigned long round = 0;
    for (;;) {
      if (!spin([&] { return stop_ || round_ != round; })) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || round_ != round; });
      }
      if (stop_) return;
      round = round_;
      take_rows(thread);
      if (--busy_ > 0) continue;
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_all();
    }
  }

  long process_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Work work_;
  std::atomic<int> next_{0}, busy_{0};
  std::atomic<unsigned long> round_{0};
  std::atomic<bool> stop_{false};
  int rows_ = 0;
};

}  // namespace console
