// The arithmetic of pixels, once for both targets; tests/spec.py is its specification.
//
// Nothing here knows the target. No libm and no system headers: NVRTC has none. NaN is
// tested as bits, because the host compiler is told that there are no NaN in arithmetic
// (which is what lets it vectorise comparisons); they are replaced before any arithmetic.
#pragma once

#include "tables.h"

template <class T> INLINE T smaller(T a, T b) { return a < b ? a : b; }
template <class T> INLINE T larger(T a, T b) { return a > b ? a : b; }

// Calls use(T()) with the type T that a table's code stands for.
template <class Use> INLINE auto with_type(int type, Use use) {
  switch (type) {
    case UINT8: return use((u8)0);
    case INT8: return use((i8)0);
    case UINT16: return use((u16)0);
    case INT16: return use((i16)0);
    case UINT32: return use((u32)0);
    case INT32: return use((i32)0);
    case UINT64: return use((u64)0);
    case INT64: return use((i64)0);
    case FLOAT32: return use((float)0);
    default: return use((double)0);
  }
}

template <class T> struct Traits {
  static constexpr bool is_float = false;
};
template <> struct Traits<float> {
  static constexpr bool is_float = true;
};
template <> struct Traits<double> {
  static constexpr bool is_float = true;
};

template <class T> INLINE bool is_nan(T) { return false; }
template <> INLINE bool is_nan(float v) { return (bits_of(v) & 0x7fffffffu) > 0x7f800000u; }
template <> INLINE bool is_nan(double v) { return (bits_of(v) & 0x7fffffffffffffffull) > 0x7ff0000000000000ull; }

template <class T> INLINE bool is_finite(T) { return true; }
template <> INLINE bool is_finite(float v) { return (bits_of(v) & 0x7f800000u) != 0x7f800000u; }
template <> INLINE bool is_finite(double v) { return (bits_of(v) & 0x7ff0000000000000ull) != 0x7ff0000000000000ull; }

// A value of type T from a table: integers sign-extended, floats as the bits of a double.
template <class T> INLINE T from_table(u64 bits) { return (T)bits; }
template <> INLINE float from_table<float>(u64 bits) { return (float)double_of(bits); }
template <> INLINE double from_table<double>(u64 bits) { return double_of(bits); }

// ---- composite ------------------------------------------------------------------------

// Distance of a value from the low end of the window. 8 and 16 bits are exact in float32;
// wider values subtract in float64 first, where float32 would lose their low bits.
template <class T> INLINE float above(T value, float low, double) { return (float)value - low; }
template <> INLINE float above(u32 value, float, double low) { return (float)((double)value - low); }
template <> INLINE float above(i32 value, float, double low) { return (float)((double)value - low); }
template <> INLINE float above(u64 value, float, double low) { return (float)((double)value - low); }
template <> INLINE float above(i64 value, float, double low) { return (float)((double)value - low); }
template <> INLINE float above(double value, float, double low) { return (float)(value - low); }

INLINE float between(float n, float low, float high) { return smaller(larger(n, low), high); }

INLINE bool outside(float n) { return n < 0.0f || n > 1.0f; }

// One component of a palette at n, 0 … 1: straight lines between evenly spaced stops.
INLINE float linear_stop(const float* p, int stops, float n) {
  const float t = n * (float)(stops - 1);
  const int i = smaller((int)t, stops - 2);
  return p[i] + (t - (float)i) * (p[i + 1] - p[i]);
}

// The same as equal steps.
INLINE float step_stop(const float* p, int stops, float n) {
  return p[smaller((int)(n * (float)stops), stops - 1)];
}

// How a band's colour joins what the bands before it left; a pixel that is masked out
// brings colour 0, or the factor 1.
struct Lighten {
  static constexpr bool is_most = true;  // what is no more than what is there changes nothing
  static INLINE float join(float old, float colour, bool counts) {
    return larger(old, counts ? colour : 0.0f);
  }
};

struct Add {
  static constexpr bool is_most = false;
  static INLINE float join(float old, float colour, bool counts) { return old + (counts ? colour : 0.0f); }
};

