// Runs CUDA kernels on the processor, for tests: a block's threads take turns as fibers.
//
// A kernel without barriers needs no fibers: its threads run one after another. In one with
// barriers a thread goes on until it waits; the next one is then resumed. ORDER = -1 resumes them
// from the last to the first, 2 and more in shuffled orders: what does not depend on a forgotten
// barrier does not depend on this. Threads that meet at barriers of different lines fail.
#pragma once

#define __CUDACC__ 1
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(threads)
#define __shared__ static thread_local

#include <setjmp.h>
#include <stdint.h>
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

template <class T> static inline T atomicOr(T* word, T bits) {
  const T old = *word;
  *word = old | bits;
  return old;
}

template <class T> static inline T atomicXor(T* word, T bits) {
  const T old = *word;
  *word = old ^ bits;
  return old;
}

template <class T> static inline T atomicMin(T* value, T other) {
  const T old = *value;
  *value = old < other ? old : other;
  return old;
}

namespace shim {

// A context is entered once; after that threads go on by longjmp, which asks nothing of the system.
struct Fiber {
  ucontext_t context;
  jmp_buf place;
  std::vector<char> stack;
  bool done;
};

struct Block {
  jmp_buf main;
  std::vector<Fiber> fibers;
  std::vector<unsigned> order;
  unsigned current;
  int line;        // of the barrier at which threads wait
  bool divergent;  // they wait at several
};

static thread_local Block block;
static thread_local void (*body)();

static inline void run_fiber() {
  body();
  block.fibers[block.current].done = true;
  _longjmp(block.main, 1);
}

static char forgotten_file[64];  // of a barrier that is passed by
static int forgotten_line = 0;

static inline void barrier(const char* file, int line) {
  if (line == forgotten_line && strstr(file, forgotten_file)) return;
  block.divergent |= block.line && block.line != line;
  block.line = line;
  if (!_setjmp(block.fibers[block.current].place)) _longjmp(block.main, 1);
}

static inline void start(Fiber& fiber) {
  fiber.stack.resize(128 * 1024);
  fiber.done = false;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  makecontext(&fiber.context, run_fiber, 0);
}

// The order of a round: forwards, backwards, or (from 2 on) shuffled, each round in another way.
static inline void arrange(unsigned threads, int order, uint64_t& seed) {
  block.order.resize(threads);
  for (unsigned i = 0; i < threads; ++i) block.order[i] = order < 0 ? threads - 1 - i : i;
  for (unsigned i = threads; order > 1 && i > 1; --i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const unsigned other = (unsigned)(seed >> 33) % i, taken = block.order[i - 1];
    block.order[i - 1] = block.order[other];
    block.order[other] = taken;
  }
}

// Runs a block; false where some threads ended or wait at one barrier and others at another.
static inline bool run_block(unsigned threads, int order) {
  uint64_t seed = (uint64_t)order;
  block.fibers.resize(threads);
  for (auto& fiber : block.fibers) start(fiber);
  for (volatile unsigned ended = 0, round = 0; ended < threads; round = round + 1) {
    block.line = ended = 0;
    block.divergent = false;
    arrange(threads, order, seed);
    for (volatile unsigned turn = 0; turn < threads; turn = turn + 1) {
      Fiber& fiber = block.fibers[block.order[turn]];
      block.current = block.order[turn];
      threadIdx = {block.current, 0, 0};
      if (!_setjmp(block.main)) {
        if (round) _longjmp(fiber.place, 1);
        setcontext(&fiber.context);
      }
      ended = ended + block.fibers[block.current].done;
    }
    if (block.divergent || (ended && ended < threads)) return false;
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

// A macro, so that barriers of different lines are told apart.
#define __syncthreads() shim::barrier(__FILE__, __LINE__)

extern "C" void forget_barrier(const char* file, int line) {
  strncpy(shim::forgotten_file, file, sizeof shim::forgotten_file - 1);
  shim::forgotten_line = line;
}

// Exports a kernel over one table: run_<name>(table, grid, block, fibers, order) → 0 where it ended well.
#define SHIM_EXPORT(name, Job)                                                                        \
  static thread_local const Job* table_of_##name;                                                     \
  extern "C" int run_##name(const Job* table, unsigned across, unsigned down, unsigned threads,       \
                            int fibers, int order) {                                                  \
    table_of_##name = table;                                                                          \
    return !shim::launch([] { name(table_of_##name); }, across, down, threads, fibers != 0, order);   \
  }
