// A tile of the next coarser level from up to four children: means of 2×2 pixels.
#include "pixel.h"

// One pixel of the mosaic of the four children; pixels null where there is none.
template <class T> struct Found {
  const T* pixels;
  bool valid;
};

template <class T> INLINE Found<T> find(const Downsample& job, int x, int y) {
  const bool right = x >= job.split_x, lower = y >= job.split_y;
  const Source& child = job.child[(lower ? 2 : 0) + (right ? 1 : 0)];
  if (right) x -= job.split_x;
  if (lower) y -= job.split_y;
  Found<T> found = {nullptr, false};
  if (!child.pixels || x >= child.columns || y >= child.rows) return found;
  const i64 at = (i64)y * child.columns + x;
  found.pixels = (const T*)child.pixels + at * child.samples;
  found.valid = !child.valid || ((const u8*)child.valid)[at];
  return found;
}

// Whether a sample carries weight. The alpha sample always does; the colour of pixels
// that are transparent, or nodata, does not.
template <class T>
INLINE bool carries(const Source& like, const T* pixel, int c, bool alpha, T nodata) {
  if (is_nan(pixel[c])) return false;
  if (alpha && c == like.samples - 1) return true;
  if (like.has_nodata && pixel[c] == nodata) return false;
  return !alpha || (!is_nan(pixel[like.samples - 1]) && pixel[like.samples - 1] > (T)0);
}

template <class T> INLINE void nearest_pixel(const Downsample& job, int x, int y, T* out, u8* valid) {
  const Found<T> found = find<T>(job, 2 * x, 2 * y);
  const bool exists = found.pixels && found.valid;
  for (int c = 0; c < job.child[0].samples; ++c) out[c] = found.pixels ? found.pixels[c] : (T)0;
  if (valid) *valid = exists;
}

template <class T> INLINE void mean_pixel(const Downsample& job, int x, int y, T* out, u8* valid) {
  const Source& like = job.child[0];
  const T nodata = from_table<T>(like.nodata);
  const Found<T> block[4] = {find<T>(job, 2 * x, 2 * y), find<T>(job, 2 * x + 1, 2 * y),
                             find<T>(job, 2 * x, 2 * y + 1), find<T>(job, 2 * x + 1, 2 * y + 1)};
  bool any = false;
  for (int c = 0; c < like.samples; ++c) {
    T v[4];
    int count = 0;
    for (int i = 0; i < 4; ++i) {
      const bool weighs =
          block[i].pixels && block[i].valid && carries(like, block[i].pixels, c, job.alpha != 0, nodata);
      v[i] = weighs ? block[i].pixels[c] : (T)0;
      count += weighs;
    }
    const T empty = job.alpha && c == like.samples - 1 ? (T)0 : from_table<T>(job.empty);
    out[c] = count ? mean_of(v[0], v[1], v[2], v[3], count) : empty;
    any |= count != 0;
  }
  if (valid) *valid = any;
}

// The columns of the output whose blocks lie inside one child, and their sources.
template <class T> struct Clean {
  int from, to;
  const T* upper;
  const T* lower;
};

// Blocks inside the children of one side whose four pixels all exist and all count.
template <class T> INLINE Clean<T> clean_span(const Downsample& job, int side, int y, int from, int to) {
  Clean<T> clean = {from, from, nullptr, nullptr};
  const bool low0 = 2 * y >= job.split_y, low1 = 2 * y + 1 >= job.split_y;
  const Source& a = job.child[(low0 ? 2 : 0) + side];
  const Source& b = job.child[(low1 ? 2 : 0) + side];
  const int row0 = 2 * y - (low0 ? job.split_y : 0), row1 = 2 * y + 1 - (low1 ? job.split_y : 0);
  if (!a.pixels || !b.pixels || a.valid || b.valid || row0 >= a.rows || row1 >= b.rows) return clean;
  const int begin = side ? job.split_x : 0;
  const int columns = smaller(smaller(a.columns, b.columns), side ? a.columns : job.split_x);
  clean.from = larger(from, (begin + 1) / 2);
  clean.to = larger(clean.from, smaller(to, (begin + columns) / 2));
  const i64 skip = 2 * (i64)clean.from - begin;
  clean.upper = (const T*)a.pixels + ((i64)row0 * a.columns + skip) * a.samples;
  clean.lower = (const T*)b.pixels + ((i64)row1 * b.columns + skip) * b.samples;
  return clean;
}

