// Styles: bands blended into a picture; and the unstyled conversion.
//
// Over a run, bands are the outer loop and pixels the inner one; values, masks and the
// four accumulators lie in planes, and samples are interleaved last.
#include "pixel.h"

struct Span {
  i64 row;
  int from;   // the first column of the run
  int count;  // columns with data
  int all;    // columns, the filling included
};

template <class Job> INLINE Span span_of(const Job& job, i64 run) {
  run += job.begin;
  const i64 per_row = (job.width + RUN - 1) / RUN;
  Span span;
  span.row = run / per_row;
  span.from = (int)(run % per_row) * RUN;
  span.all = smaller(RUN, job.width - span.from);
  const int inside = span.row < job.rows ? job.columns - span.from : 0;
  span.count = smaller(larger(inside, 0), span.all);
  return span;
}

// What the planes of one run hold: n is the place in the window, counts the mask.
struct Planes {
  float n[RUN];
  i32 counts[RUN];
  float out[4][RUN];
  float least[4];  // what no value of out is below, as far as is known
};

// planar: the step from pixel to pixel is known to be 1, which is what vectors need.
template <class T, bool planar>
INLINE void mask_values(const Band& band, const T* v, const u8* valid, int count, Planes& at) {
  const T nodata = from_table<T>(band.source.nodata);
  const int step = planar ? 1 : band.source.samples;
  for (int i = 0; i < count; ++i) at.counts[i] = !is_nan(v[(i64)i * step]);
  if (band.source.has_nodata)
    for (int i = 0; i < count; ++i) at.counts[i] &= !(v[(i64)i * step] == nodata);
  if (valid)
    for (int i = 0; i < count; ++i) at.counts[i] &= valid[i] != 0;
}

template <class T, bool planar>
INLINE void place_values(const Band& band, const T* v, int count, bool clamped, Planes& at) {
  const int step = planar ? 1 : band.source.samples;
  const float low = band.low, delta = band.delta, limit = band.limit;
  const double wide_low = band.wide_low;
  if (clamped) {
    for (int i = 0; i < count; ++i) {
      const T value = v[(i64)i * step];
      at.n[i] = between(above(is_nan(value) ? (T)0 : value, low, wide_low) / delta, 0.0f, limit);
    }
  } else {
    for (int i = 0; i < count; ++i) {
      const T value = v[(i64)i * step];
      const float n = above(is_nan(value) ? (T)0 : value, low, wide_low) / delta;
      at.counts[i] &= !outside(n);
      at.n[i] = between(n, 0.0f, limit);
    }
  }
}

// Reads one band; returns whether some of its pixels may be masked out.
template <class T, bool planar>
INLINE bool read_values(const Band& band, const T* v, const u8* valid, int count, Planes& at) {
  const bool masked = Traits<T>::is_float || band.source.has_nodata || valid || !band.clamp;
  if (masked) mask_values<T, planar>(band, v, valid, count, at);
  place_values<T, planar>(band, v, count, band.clamp, at);
  return masked;
}

template <class T> INLINE bool read_band(const Band& band, const Span& span, Planes& at) {
  const Source& source = band.source;
  const i64 first = span.row * source.columns + span.from;
  const T* v = (const T*)source.pixels + first * source.samples + band.sample;
  const u8* valid = source.valid ? (const u8*)source.valid + first : nullptr;
  if (source.samples == 1) return read_values<T, true>(band, v, valid, span.count, at);
  return read_values<T, false>(band, v, valid, span.count, at);
}

INLINE bool read_any(const Band& band, const Span& span, Planes& at) {
  return with_type(band.source.type, [&](auto like) INLINE_LAMBDA {
    return read_band<decltype(like)>(band, span, at);
  });
}

template <class Join, class Colour>
INLINE void join_pixels(float* out, const i32* counts, bool masked, int count, Colour colour) {
  if (masked)
    for (int i = 0; i < count; ++i) out[i] = Join::join(out[i], colour(i), counts[i] != 0);
  else
    for (int i = 0; i < count; ++i) out[i] = Join::join(out[i], colour(i), true);
}

template <class Join>
INLINE void join_component(const Band& band, int c, bool masked, int count, Planes& at) {
  const float* p = (const float*)band.palette + (i64)c * band.stops;
  const float* n = at.n;
  const float value = band.value[c];
  const int stops = band.stops;
  float* out = at.out[c];
  switch (band.kind[c]) {
    case CONSTANT:
      if (Join::is_most && value <= at.least[c]) break;
      join_pixels<Join>(out, at.counts, masked, count, [=](int) INLINE_LAMBDA { return value; });
      if (Join::is_most && !masked) at.least[c] = value;
      break;
    case RAMP: join_pixels<Join>(out, at.counts, masked, count, [=](int i) INLINE_LAMBDA { return n[i] * value; }); break;
    case LINEAR:
      join_pixels<Join>(out, at.counts, masked, count,
                        [=](int i) INLINE_LAMBDA { return linear_stop(p, stops, smaller(n[i], 1.0f)); });
      break;
    case STEP:
      join_pixels<Join>(out, at.counts, masked, count,
                        [=](int i) INLINE_LAMBDA { return step_stop(p, stops, smaller(n[i], 1.0f)); });
      break;
    default: break;
  }
}