struct Screen {
  static constexpr bool is_most = false;
  static INLINE float join(float old, float colour, bool counts) {
    const float light = counts ? colour : 0.0f;
    return (old + light) - (old * light) / 255.0f;
  }
};

struct Multiply {
  static constexpr bool is_most = false;
  static INLINE float join(float old, float colour, bool counts) {
    return smaller(old * (counts ? colour / 255.0f : 1.0f), 16777216.0f);
  }
};

INLINE int finished(float colour, int finish) {
  const float c = between(colour, 0.0f, 255.0f);
  if (finish == FINISH_UINT16) return (int)(c * 65535.0f / 255.0f) >> 8;
  if (finish == FINISH_FLOAT) return (int)(c / 255.0f);
  return (int)c;
}

// A byte of colour over a background, rounded to nearest.
INLINE int over(int colour, int alpha, int under) {
  return (colour * alpha + under * (255 - alpha) + 127) / 255;
}

// ---- unstyled -------------------------------------------------------------------------

INLINE int to_byte(u8 v) { return v; }
INLINE int to_byte(i8 v) { return v + 128; }
INLINE int to_byte(u16 v) { return v >> 8; }
INLINE int to_byte(i16 v) { return (v >> 8) + 128; }
INLINE int to_byte(u32 v) { return (int)(v >> 24); }
INLINE int to_byte(i32 v) { return (v >> 24) + 128; }
INLINE int to_byte(u64 v) { return (int)(v >> 56); }
INLINE int to_byte(i64 v) { return (int)(v >> 56) + 128; }
INLINE int to_byte(float v) { return is_nan(v) ? 0 : (int)between(v, 0.0f, 255.0f); }
INLINE int to_byte(double v) { return is_nan(v) ? 0 : (int)smaller(larger(v, 0.0), 255.0); }

// The entry of a colormap that a value selects; values beyond it select its ends.
template <class T> INLINE int entry_of(T v, int entries) {
  return is_nan(v) || v < (T)0 ? 0 : v > (T)(entries - 1) ? entries - 1 : (int)v;
}
template <> INLINE int entry_of(u8 v, int entries) { return smaller((int)v, entries - 1); }
template <> INLINE int entry_of(i8 v, int entries) { return smaller(larger((int)v, 0), entries - 1); }
template <> INLINE int entry_of(u16 v, int entries) { return smaller((int)v, entries - 1); }
template <> INLINE int entry_of(i16 v, int entries) { return smaller(larger((int)v, 0), entries - 1); }

// ---- means ----------------------------------------------------------------------------

// total / count rounded half to even; division rounds down, also for negative totals.
INLINE i64 rounded_mean(i64 total, i64 count) {
  i64 quotient = total / count, rest = total % count;
  if (rest < 0) rest += count, quotient -= 1;
  return quotient + (2 * rest > count || (2 * rest == count && (quotient & 1)) ? 1 : 0);
}

// The mean of four, of which those without weight are 0 and not in count (1 … 4).
template <class T> INLINE T mean_of(T a, T b, T c, T d, int count) {
  return (T)rounded_mean(((i64)a + b) + ((i64)c + d), count);
}
template <> INLINE float mean_of(float a, float b, float c, float d, int count) {
  return ((a + b) + (c + d)) / (float)count;
}
template <> INLINE double mean_of(double a, double b, double c, double d, int count) {
  return ((a + b) + (c + d)) / (double)count;
}

// 64-bit totals do not fit: quotients and rests are summed apart.
template <class T> INLINE T wide_mean(const T (&v)[4], int count) {
  T quotient = 0;
  i64 rests = 0;
  for (int i = 0; i < 4; ++i) {
    T q = v[i] / (T)count;
    i64 r = (i64)(v[i] % (T)count);
    if (r < 0) r += count, q -= 1;
    quotient += q;
    rests += r;
  }
  quotient += (T)(rests / count);
  rests %= count;
  return quotient + (2 * rests > count || (2 * rests == count && (quotient & 1)) ? 1 : 0);
}
template <> INLINE u64 mean_of(u64 a, u64 b, u64 c, u64 d, int count) {
  const u64 v[4] = {a, b, c, d};
  return wide_mean(v, count);
}
template <> INLINE i64 mean_of(i64 a, i64 b, i64 c, i64 d, int count) {
  const i64 v[4] = {a, b, c, d};
  return wide_mean(v, count);
}

