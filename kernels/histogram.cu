// Measures of one sample of a raster: extremes, row by row, and histograms.
#include "pixel.h"

template <class T> INLINE bool is_counted(const Measure& job, const T* pixel, i64 at, T nodata) {
  if (job.source.valid && !((const u8*)job.source.valid)[at]) return false;
  return is_finite(*pixel) && !(job.source.has_nodata && *pixel == nodata);
}

template <class T> INLINE void extremes_row(const Measure& job, i64 row) {
  const Source& source = job.source;
  const T nodata = from_table<T>(source.nodata);
  const T* v = (const T*)source.pixels + row * source.columns * source.samples + job.sample;
  T low = 0, high = 0;
  i64 count = 0;
  for (int x = 0; x < source.columns; ++x, v += source.samples) {
    if (!is_counted(job, v, row * source.columns + x, nodata)) continue;
    low = count ? smaller(low, *v) : *v;
    high = count ? larger(high, *v) : *v;
    count += 1;
  }
  Extremes& out = ((Extremes*)job.out)[row];
  out.low = (double)low, out.high = (double)high, out.count = count;
}

INLINE void extremes_run(const Measure& job, i64 row) {
  return with_type(job.source.type, [&](auto like) INLINE_LAMBDA {
    return extremes_row<decltype(like)>(job, row);
  });
}

// Few bins are counted close by and added up once; many are counted where they lie.
INLINE void count_one(const Measure& job, u32* shared, int bin) {
  if (job.bins <= SHARED_BINS)
    increment(shared + bin);
  else
    increment((u64*)job.out + bin, 1);
}

template <class T> INLINE void count_row(const Measure& job, u32* shared, i64 row) {
  const Source& source = job.source;
  const T nodata = from_table<T>(source.nodata);
  const double* edges = (const double*)job.edges;
  const T* v = (const T*)source.pixels + row * source.columns * source.samples + job.sample;
  for (int x = 0; x < source.columns; ++x, v += source.samples) {
    if (!is_counted(job, v, row * source.columns + x, nodata)) continue;
    const double value = (double)*v;
    if (job.direct)
      count_one(job, shared, (int)*v - job.direct_low);
    else if (value >= job.low && value <= job.high)
      count_one(job, shared, bin_of(value, job.low, job.high, job.bins, edges));
  }
}

INLINE void count_run(const Measure& job, u32* shared, i64 row) {
  return with_type(job.source.type, [&](auto like) INLINE_LAMBDA {
    return count_row<decltype(like)>(job, shared, row);
  });
}

INLINE void clear_bins(const Measure& job, u32* shared, int thread, int threads) {
  for (int i = thread; i < job.bins && i < SHARED_BINS; i += threads) shared[i] = 0;
}

INLINE void flush_bins(const Measure& job, u32* shared, int thread, int threads) {
  if (job.bins > SHARED_BINS) return;
  for (int i = thread; i < job.bins; i += threads)
    if (shared[i]) increment((u64*)job.out + i, shared[i]);
}

PIXEL_KERNEL(extremes, Measure, extremes_run)
COUNT_KERNEL(histogram, Measure, clear_bins, count_run, flush_bins)