INLINE void join_as_blended(const Band& band, int c, bool masked, int count, Planes& at) {
  const bool light = band.blend == ADDITIVE || band.blend == SCREEN;
  const int blend = light && c == 3 ? (int)LIGHTEN : band.blend;  // opaque stays opaque
  if (blend != LIGHTEN) at.least[c] = -1.0f;
  if (blend == LIGHTEN) join_component<Lighten>(band, c, masked, count, at);
  if (blend == MULTIPLY) join_component<Multiply>(band, c, masked, count, at);
  if (blend == ADDITIVE) join_component<Add>(band, c, masked, count, at);
  if (blend == SCREEN) join_component<Screen>(band, c, masked, count, at);
}

INLINE void join_band(const Band& band, int accumulators, bool masked, int count, Planes& at) {
  for (int c = 0; c < accumulators; ++c) join_as_blended(band, c, masked, count, at);
}

// The components of a band that ramp from 0 at its low end, and what they come to at its high end.
struct Ramps {
  float* out[4];
  float end[4];
  int count;
};

// Says whether a band, no pixel of which is masked out, does but brighten a picture, by ramps and constants.
INLINE bool find_ramps(const Band& band, int accumulators, Planes& at, Ramps& ramps) {
  const Source& source = band.source;
  if (!band.clamp || source.has_nodata || source.valid) return false;
  if (band.blend != LIGHTEN && (band.blend != ADDITIVE || band.kind[3] == RAMP)) return false;
  for (int c = 0; c < accumulators; ++c) {
    if (band.kind[c] == LINEAR || band.kind[c] == STEP) return false;
    if (band.kind[c] != RAMP) continue;
    ramps.out[ramps.count] = at.out[c];
    ramps.end[ramps.count++] = band.value[c];
  }
  return true;
}

template <class Join, int ramp_count, class T>
INLINE void join_ramps(const Band& band, const T* v, const Ramps& ramps, int count) {
  const float low = band.low, delta = band.delta, limit = band.limit;
  const double wide_low = band.wide_low;
  float* const out[] = {ramps.out[0], ramps.out[1], ramps.out[2], ramps.out[3]};
  const float end[] = {ramps.end[0], ramps.end[1], ramps.end[2], ramps.end[3]};
  for (int i = 0; i < count; ++i) {
    const float place = above(v[i], low, wide_low) / delta;
    // no colour is below 0: the brightest of two needs no look at where the window begins
    const float n = Join::is_most ? smaller(place, limit) : between(place, 0.0f, limit);
    for (int c = 0; c < ramp_count; ++c) out[c][i] = Join::join(out[c][i], n * end[c], true);
  }
}

template <class Join, class T> INLINE void join_all_ramps(const Band& band, const Span& span, const Ramps& ramps) {
  const T* v = (const T*)band.source.pixels + span.row * band.source.columns + span.from;
  if (ramps.count == 1) join_ramps<Join, 1>(band, v, ramps, span.count);
  if (ramps.count == 2) join_ramps<Join, 2>(band, v, ramps, span.count);
  if (ramps.count == 3) join_ramps<Join, 3>(band, v, ramps, span.count);
  if (ramps.count == 4) join_ramps<Join, 4>(band, v, ramps, span.count);
}

// Joins a band as most are, of one sample of 8 or 16 bits, in one pass over its values; returns whether it could.
INLINE bool join_at_once(const Band& band, const Span& span, int accumulators, Planes& at) {
  const bool bytes = band.source.type == UINT8, light = band.blend == LIGHTEN;
  Ramps ramps = {};
  if (band.source.samples != 1 || (!bytes && band.source.type != UINT16)) return false;
  if (!find_ramps(band, accumulators, at, ramps)) return false;
  if (light && bytes) join_all_ramps<Lighten, u8>(band, span, ramps);
  if (light && !bytes) join_all_ramps<Lighten, u16>(band, span, ramps);
  if (!light && bytes) join_all_ramps<Add, u8>(band, span, ramps);
  if (!light && !bytes) join_all_ramps<Add, u16>(band, span, ramps);
  for (int c = 0; c < accumulators; ++c)
    if (band.kind[c] != RAMP) join_as_blended(band, c, false, span.count, at);
  return true;
}

