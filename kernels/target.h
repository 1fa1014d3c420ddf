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
#define CONSTANT_TABLE __device__ constexpr

constexpr int RUN = 4;
constexpr int SPAN = 16;
constexpr bool IN_VECTORS = false;  // whether a thread does many values at a time
constexpr int SHARED_BINS = 4096;

INLINE u32 bits_of(float value) { return __float_as_uint(value); }
INLINE u64 bits_of(double value) { return (u64)__double_as_longlong(value); }
INLINE double double_of(u64 bits) { return __longlong_as_double((long long)bits); }

INLINE void increment(u64* counter, u64 by) { atomicAdd(counter, by); }
INLINE void increment(u32* counter) { atomicAdd(counter, 1u); }

INLINE void increment(u32* counter, u32 by) { atomicAdd(counter, by); }
INLINE void join_bits(u32* word, u32 bits) { atomicOr(word, bits); }
INLINE void turn_bits(u32* word, u32 bits) { atomicXor(word, bits); }
INLINE void lower(u32* value, u32 to) { atomicMin(value, to); }
#define BARRIER() __syncthreads()

INLINE void bring_near(const void*, i64) {}

INLINE int lowest(u64 mask) { return __ffsll((long long)mask) - 1; }

INLINE void copy_four(const u8* from, u8* to) {
  for (int i = 0; i < 4; ++i) to[i] = from[i];
}

#define WITH_AVX2(...)

template <int samples, class F> INLINE int fold_blocks(const u8*, const u8*, int, u8*, F) { return 1; }

INLINE void weave(const u8* red, const u8* green, const u8* blue, int count, u8* out) {
  for (int i = 0; i < count; ++i) out[3 * i] = red[i], out[3 * i + 1] = green[i], out[3 * i + 2] = blue[i];
}

INLINE void store_big_endian(u8* to, u64 value) {
  for (int i = 0; i < 8; ++i) to[i] = (u8)(value >> (56 - 8 * i));
}

INLINE void store_little_endian(u8* to, u64 value) {
  for (int i = 0; i < 8; ++i) to[i] = (u8)(value >> 8 * i);
}

INLINE u64 load_little_endian(const u8* from) {
  u64 value = 0;
  for (int i = 0; i < 8; ++i) value |= (u64)from[i] << 8 * i;
  return value;
}

INLINE void rows_to_columns(const i16* rows, i16* const (&columns)[8], int count) {
  for (int b = 0; b < count; ++b)
    for (int i = 0; i < 8; ++i) columns[i][b] = rows[8 * b + i];
}

INLINE void columns_to_rows(const i16* const (&columns)[8], i16* rows, int step, int count) {
  for (int b = 0; b < count; ++b)
    for (int i = 0; i < 8; ++i) rows[b * step + i] = columns[i][b];
}

INLINE int copy_until_255(const u8* from, const u8* end, u8* to) {
  int i = 0;
  for (; from + i < end && from[i] != 255; ++i) to[i] = from[i];
  return i;
}

#define PIXEL_KERNEL(name, Job, function)                            \
  extern "C" __global__ void name(const Job* jobs) {                 \
    const Job& job = jobs[blockIdx.y];                               \
    const i64 run = (i64)blockIdx.x * blockDim.x + threadIdx.x;      \
    if (run < job.runs) function(job, run);                          \
  }

// A block of `threads` does one run; its threads share a Shared and meet at barriers.
#define BLOCK_KERNEL(name, Job, Shared, threads, function)           \
  extern "C" __global__ void __launch_bounds__(threads) name(const Job* jobs) { \
    __shared__ Shared shared;                                        \
    const Job& job = jobs[blockIdx.y];                               \
    if (blockIdx.x < job.runs) function(job, shared, blockIdx.x, (int)threadIdx.x); \
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

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))  // else clones call it, compiled for the lowest level
#define CONSTANT_TABLE static constexpr

constexpr int RUN = 1024;
constexpr int SPAN = 256;  // pixels of a JPEG segment at a time: what a level 1 cache holds; a multiple of 128
constexpr bool IN_VECTORS = true;
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
INLINE void join_bits(u32* word, u32 bits) { *word |= bits; }

