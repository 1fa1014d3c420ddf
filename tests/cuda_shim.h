// Runs CUDA kernels on the processor, for tests: a block's threads take turns as fibers.
//
// A kernel without barriers needs no fibers: its threads run one after another. In one with
// barriers a thread goes on until it waits; the next one is then resumed. ORDER = -1 resumes them
// from the last to the first: what does not depend on a forgotten barrier does not depend on this.
#pragma once

#define __CUDACC__ 1
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static thread_local

#include <string.h>
#include <ucontext.h>

#include <vector>

struct Index {
  unsigned x, y, z;
};

static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline long long __double_as_longlong(double value) {
  long long bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline double __longlong_as_double(long long bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline int __ffsll(long long mask) { return __builtin_ffsll(mask); }

template <class T> static inline T atomicAdd(T* counter, T by) {
  const T old = *counter;
  *counter = old + by;
  return old;
}

namespace shim {

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done;
};

struct Block {
  ucontext_t main;
  std::vector<Fiber> fibers;
  unsigned current;
  unsigned waiting;
};

static thread_local Block block;
static thread_local void (*body)();

static inline void run_fiber() {
  body();
  block.fibers[block.current].done = true;
  swapcontext(&block.fibers[block.current].context, &block.main);
}

// Runs a block; false where some threads ended and others wait at a barrier.
static inline bool run_block(unsigned threads, int order) {
  block.fibers.resize(threads);
  for (auto& fiber : block.fibers) {
    fiber.stack.resize(128 * 1024);
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, run_fiber, 0);
  }
  for (unsigned ended = 0; ended < threads;) {
    block.waiting = ended = 0;
    for (unsigned turn = 0; turn < threads; ++turn) {
      block.current = order < 0 ? threads - 1 - turn : turn;
      threadIdx = {block.current, 0, 0};
      swapcontext(&block.main, &block.fibers[block.current].context);
      ended += block.fibers[block.current].done;
    }
    if (ended && ended < threads) return false;
  }
  return true;
}

static inline bool launch(void (*kernel)(), unsigned across, unsigned down, unsigned threads, bool fibers, int order) {
  body = kernel;
  gridDim = {across, down, 1};
  blockDim = {threads, 1, 1};
  for (unsigned y = 0; y < down; ++y)
    for (unsigned x = 0; x < across; ++x) {
      blockIdx = {x, y, 0};
      if (fibers && !run_block(threads, order)) return false;
      for (unsigned t = 0; !fibers && t < threads; ++t) {
        threadIdx = {t, 0, 0};
        kernel();
      }
    }
  return true;
}

}  // namespace shim

static inline void __syncthreads() {
  swapcontext(&shim::block.fibers[shim::block.current].context, &shim::block.main);
}

// Exports a kernel over one table: run_<name>(table, grid, block, fibers, order) → 0 where it ended well.
#define SHIM_EXPORT(name, Job)                                                                        \
  static thread_local const Job* table_of_##name;                                                     \
  extern "C" int run_##name(const Job* table, unsigned across, unsigned down, unsigned threads,       \
                            int fibers, int order) {                                                  \
    table_of_##name = table;                                                                          \
    return !shim::launch([] { name(table_of_##name); }, across, down, threads, fibers != 0, order);   \
  }