INLINE void finish_plane(const float* colours, int finish, int count, u8* bytes) {
  int i = 0;
  if (finish == FINISH_UINT8) {
    WITH_AVX2(i = vectors::to_bytes(colours, count, bytes));
    for (; i < count; ++i) bytes[i] = (u8)finished(colours[i], FINISH_UINT8);
  } else {
    for (; i < count; ++i) bytes[i] = (u8)finished(colours[i], finish);
  }
}

template <int samples>
INLINE void store_samples(u8* out, const Planes& at, int first, int finish, int count) {
  u8 bytes[samples][RUN];
  for (int c = 0; c < samples; ++c) finish_plane(at.out[first + c], finish, count, bytes[c]);
  if constexpr (samples == 3) return weave(bytes[0], bytes[1], bytes[2], count, out);
  for (int i = 0; i < count; ++i)
    for (int c = 0; c < samples; ++c) out[i * samples + c] = bytes[c][i];
}

INLINE void store_over(u8* out, const Planes& at, const Composite& job, int count) {
  u8 bytes[4][RUN];
  for (int c = 0; c < 4; ++c) finish_plane(at.out[c], job.finish, count, bytes[c]);
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < count; ++i) bytes[c][i] = (u8)over(bytes[c][i], bytes[3][i], job.background[c]);
  weave(bytes[0], bytes[1], bytes[2], count, out);
}

INLINE void fill_pixels(u8* out, const u8* fill, int samples, int from, int to) {
  for (int i = from; i < to; ++i)
    for (int c = 0; c < samples; ++c) out[(i64)i * samples + c] = fill[c];
}

INLINE void composite_run(const Composite& job, i64 run) {
  const Span span = span_of(job, run);
  u8* out = (u8*)job.out + (span.row * job.width + span.from) * job.samples;
  fill_pixels(out, job.fill, job.samples, span.count, span.all);
  if (span.count == 0) return;
  Planes at;
  for (int c = 0; c < job.accumulators; ++c) {
    for (int i = 0; i < span.count; ++i) at.out[c][i] = 0.0f;
    at.least[c] = 0.0f;
  }
  const Band* bands = (const Band*)job.bands;
  for (int b = 0; b < job.band_count; ++b) {
    if (IN_VECTORS && join_at_once(bands[b], span, job.accumulators, at)) continue;
    join_band(bands[b], job.accumulators, read_any(bands[b], span, at), span.count, at);
  }
  if (job.blended)
    store_over(out, at, job, span.count);
  else if (job.samples == 4)
    store_samples<4>(out, at, job.first, job.finish, span.count);
  else if (job.samples == 3)
    store_samples<3>(out, at, job.first, job.finish, span.count);
  else
    store_samples<1>(out, at, job.first, job.finish, span.count);
}

// ---- unstyled -------------------------------------------------------------------------

template <class T> INLINE void unstyled_pixel(const Unstyled& job, const T* v, bool valid, u8* out) {
  int colour[3];
  for (int c = 0; c < job.colours; ++c) {
    if (job.colormap)
      colour[c] = ((const u8*)job.colormap)[3 * entry_of(v[0], job.entries) + c];
    else
      colour[c] = to_byte(v[c]);
  }
  const int alpha = !valid ? 0 : job.alpha < 0 ? 255 : to_byte(v[job.alpha]);
  for (int c = 0; c < job.colours; ++c) {
    const int value = valid ? colour[c] : 0;
    out[c] = (u8)(job.blended ? over(value, alpha, job.background[c]) : value);
  }
  if (job.samples > job.colours) out[job.colours] = (u8)alpha;
}

// All samples are stored as they are, converted to bytes.
template <class T> INLINE bool is_plain(const Unstyled& job) {
  return !job.colormap && !job.source.valid && !job.blended && job.samples == job.source.samples;
}

template <class T> INLINE void unstyled_span(const Unstyled& job, const Span& span, u8* out) {
  const i64 first = span.row * job.source.columns + span.from;
  const T* v = (const T*)job.source.pixels + first * job.source.samples;
  const u8* valid = job.source.valid ? (const u8*)job.source.valid + first : nullptr;
  if (is_plain<T>(job)) {
    for (int i = 0; i < span.count * job.samples; ++i) out[i] = (u8)to_byte(v[i]);
    return;
  }
  for (int i = 0; i < span.count; ++i)
    unstyled_pixel(job, v + (i64)i * job.source.samples, !valid || valid[i], out + (i64)i * job.samples);
}

INLINE void unstyled_run(const Unstyled& job, i64 run) {
  const Span span = span_of(job, run);
  u8* out = (u8*)job.out + (span.row * job.width + span.from) * job.samples;
  fill_pixels(out, job.fill, job.samples, span.count, span.all);
  if (span.count == 0) return;
  return with_type(job.source.type, [&](auto like) INLINE_LAMBDA {
    return unstyled_span<decltype(like)>(job, span, out);
  });
}

PIXEL_KERNEL(composite, Composite, composite_run)
PIXEL_KERNEL(unstyled, Unstyled, unstyled_run)