// Has the next two rows come while these are worked at. They lie behind these where a run has all of a child's row.
template <class T> INLINE void bring_next(const Clean<T>& clean, int samples) {
  const i64 both = (i64)(clean.to - clean.from) * 4 * samples;
  bring_near(clean.upper + both, both * (i64)sizeof(T));
}

template <class T> INLINE void quarter_pixels(const Clean<T>& clean, int samples, T* out, int from, int to) {
  for (int i = from; i < to; ++i)
    for (int c = 0; c < samples; ++c) {
      const i64 left = (i64)2 * i * samples + c, right = left + samples;
      out[i * samples + c] =
          (T)quarter(((int)clean.upper[left] + clean.upper[right]) + ((int)clean.lower[left] + clean.lower[right]));
    }
}

// Of four values: more of the small ones fit a vector.
template <class T> struct Sum {
  typedef int type;
};
template <> struct Sum<u8> {
  typedef i16 type;
};
template <> struct Sum<i8> {
  typedef i16 type;
};

// Every other one of 2 × count pixels.
template <class T, int samples> INLINE void every_other(const T* pixels, int count, T* out) {
  int i = 0;
  if (samples * sizeof(T) == 3)
    for (; i < count - 1; ++i) copy_four((const u8*)pixels + 6 * i, (u8*)out + 3 * i);  // the next mends the last
  for (; i < count; ++i)
    for (int c = 0; c < samples; ++c) out[i * samples + c] = pixels[2 * i * samples + c];
}

// The same where samples are interleaved: the mean at every column, of which every other one is
// wanted. Twice the arithmetic, but vectors read and write what lies side by side.
template <class T, int samples> INLINE void quarter_columns(const Clean<T>& clean, T* out) {
  typedef typename Sum<T>::type S;
  S sums[2 * RUN * samples];
  T means[2 * RUN * samples];
  const int count = clean.to - clean.from, all = 2 * count * samples;
  for (int i = 0; i < all; ++i) sums[i] = (S)((S)clean.upper[i] + (S)clean.lower[i]);
  for (int i = 0; i < all - samples; ++i) means[i] = (T)quarter((S)(sums[i] + sums[i + samples]));
  every_other<T, samples>(means, count, out);
}

// The same where the target puts bytes in order at once, and there are enough; false where not.
template <int samples, class T> INLINE bool quarter_blocks(const Clean<T>&, T*) { return false; }
template <int samples> INLINE bool quarter_blocks(const Clean<u8>& clean, u8* out) {
  const int count = clean.to - clean.from;
  const auto mean = [](auto& sums) INLINE_LAMBDA { sums = quarter(sums); };
  const int to = fold_blocks<samples>(clean.upper, clean.lower, count, out, mean);
  if (to == 1) return false;
  quarter_pixels(clean, samples, out, 0, 1);
  quarter_pixels(clean, samples, out, to, count);
  return true;
}

template <class T, int samples> INLINE void quarter_colours(const Clean<T>& clean, T* out) {
  if (!quarter_blocks<samples>(clean, out)) quarter_columns<T, samples>(clean, out);
}

// Whether no pixel of the span is nodata or transparent.
template <class T> INLINE bool all_weigh(const Downsample& job, const Clean<T>& clean, int samples) {
  const T nodata = from_table<T>(job.child[0].nodata);
  const int pixels = 2 * (clean.to - clean.from);
  int lacking = 0;
  if (job.child[0].has_nodata)
    for (int i = 0; i < pixels * samples; ++i) lacking |= (clean.upper[i] == nodata) | (clean.lower[i] == nodata);
  if (job.alpha)
    for (int i = 1; i <= pixels; ++i)
      lacking |= (clean.upper[i * samples - 1] <= (T)0) | (clean.lower[i * samples - 1] <= (T)0);
  return !lacking;
}

