// A region at another size: area means with exact fractional weights, or the nearest pixel.
#include "pixel.h"

// The source pixels of one made pixel on one axis, with whole weights: a source pixel is
// made long, a made pixel full long, and both axes are full × made.
struct Footprint {
  int from, to;
  i64 full, made, begin;
};

INLINE i64 overlap(const Footprint& at, int source) {
  const i64 left = larger(source * at.made, at.begin);
  return smaller((source + 1) * at.made, at.begin + at.full) - left;
}

INLINE Footprint footprint(int full, int made, int j, bool nearest) {
  Footprint at;
  at.full = full, at.made = made, at.begin = (i64)j * full;
  if (nearest || made >= full) {
    at.from = (int)((2 * (i64)j + 1) * full / (2 * (i64)made));
    at.to = at.from + 1;
    at.full = at.made = 1, at.begin = at.from;
  } else {
    at.from = (int)(at.begin / made);
    at.to = (int)((at.begin + full + made - 1) / made);
  }
  return at;
}

template <class T> INLINE bool weighs(const Resample& job, const T* pixel, int c, T nodata) {
  const int last = job.source.samples - 1;
  if (is_nan(pixel[c])) return false;
  if (job.alpha && c == last) return true;
  if (job.source.has_nodata && pixel[c] == nodata) return false;
  return !job.alpha || (!is_nan(pixel[last]) && pixel[last] > (T)0);
}

template <class T>
INLINE bool mean_sample(const Resample& job, const Footprint& across, const Footprint& down, int c, T* out) {
  typedef typename Total<T>::type Sum;
  const Source& source = job.source;
  const T nodata = from_table<T>(source.nodata);
  Sum total = 0;
  i64 weight = 0;
  for (int y = down.from; y < down.to; ++y) {
    const i64 tall = overlap(down, y);
    const T* row = (const T*)source.pixels + (i64)y * source.columns * source.samples;
    const u8* valid = source.valid ? (const u8*)source.valid + (i64)y * source.columns : nullptr;
    for (int x = across.from; x < across.to; ++x) {
      const T* pixel = row + (i64)x * source.samples;
      if ((valid && !valid[x]) || !weighs(job, pixel, c, nodata)) continue;
      const i64 area = tall * overlap(across, x);
      total += (Sum)pixel[c] * (Sum)area;
      weight += area;
    }
  }
  *out = weight ? mean_of_total<T>(total, weight) : from_table<T>(job.empty);
  return weight != 0;
}

template <class T> INLINE void resample_pixel(const Resample& job, int x, int y) {
  const Source& source = job.source;
  const Footprint across = footprint(source.columns, job.width, x, job.nearest != 0);
  const Footprint down = footprint(source.rows, job.height, y, job.nearest != 0);
  const i64 at = (i64)y * job.width + x;
  T* out = (T*)job.out + at * source.samples;
  bool any = false;
  if (job.nearest) {
    const i64 from = (i64)down.from * source.columns + across.from;
    const T* pixel = (const T*)source.pixels + from * source.samples;
    for (int c = 0; c < source.samples; ++c) out[c] = pixel[c];
    any = !source.valid || ((const u8*)source.valid)[from];
  } else {
    for (int c = 0; c < source.samples; ++c) any |= mean_sample(job, across, down, c, out + c);
  }
  if (job.valid) ((u8*)job.valid)[at] = any;
}

template <class T> INLINE void resample_span(const Resample& job, int y, int from, int to) {
  for (int x = from; x < to; ++x) resample_pixel<T>(job, x, y);
}

INLINE void resample_run(const Resample& job, i64 run) {
  const i64 per_row = (job.width + RUN - 1) / RUN;
  const int y = (int)(run / per_row), from = (int)(run % per_row) * RUN;
  const int to = smaller(from + RUN, job.width);
  return with_type(job.source.type, [&](auto like) INLINE_LAMBDA {
    return resample_span<decltype(like)>(job, y, from, to);
  });
}

PIXEL_KERNEL(resample, Resample, resample_run)
