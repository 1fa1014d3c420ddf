// A pool of threads of the library's own, which take shares of a call. For the host alone.
//
// A share is a chain of kernels. Who calls does shares itself, one after the other, and so does each thread that it
// rings, until none is left: whoever comes late does fewer. They touch nothing of Python's, whose lock takes as long
// to go from thread to thread as a share does. Who has done its shares stays awake for a while, and gives way to
// whoever needs its core: what is decoded is drawn next, one tile follows the other, and to be woken takes long.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

#include "target.h"

// Step: STEP in hostlib.py.
struct Step {
  void (*kernel)(const void* table, i64 jobs);
  const void* table;
  i64 jobs;
};

INLINE void run_steps(const Step* steps, i64 count) {
  for (i64 i = 0; i < count; ++i) steps[i].kernel(steps[i].table, steps[i].jobs);
}

class Pool {
 public:
  // One on each of `cores`, or where the system likes (-1); fewer where it has no more threads.
  Pool(const i64* cores, i64 count) {
    for (i64 i = 0; i < count; ++i) all_.push_back(std::make_unique<Member>((int)cores[i]));
    try {
      for (auto& member : all_) member->thread = std::thread([this, &member] { serve(*member); });
    } catch (const std::system_error&) {
    }
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> guard(lock_);
      over_ = true;
      for (auto& member : all_) member->bell.notify_one();
    }
    for (auto& member : all_)
      if (member->thread.joinable()) member->thread.join();
  }

  // Wakes up to `most` of the members that have nothing to do, for a round that is about to come.
  void wake(i64 most) {
    std::lock_guard<std::mutex> guard(lock_);
    const int own = here();
    for (auto& member : all_) {
      if (most <= 0) return;
      if (!free(*member, own)) continue;
      member->woken = true;
      member->bell.notify_one();
      most -= 1;
    }
  }

  // Does `count` shares of `length` steps, with at most `most` of the members that have nothing to do.
  void run(const Step* steps, i64 length, i64 count, i64 most) {
    Round round(steps, length, count);
    ring(round, most);
    work(round);
    const auto done = [&] { return !round.busy(); };
    if (awaited(done)) return;
    std::unique_lock<std::mutex> guard(lock_);
    left_.wait(guard, done);
  }

 private:
  static constexpr auto AWAKE = std::chrono::milliseconds(1);  // many times what it takes to be woken

  struct Round {
    Round(const Step* steps, i64 length, i64 count) : steps(steps), length(length), count(count) {}
    bool busy() const { return members.load(std::memory_order_acquire); }

    const Step* const steps;
    const i64 length, count;
    std::atomic<i64> next{0};     // share
    std::atomic<i64> members{0};  // that have not left it
  };

  struct Member {
    explicit Member(int core) : core(core) {}

    const int core;
    std::atomic<Round*> round{nullptr};
    bool ready = false;  // waits to be rung
    bool woken = false;
    std::condition_variable bell;
    std::thread thread;
  };

  // Whether a member has nothing to do, and is not on the core of who calls, who goes on there.
  static bool free(const Member& member, int own) { return member.ready && (member.core < 0 || member.core != own); }

  // Gives a round to those that have nothing to do.
  void ring(Round& round, i64 most) {
    if (most > round.count - 1) most = round.count - 1;
    if (most <= 0) return;
    const int own = here();
    std::lock_guard<std::mutex> guard(lock_);
    for (auto& member : all_) {
      if (!free(*member, own)) continue;
      member->round = &round;
      member->ready = false;
      member->bell.notify_one();
      if (round.members.fetch_add(1, std::memory_order_relaxed) + 1 == most) return;
    }
  }

  static void work(Round& round) {
    for (i64 at; (at = round.next.fetch_add(1, std::memory_order_relaxed)) < round.count;)
      run_steps(round.steps + at * round.length, round.length);
  }

  void serve(Member& self) {
    stay(self.core);
    std::unique_lock<std::mutex> guard(lock_);
    for (bool awake = false;; awake = true) {
      self.ready = true;
      if (awake) {
        guard.unlock();
        awaited([&] { return self.round.load(); });
        guard.lock();
      }
      self.bell.wait(guard, [&] { return self.round.load() || self.woken || over_; });
      self.woken = false;
      Round* round = self.round.load();
      if (!round && over_) return;
      if (!round) continue;
      guard.unlock();
      work(*round);
      guard.lock();
      self.round = nullptr;
      if (round->members.fetch_sub(1, std::memory_order_release) == 1) left_.notify_all();
    }
  }

  // Stays awake until `come` says so, for a while; says whether it did.
  template <typename Come>
  static bool awaited(const Come& come) {
    const auto end = std::chrono::steady_clock::now() + AWAKE;
    while (!come()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

#ifdef __linux__
  static int here() { return sched_getcpu(); }

  // What cores a process may use can change; then the thread moves.
  static void stay(int core) {
    if (core < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  }
#else
  static int here() { return -1; }
  static void stay(int) {}
#endif

  std::mutex lock_;
  std::condition_variable left_;
  std::vector<std::unique_ptr<Member>> all_;
  bool over_ = false;
};
