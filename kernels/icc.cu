// ICC profiles: samples of an image's own colours become sRGB; gputiles/icc.py makes the tables.
//
// Colours of 8 or 16 bits; what is beyond them in a pixel (alpha) is copied. A value that stands
// for no data stays what it is, and no other value becomes it.
#include "pixel.h"

template <class T> INLINE T settled(const Icc& job, T stored, float level) {
  const T made = (T)(between(level, 0.0f, job.top) + 0.5f);
  if (!job.has_nodata) return made;
  const T nodata = (T)job.nodata;
  if (stored == nodata) return stored;
  return made != nodata ? made : (T)(made < (T)job.top ? made + 1 : made - 1);
}

template <class T> INLINE float curve_at(const Icc& job, int colour, T value) {
  return ((const float*)job.curves)[(i64)colour * job.entries + smaller((int)value, job.entries - 1)];
}

template <class T> INLINE void convert_grey(const Icc& job, const T* v, T* out) {
  out[0] = settled(job, v[0], curve_at(job, 0, v[0]));
}

// Each colour's curve makes it light, a matrix mixes the light, a table encodes it.
template <class T> INLINE void convert_mixed(const Icc& job, const T* v, T* out) {
  const float red = curve_at(job, 0, v[0]), green = curve_at(job, 1, v[1]), blue = curve_at(job, 2, v[2]);
  for (int c = 0; c < 3; ++c) {
    const float* m = job.matrix + 3 * c;
    const float light = ((job.offset[c] + m[0] * red) + m[1] * green) + m[2] * blue;
    const float level = linear_stop((const float*)job.table, job.stops, between(light, 0.0f, 1.0f));
    out[c] = settled(job, v[c], level);
  }
}

// Where a value lies in a grid: the node before it, how far beyond, and the step to the next node.
struct Axis {
  int node;
  float beyond;
  int step;
};

template <class T> INLINE Axis axis_at(const Icc& job, T value, int step) {
  const float t = smaller((float)value, job.top) * (float)(job.stops - 1) / job.top;
  Axis axis;
  axis.node = smaller((int)t, job.stops - 2);
  axis.beyond = t - (float)axis.node;
  axis.step = step;
  return axis;
}

INLINE void farther_first(Axis& a, Axis& b) {
  if (a.beyond < b.beyond) {
    const Axis held = a;
    a = b, b = held;
  }
}

// Tetrahedral: from the node along the axes, the one that the colour is farthest along first.
template <class T> INLINE void convert_in_grid(const Icc& job, const T* v, T* out) {
  Axis a = axis_at(job, v[0], 3 * job.stops * job.stops);
  Axis b = axis_at(job, v[1], 3 * job.stops);
  Axis c = axis_at(job, v[2], 3);
  const float* p = (const float*)job.table + a.node * a.step + b.node * b.step + c.node * c.step;
  farther_first(a, b);
  farther_first(b, c);
  farther_first(a, b);
  for (int s = 0; s < 3; ++s, ++p) {
    const float first = p[a.step], second = p[a.step + b.step], last = p[a.step + b.step + c.step];
    const float level = ((p[0] + a.beyond * (first - p[0])) + b.beyond * (second - first)) + c.beyond * (last - second);
    out[s] = settled(job, v[s], level);
  }
}

template <class T, class Convert> INLINE void convert_pixels(const Icc& job, i64 from, i64 to, int colours, Convert convert) {
  for (i64 i = from; i < to; ++i) {
    const T* v = (const T*)job.pixels + i * job.samples;
    T* out = (T*)job.out + i * job.samples;
    convert(v, out);
    for (int s = colours; s < job.samples; ++s) out[s] = v[s];
  }
}

template <class T> INLINE void icc_pixels(const Icc& job, i64 from, i64 to) {
  if (job.kind == CURVE)
    convert_pixels<T>(job, from, to, 1, [&](const T* v, T* out) INLINE_LAMBDA { convert_grey(job, v, out); });
  else if (job.kind == MATRIX)
    convert_pixels<T>(job, from, to, 3, [&](const T* v, T* out) INLINE_LAMBDA { convert_mixed(job, v, out); });
  else
    convert_pixels<T>(job, from, to, 3, [&](const T* v, T* out) INLINE_LAMBDA { convert_in_grid(job, v, out); });
}

INLINE void icc_run(const Icc& job, i64 run) {
  const i64 from = run * RUN, to = smaller(from + RUN, job.pixel_count);
  if (job.type == UINT8)
    icc_pixels<u8>(job, from, to);
  else
    icc_pixels<u16>(job, from, to);
}

PIXEL_KERNEL(icc, Icc, icc_run)
