// The only file that knows the target: CUDA (NVRTC, nvcc) or the host (g++, clang).
//
// A pixel kernel is a function of (job, run): it computes up to RUN neighbouring pixels
// of one row. PIXEL_KERNEL turns it into an entry point over a table of jobs: on CUDA
// blockIdx.y is the job and every thread one run; the host loops over both.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#if defined(__CUDACC__)

#define INLINE __device__ __forceinline__
#define INLINE_LAMBDA

constexpr int RUN = 4;
constexpr int SHARED_BINS = 4096;

INLINE u32 bits_of(float value) { return __float_as_uint(value); }
INLINE u64 bits_of(double value) { return (u64)__double_as_longlong(value); }
INLINE double double_of(u64 bits) { return __longlong_as_double((long long)bits); }

INLINE void increment(u64* counter, u64 by) { atomicAdd(counter, by); }
INLINE void increment(u32* counter) { atomicAdd(counter, 1u); }

#define PIXEL_KERNEL(name, Job, function)                            \
  extern "C" __global__ void name(const Job* jobs) {                 \
    const Job& job = jobs[blockIdx.y];                               \
    const i64 run = (i64)blockIdx.x * blockDim.x + threadIdx.x;      \
    if (run < job.runs) function(job, run);                          \
  }

// Counting in three steps with a barrier between them: the bins of a block are shared.
#define COUNT_KERNEL(name, Job, clear, count, flush)                 \
  extern "C" __global__ void name(const Job* jobs) {                 \
    __shared__ u32 shared[SHARED_BINS];                              \
    const Job& job = jobs[blockIdx.y];                               \
    clear(job, shared, threadIdx.x, blockDim.x);                     \
    __syncthreads();                                                 \
    const i64 step = (i64)gridDim.x * blockDim.x;                    \
    i64 run = (i64)blockIdx.x * blockDim.x + threadIdx.x;            \
    for (; run < job.runs; run += step) count(job, shared, run);     \
    __syncthreads();                                                 \
    flush(job, shared, threadIdx.x, blockDim.x);                     \
  }

#else

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))  // else clones call it, compiled for the lowest level

constexpr int RUN = 1024;
constexpr int SHARED_BINS = 4096;

INLINE u32 bits_of(float value) {
  u32 bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

INLINE u64 bits_of(double value) {
  u64 bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

INLINE double double_of(u64 bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

INLINE void increment(u64* counter, u64 by) { *counter += by; }
INLINE void increment(u32* counter) { *counter += 1; }

// One portable binary that uses the vectors the machine has. The bits do not depend on
// the level: nothing is contracted to a fused multiply-add, nothing is reassociated.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(GPUTILES_ONE_LEVEL)
#define LEVELS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LEVELS
#endif

#define EXPORT extern "C" __attribute__((visibility("default"))) LEVELS

#define PIXEL_KERNEL(name, Job, function)                            \
  EXPORT void name(const Job* jobs, i64 count) {                     \
    for (i64 j = 0; j < count; ++j)                                  \
      for (i64 run = 0; run < jobs[j].runs; ++run) function(jobs[j], run); \
  }

#define COUNT_KERNEL(name, Job, clear, step, flush)                  \
  EXPORT void name(const Job* jobs, i64 count) {                     \
    u32 shared[SHARED_BINS];                                         \
    for (i64 j = 0; j < count; ++j) {                                \
      clear(jobs[j], shared, 0, 1);                                  \
      for (i64 run = 0; run < jobs[j].runs; ++run) step(jobs[j], shared, run); \
      flush(jobs[j], shared, 0, 1);                                  \
    }                                                                \
  }

#endif