// A hint that memory will be read or written; there need not be any.
INLINE void bring_near(const void* from, i64 size) {
  for (i64 i = 0; i < size; i += 64) __builtin_prefetch((const u8*)from + i);
}

// The place of the lowest bit that is set; there must be one.
INLINE int lowest(u64 mask) { return __builtin_ctzll(mask); }

INLINE void copy_four(const u8* from, u8* to) { __builtin_memcpy(to, from, 4); }

INLINE void store_big_endian(u8* to, u64 value) {
  value = __builtin_bswap64(value);
  __builtin_memcpy(to, &value, sizeof value);
}

INLINE void store_little_endian(u8* to, u64 value) { __builtin_memcpy(to, &value, sizeof value); }

INLINE u64 load_little_endian(const u8* from) {
  u64 value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

typedef i16 Eight __attribute__((vector_size(16)));

INLINE Eight load_eight(const i16* from) {
  Eight values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}

INLINE void store_eight(i16* to, Eight values) { __builtin_memcpy(to, &values, sizeof values); }

// Merges the halves of neighbouring pairs three times, which transposes 8 × 8 values.
INLINE void transpose(Eight (&v)[8]) {
  for (int step = 0; step < 3; ++step) {
    Eight merged[8];
    for (int i = 0; i < 4; ++i) {
      merged[2 * i] = __builtin_shuffle(v[i], v[i + 4], Eight{0, 8, 1, 9, 2, 10, 3, 11});
      merged[2 * i + 1] = __builtin_shuffle(v[i], v[i + 4], Eight{4, 12, 5, 13, 6, 14, 7, 15});
    }
    for (int i = 0; i < 8; ++i) v[i] = merged[i];
  }
}

// columns[i][b] = rows[8 b + i] for b < count, a multiple of 8.
INLINE void rows_to_columns(const i16* rows, i16* const (&columns)[8], int count) {
  for (int b = 0; b < count; b += 8) {
    Eight v[8];
    for (int i = 0; i < 8; ++i) v[i] = load_eight(rows + 8 * (b + i));
    transpose(v);
    for (int i = 0; i < 8; ++i) store_eight(columns[i] + b, v[i]);
  }
}

// rows[step b + i] = columns[i][b] for b < count, a multiple of 8.
INLINE void columns_to_rows(const i16* const (&columns)[8], i16* rows, int step, int count) {
  for (int b = 0; b < count; b += 8) {
    Eight v[8];
    for (int i = 0; i < 8; ++i) v[i] = load_eight(columns[i] + b);
    transpose(v);
    for (int i = 0; i < 8; ++i) store_eight(rows + step * (b + i), v[i]);
  }
}

// Whether a vector's bytes are put in any order in one instruction; else that takes one for each.
#if defined(__x86_64__)
INLINE bool reorders_bytes() { return __builtin_cpu_supports("avx2"); }
#else
INLINE bool reorders_bytes() { return true; }
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // only functions that are inlined hand vectors on

// A statement of functions for AVX2 (vectors.h), where the processor has it; a library of one level has its own.
#if defined(__AVX2__)
#define WITH_AVX2(...) __VA_ARGS__
#elif defined(__x86_64__) && !defined(GPUTILES_ONE_LEVEL)
#define WITH_AVX2(...) \
  if (__builtin_cpu_supports("avx2")) __VA_ARGS__
#else
#define WITH_AVX2(...)
#endif
#if defined(__x86_64__)
#include "vectors.h"
#endif
#include "weave.h"

typedef u8 ByteVector __attribute__((vector_size(32)));
typedef u16 WordVector __attribute__((vector_size(32)));

// The order in which the bytes of eight pixels stand next to those of their neighbours that they are added to,
// four pixels in each half. Of three samples, four bytes at either end belong to other pixels.
template <int samples> struct Blocks;
template <> struct Blocks<3> {
  static constexpr int before = 4;
  static constexpr ByteVector pairs = {4,  7,  5,  8,  6,  9,  10, 13, 11, 14, 12, 15, 4,  4,  4,  4,
                                       16, 19, 17, 20, 18, 21, 22, 25, 23, 26, 24, 27, 16, 16, 16, 16};
};
template <> struct Blocks<4> {
  static constexpr int before = 0;
  static constexpr ByteVector pairs = {0,  4,  1,  5,  2,  6,  3,  7,  8,  12, 9,  13, 10, 14, 11, 15,
                                       16, 20, 17, 21, 18, 22, 19, 23, 24, 28, 25, 29, 26, 30, 27, 31};
};

// Columns of out that are made of the sums of columns 2 i and 2 i + 1 of both rows, by a function that changes
// them in place: from the second up to the one that is returned, which is one of `count` and may be written to.
// Returns 1 where vectors do not pay.
template <int samples, class F>
INLINE int fold_blocks(const u8* upper, const u8* lower, int count, u8* out, F function) {
  if (!reorders_bytes()) return 1;
  constexpr ByteVector low = {0,  2,  4,  6,  8,  10, 12, 14, 0,  0,  0,  0,  0,  0,  0,  0,
                              16, 18, 20, 22, 24, 26, 28, 30, 16, 16, 16, 16, 16, 16, 16, 16};
  const u8* const rows[] = {upper, lower};
  int i = 1;
  for (; i + 4 < count; i += 4) {
    WordVector sums = {};
    for (const u8* row : rows) {
      ByteVector bytes;
      __builtin_memcpy(&bytes, row + 2 * samples * i - Blocks<samples>::before, sizeof bytes);
      const WordVector pairs = (WordVector)__builtin_shuffle(bytes, Blocks<samples>::pairs);
      sums += (pairs & 255) + (pairs >> 8);
    }
    function(sums);
    const ByteVector means = __builtin_shuffle((ByteVector)sums, low);
    __builtin_memcpy(out + samples * i, &means, 8);
    __builtin_memcpy(out + samples * (i + 2), (const u8*)&means + 16, 8);
  }
  return i;
}

// One bit for each of 64 bytes that is 255; the first one's is the lowest.
INLINE u64 all_ones(const u8* bytes) {
  u64 found = 0;
#ifdef __SSE2__
  for (int i = 0; i < 64; i += 16) {
    const __m128i some = _mm_loadu_si128((const __m128i*)(bytes + i));
    found |= (u64)_mm_movemask_epi8(_mm_cmpeq_epi8(some, _mm_set1_epi8(-1))) << i;
  }
#else
  for (int i = 0; i < 64; ++i) found |= (u64)(bytes[i] == 255) << i;
#endif
  return found;
}

// Copies bytes up to the first 255 or to the end and returns how many; may read and write 7 more.
INLINE int copy_until_255(const u8* from, const u8* end, u8* to) {
  int i = 0;
  while (from + i < end) {
    u64 eight;
    __builtin_memcpy(&eight, from + i, sizeof eight);
    __builtin_memcpy(to + i, &eight, sizeof eight);
    const u64 found = ((eight & 0x7f7f7f7f7f7f7f7full) + 0x0101010101010101ull) & eight & 0x8080808080808080ull;
    if (found) {
      const int at = i + (lowest(found) >> 3);
      return at < end - from ? at : (int)(end - from);
    }
    i += 8;
  }
  return (int)(end - from);
}

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

// One bit for each of 64 values that is not 0; the first one's is the lowest.
#if defined(__SSE2__) && !defined(__CUDACC__)
INLINE u64 not_zero(const i16* values) {
  u64 zeros = 0;
  for (int i = 0; i < 64; i += 16) {
    const __m128i low = _mm_loadu_si128((const __m128i*)(values + i));
    const __m128i high = _mm_loadu_si128((const __m128i*)(values + i + 8));
    zeros |= (u64)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_packs_epi16(low, high), _mm_setzero_si128())) << i;
  }
  return ~zeros;
}
#else
INLINE u64 not_zero(const i16* values) {
  u64 mask = 0;
  for (int k = 0; k < 64; k += 8) {
    u64 eight = 0;
    for (int i = 0; i < 8; ++i) eight |= (u64)(values[k + i] != 0) << (8 * i);
    mask |= (eight * 0x0102040810204080ull >> 56) << k;
  }
  return mask;
}
#endif