// The mean of four from their total: half to even is one addition and a shift.
template <class S> INLINE S quarter(const S& total) { return (S)((S)(total + 1 + ((total >> 2) & 1)) >> 2); }

// A float64 to the nearest value of T, half to even, limited to T's range.
template <class T> INLINE T rounded(double v) {
  constexpr bool is_signed = (T)-1 < (T)0;
  constexpr int bits = 8 * (int)sizeof(T) - (is_signed ? 1 : 0);
  constexpr double end = 2.0 * (double)(1ull << (bits - 1));  // the largest T, plus 1
  constexpr T most = (T)(((1ull << (bits - 1)) - 1) * 2 + 1);
  constexpr T least = is_signed ? (T)(-most - 1) : (T)0;
  if (v >= end) return most;
  if (v <= (double)least) return least;
  if (v >= 4503599627370496.0 || v <= -4503599627370496.0) return (T)v;  // beyond 2^52 all are whole
  i64 whole = (i64)v;
  double rest = v - (double)whole;
  if (rest < 0.0) rest += 1.0, whole -= 1;
  if (rest > 0.5 || (rest == 0.5 && (whole & 1))) whole += 1;
  return whole > (i64)most && sizeof(T) < 8 ? most : (T)whole;
}
template <> INLINE float rounded(double v) { return (float)v; }
template <> INLINE double rounded(double v) { return v; }

// What a fractional mean is summed in: whole numbers where no total can overflow.
template <class T> struct Total {
  typedef double type;
};
template <> struct Total<u8> {
  typedef i64 type;
};
template <> struct Total<i8> {
  typedef i64 type;
};
template <> struct Total<u16> {
  typedef i64 type;
};
template <> struct Total<i16> {
  typedef i64 type;
};

template <class T> INLINE T mean_of_total(i64 total, i64 weight) { return (T)rounded_mean(total, weight); }
template <class T> INLINE T mean_of_total(double total, i64 weight) {
  return rounded<T>(total / (double)weight);
}

// ---- measures -------------------------------------------------------------------------

// The bin of a value between low and high, placed as numpy.histogram places it: by a
// division, and then corrected by one where the rounded edges say otherwise.
INLINE int bin_of(double value, double low, double high, int bins, const double* edges) {
  int bin = (int)((value - low) / (high - low) * (double)bins);
  bin = smaller(larger(bin, 0), bins - 1);  // beyond it where high - low is more than a double holds
  if (value < edges[bin]) bin -= 1;
  if (value >= edges[bin + 1] && bin != bins - 1) bin += 1;
  return bin;
}

// ---- PNG ------------------------------------------------------------------------------

INLINE i16 distance(i16 a, i16 b) { return (i16)(a > b ? a - b : b - a); }

// The neighbour that is nearest to left + above - corner (PNG specification, 9.4).
INLINE u8 paeth(i16 left, i16 above, i16 corner) {
  const i16 a = distance(above, corner), b = distance(left, corner);
  const i16 c = distance((i16)(left + above), (i16)(2 * corner));
  const i16 other = b <= c ? above : corner;
  return (u8)((a <= b) & (a <= c) ? left : other);
}

// How far a filtered byte, taken as signed, is from 0.
INLINE u8 cost_of(u8 byte) { return smaller(byte, (u8)-byte); }

// What a picture's pixels have that others have not.
enum Look { COLOURED = 1, TRANSLUCENT = 2 };

// How many of a picture's samples tell anything.
INLINE int kept_samples(u64 look, int samples) {
  if (!look) return samples;
  const u32 found = *(const u32*)look;
  return (samples > 2 && (found & COLOURED) ? 3 : 1) + (samples % 2 == 0 && (found & TRANSLUCENT) ? 1 : 0);
}