// Integers of up to 16 bits, all of whose samples count. The rest goes pixel by pixel.
template <class T> struct Fast {
  static INLINE bool means(const Downsample&, const Clean<T>&, T*) { return false; }
};

template <class T> INLINE bool fast_means(const Downsample& job, const Clean<T>& clean, T* out) {
  const int samples = job.child[0].samples, count = clean.to - clean.from;
  bring_next(clean, samples);
  if (!all_weigh(job, clean, samples)) return false;
  switch (samples) {  // a number that the compiler knows makes vectors
    case 1: quarter_pixels(clean, 1, out, 0, count); break;
    case 2: quarter_columns<T, 2>(clean, out); break;
    case 3: quarter_colours<T, 3>(clean, out); break;
    case 4: quarter_colours<T, 4>(clean, out); break;
    default: quarter_pixels(clean, samples, out, 0, count);
  }
  return true;
}

template <> struct Fast<u8> {
  static INLINE bool means(const Downsample& job, const Clean<u8>& at, u8* out) { return fast_means(job, at, out); }
};
template <> struct Fast<i8> {
  static INLINE bool means(const Downsample& job, const Clean<i8>& at, i8* out) { return fast_means(job, at, out); }
};
template <> struct Fast<u16> {
  static INLINE bool means(const Downsample& job, const Clean<u16>& at, u16* out) { return fast_means(job, at, out); }
};
template <> struct Fast<i16> {
  static INLINE bool means(const Downsample& job, const Clean<i16>& at, i16* out) { return fast_means(job, at, out); }
};

template <> struct Fast<float> {
  // One plane without a NaN or infinity in the run: no pixel needs a weight.
  static INLINE bool means(const Downsample& job, const Clean<float>& at, float* out) {
    const int count = at.to - at.from;
    if (job.alpha || job.child[0].samples != 1 || !all_weigh(job, at, 1)) return false;
    int odd = 0;
    for (int i = 0; i < 2 * count; ++i) odd |= !is_finite(at.upper[i]) | !is_finite(at.lower[i]);
    if (odd) return false;
    for (int i = 0; i < count; ++i)
      out[i] = mean_of(at.upper[2 * i], at.upper[2 * i + 1], at.lower[2 * i], at.lower[2 * i + 1], 4);
    return true;
  }
};

template <class T> INLINE void downsample_span(const Downsample& job, int y, int from, int to) {
  const int samples = job.child[0].samples;
  T* out = (T*)job.out + (i64)y * job.width * samples;
  u8* valid = job.valid ? (u8*)job.valid + (i64)y * job.width : nullptr;
  int x = from;
  for (int side = 0; side < 2 && !job.nearest; ++side) {
    const Clean<T> clean = clean_span<T>(job, side, y, x, to);
    if (clean.from >= clean.to || !Fast<T>::means(job, clean, out + (i64)clean.from * samples)) continue;
    for (; x < clean.from; ++x) mean_pixel(job, x, y, out + (i64)x * samples, valid ? valid + x : nullptr);
    for (x = clean.from; valid && x < clean.to; ++x) valid[x] = 1;
    x = clean.to;
  }
  for (; x < to; ++x) {
    if (job.nearest)
      nearest_pixel(job, x, y, out + (i64)x * samples, valid ? valid + x : nullptr);
    else
      mean_pixel(job, x, y, out + (i64)x * samples, valid ? valid + x : nullptr);
  }
}

INLINE void downsample_run(const Downsample& job, i64 run) {
  const i64 per_row = (job.width + RUN - 1) / RUN;
  const int y = (int)(run / per_row), from = (int)(run % per_row) * RUN;
  const int to = smaller(from + RUN, job.width);
  return with_type(job.child[0].type, [&](auto like) INLINE_LAMBDA {
    return downsample_span<decltype(like)>(job, y, from, to);
  });
}

PIXEL_KERNEL(downsample, Downsample, downsample_run)
