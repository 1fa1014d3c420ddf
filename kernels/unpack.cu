// Samples as files store them, on their way to tiles: byte orders, predictors, planes, windows.
//
// A block makes one row of a window, from left to right: its threads share out the row, and where a
// predictor has stored differences, each adds what those before it have summed.
#include "pixel.h"

constexpr int UNPACKERS = 64;

struct Sums {
  u64 of[UNPACKERS];
};

template <class T>
INLINE T in_order(const Unpack& job, T value) {
  if (!job.swapped) return value;
  u64 turned = 0;
  for (int i = 0; i < (int)sizeof(T); ++i) turned = turned << 8 | ((u64)value >> (8 * i) & 255);
  return (T)turned;
}

// What all threads before this one have summed.
template <class T>
INLINE T sum_before(Sums& sums, T own, int lane) {
  sums.of[lane] = own;
  BARRIER();
  T sum = 0;
  for (int i = 0; i < lane; ++i) sum += (T)sums.of[i];
  BARRIER();
  return sum;
}

// A thread's share of `all` in a row.
struct Share {
  int begin, end;
};

INLINE Share share_of(int all, int lane) {
  const int share = (all + UNPACKERS - 1) / UNPACKERS, begin = smaller(lane * share, all);
  return {begin, smaller(begin + share, all)};
}

template <class T>
INLINE void copy_row(const Unpack& job, const T* from, T* to, int lane) {
  from += (i64)job.left * job.samples;
  for (int i = lane; i < job.columns * job.samples; i += UNPACKERS)
    to[(i64)(i / job.samples) * job.stride + i % job.samples] = in_order(job, from[i]);
}

// Each sample is stored as its difference to that of the pixel before.
template <class T>
INLINE void sum_row(const Unpack& job, Sums& sums, const T* from, T* to, int lane) {
  const Share share = share_of(job.left + job.columns, lane);
  for (int s = 0; s < job.samples; ++s) {
    T sum = 0;
    for (int x = share.begin; x < share.end; ++x) sum += in_order(job, from[(i64)x * job.samples + s]);
    sum = sum_before(sums, sum, lane);
    for (int x = share.begin; x < share.end; ++x) {
      sum += in_order(job, from[(i64)x * job.samples + s]);
      if (x >= job.left) to[(i64)(x - job.left) * job.stride + s] = sum;
    }
  }
}

// A row holds the highest bytes of all its samples, then the next: each as a difference, as above.
INLINE void join_row(const Unpack& job, Sums& sums, const u8* from, u8* to, int lane) {
  const Share share = share_of(job.width * job.size, lane);
  for (int s = 0; s < job.samples; ++s) {
    u8 sum = 0;
    for (int k = share.begin; k < share.end; ++k) sum += from[(i64)k * job.samples + s];
    sum = sum_before(sums, sum, lane);
    for (int k = share.begin; k < share.end; ++k) {
      sum += from[(i64)k * job.samples + s];
      const int x = k % job.width - job.left, byte = job.size - 1 - k / job.width;
      if (x >= 0 && x < job.columns) to[((i64)x * job.stride + s) * job.size + byte] = sum;
    }
  }
}

template <class T>
INLINE void unpack_as(const Unpack& job, Sums& sums, const void* from, void* to, int lane) {
  if (job.predictor == 2)
    sum_row(job, sums, (const T*)from, (T*)to, lane);
  else
    copy_row(job, (const T*)from, (T*)to, lane);
}

INLINE void unpack_row(const Unpack& job, Sums& sums, i64 row, int lane) {
  const u8* from = (const u8*)job.from + row * job.from_pitch;
  u8* to = (u8*)job.to + row * job.to_pitch;
  if (job.predictor == 3)
    join_row(job, sums, from, to, lane);
  else if (job.size == 1)
    unpack_as<u8>(job, sums, from, to, lane);
  else if (job.size == 2)
    unpack_as<u16>(job, sums, from, to, lane);
  else if (job.size == 4)
    unpack_as<u32>(job, sums, from, to, lane);
  else
    unpack_as<u64>(job, sums, from, to, lane);
}

BLOCK_KERNEL(unpack, Unpack, Sums, UNPACKERS, unpack_row)
