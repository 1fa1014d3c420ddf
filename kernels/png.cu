// The row filters of PNG: per row the filter with the least sum of absolute differences, or of half of them.
#include "pixel.h"

constexpr int LONG_ROW = 1024;
constexpr int PART = 128;

enum Filter { NONE, SUB, UP, AVERAGE, PAETH, FILTERS };

INLINE u8 filtered(int filter, int value, int left, int above, int corner) {
  switch (filter) {
    case SUB: return (u8)(value - left);
    case UP: return (u8)(value - above);
    case AVERAGE: return (u8)(value - ((left + above) >> 1));
    case PAETH: return (u8)(value - paeth(left, above, corner));
    default: return (u8)value;
  }
}

// The bytes left of the row, and above the picture, are 0.
template <int filter, class Use>
INLINE void filter_row(const u8* row, const u8* above, int bytes, int stride, Use use) {
  for (int i = 0; i < smaller(stride, bytes); ++i)
    use(i, filtered(filter, row[i], 0, above ? above[i] : 0, 0));
  if (above)
    for (int i = stride; i < bytes; ++i)
      use(i, filtered(filter, row[i], row[i - stride], above[i], above[i - stride]));
  else
    for (int i = stride; i < bytes; ++i) use(i, filtered(filter, row[i], row[i - stride], 0, 0));
}

// Half of a long row tells as much as all of it: of every two parts the first.
template <int filter> INLINE i64 cost_row(const u8* row, const u8* above, int bytes, int stride) {
  u32 cost = 0;
  if (above && bytes >= LONG_ROW) {
    for (int begin = stride; begin + PART <= bytes; begin += 2 * PART)
      for (int i = begin; i < begin + PART; ++i)
        cost += cost_of(filtered(filter, row[i], row[i - stride], above[i], above[i - stride]));
    return cost;
  }
  filter_row<filter>(row, above, bytes, stride, [&](int, u8 byte) INLINE_LAMBDA { cost += cost_of(byte); });
  return cost;
}

template <int filter>
INLINE void store_row(const u8* row, const u8* above, int bytes, int stride, u8* out) {
  out[0] = (u8)filter;
  filter_row<filter>(row, above, bytes, stride, [=](int i, u8 byte) INLINE_LAMBDA { out[1 + i] = byte; });
}

INLINE int cheapest(const i64 (&costs)[FILTERS]) {
  int best = 0;
  for (int i = 1; i < FILTERS; ++i)
    if (costs[i] < costs[best]) best = i;
  return best;
}

// The job over the samples that count.
INLINE PngFilter reduced(PngFilter job) {
  const int kept = kept_samples(job.look, job.stride);
  if (kept == job.stride) return job;
  job.row = job.row / job.stride * kept;
  job.stride = kept;
  job.pixels = job.kept;
  return job;
}

INLINE void png_filter_run(const PngFilter& all, i64 run) {
  const PngFilter job = reduced(all);
  const i64 y = job.begin + run;
  const u8* row = (const u8*)job.pixels + y * job.row;
  const u8* above = y ? row - job.row : nullptr;
  u8* out = (u8*)job.out + y * (job.row + 1);
  const i64 costs[FILTERS] = {
      cost_row<NONE>(row, above, job.row, job.stride), cost_row<SUB>(row, above, job.row, job.stride),
      cost_row<UP>(row, above, job.row, job.stride), cost_row<AVERAGE>(row, above, job.row, job.stride),
      cost_row<PAETH>(row, above, job.row, job.stride)};
  switch (cheapest(costs)) {
    case NONE: return store_row<NONE>(row, above, job.row, job.stride, out);
    case SUB: return store_row<SUB>(row, above, job.row, job.stride, out);
    case UP: return store_row<UP>(row, above, job.row, job.stride, out);
    case AVERAGE: return store_row<AVERAGE>(row, above, job.row, job.stride, out);
    default: return store_row<PAETH>(row, above, job.row, job.stride, out);
  }
}

PIXEL_KERNEL(png_filter, PngFilter, png_filter_run)
