// The sums of jpegpixels.h in vectors of AVX2, whatever level the rest is compiled for.
//
// For hosts of x86-64 alone. They are of whole numbers, in another order: the values are the same.
#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include "jpegcodes.h"

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE AVX2 inline __attribute__((always_inline))

namespace jpegin {
namespace vectors {

typedef __m256i Vector;

AVX2_INLINE Vector load(const void* from) { return _mm256_loadu_si256((const Vector*)from); }
AVX2_INLINE void store(void* to, Vector values) { _mm256_storeu_si256((Vector*)to, values); }

// Of two vectors of 16 bits: pairs of their values, or sums of 32 bits, in the order of `pairs_of`.
struct Pairs {
  Vector low, high;
};

AVX2_INLINE Pairs pairs_of(Vector a, Vector b) { return {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)}; }

AVX2_INLINE Pairs same(i32 value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }

// The first of each pair × `first` + the second × `second`.
AVX2_INLINE Pairs products(Pairs pairs, i16 first, i16 second) {
  const Vector factors = _mm256_set1_epi32((i32)((u32)(u16)first | (u32)(u16)second << 16));
  return {_mm256_madd_epi16(pairs.low, factors), _mm256_madd_epi16(pairs.high, factors)};
}

AVX2_INLINE Pairs operator+(Pairs a, Pairs b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}

AVX2_INLINE Pairs operator-(Pairs a, Pairs b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}

// The sums less `bits` bits of fraction, as 16 values in their order; what is beyond 16 bits goes as far as they do.
template <int bits> AVX2_INLINE Vector joined(Pairs sums) {
  return _mm256_packs_epi32(_mm256_srai_epi32(sums.low, bits), _mm256_srai_epi32(sums.high, bits));
}

// The inverse transform of eight values of 16 blocks: constants are sums of those of the other one.
template <int KEPT, int bits> AVX2_INLINE void inverse(const Vector (&x)[8], Vector (&out)[8]) {
  const Pairs half = same(1 << (bits - 1));
  Pairs even[4], odd[4];
  if constexpr (KEPT > 4) {
    const Pairs x04 = pairs_of(x[0], x[4]), x26 = pairs_of(x[2], x[6]);
    const Pairs x17 = pairs_of(x[1], x[7]), x35 = pairs_of(x[3], x[5]);
    const Pairs sum = products(x04, 8192, 8192) + half, less = products(x04, 8192, -8192) + half;
    const Pairs low = products(x26, 10703, 4433), high = products(x26, 4433, -10704);
    even[0] = sum + low, even[1] = less + high, even[2] = less - high, even[3] = sum - low;
    odd[0] = products(x17, 2260, -11363) + products(x35, -6436, 9633);
    odd[1] = products(x17, 6437, 9633) + products(x35, -11362, 2261);
    odd[2] = products(x17, 9633, -6436) + products(x35, -2259, -11362);
    odd[3] = products(x17, 11363, 2260) + products(x35, 9633, 6437);
  } else {
    const Pairs x02 = pairs_of(x[0], x[2]), x13 = pairs_of(x[1], x[3]);
    even[0] = products(x02, 8192, 10703) + half, even[1] = products(x02, 8192, 4433) + half;
    even[2] = products(x02, 8192, -4433) + half, even[3] = products(x02, 8192, -10703) + half;
    odd[0] = products(x13, 2260, -6436), odd[1] = products(x13, 6437, -11362);
    odd[2] = products(x13, 9633, -2259), odd[3] = products(x13, 11363, 9633);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    out[i] = joined<bits>(even[i] + odd[3 - i]);
    out[7 - i] = joined<bits>(even[i] - odd[3 - i]);
  }
}

// Puts down a row of 16 blocks, given column by column, as samples.
AVX2_INLINE void put_row(const Vector (&columns)[8], u8* out) {
  Vector x[8], quads[4];  // four columns of a block side by side
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) x[i] = _mm256_adds_epi16(columns[i], _mm256_set1_epi16(128));
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Vector even = _mm256_packus_epi16(x[4 * i], x[4 * i + 2]);
    const Vector odd = _mm256_packus_epi16(x[4 * i + 1], x[4 * i + 3]);
    const Vector left = _mm256_unpacklo_epi8(even, odd), right = _mm256_unpackhi_epi8(even, odd);
    quads[2 * i] = _mm256_unpacklo_epi16(left, right), quads[2 * i + 1] = _mm256_unpackhi_epi16(left, right);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Vector one = _mm256_unpacklo_epi32(quads[i], quads[i + 2]);
    const Vector two = _mm256_unpackhi_epi32(quads[i], quads[i + 2]);
    store(out + 32 * i, _mm256_permute2x128_si256(one, two, 0x20));
    store(out + 32 * i + 64, _mm256_permute2x128_si256(one, two, 0x31));
  }
}

template <int KEPT> AVX2 bool transform(i16* coefs, const i16* steps, u8* out, i64 pitch) {
  static_assert(GROUP == 16, "a vector has 16 values of 16 bits");
  alignas(32) i16 half[8][8][GROUP];
  Vector beyond = _mm256_setzero_si256();
  for (int column = 0; column < KEPT; ++column) {
    Vector x[8], y[8];
#pragma GCC unroll 8
    for (int row = 0; row < KEPT; ++row) {
      i16* const from = coefs + (8 * row + column) * GROUP;
      x[row] = _mm256_mullo_epi16(load(from), _mm256_set1_epi16(steps[8 * row + column]));
      store(from, _mm256_setzero_si256());
    }
    inverse<KEPT, 11>(x, y);
#pragma GCC unroll 8
    for (int row = 0; row < 8; ++row) {
      store(half[row][column], y[row]);
      beyond = _mm256_or_si256(beyond, _mm256_add_epi16(y[row], _mm256_set1_epi16(LIMIT)));
    }
  }
  if (_mm256_movemask_epi8(_mm256_srai_epi16(beyond, 15))) return false;
  for (int row = 0; row < 8; ++row) {
    Vector x[8], y[8];
#pragma GCC unroll 8
    for (int column = 0; column < KEPT; ++column) x[column] = load(half[row][column]);
    inverse<KEPT, 18>(x, y);
    put_row(y, out + row * pitch);
  }
  return true;
}

struct Colours {
  Vector red, green, blue;
};

// Colours of 16 pixels, given in 16 bits. Blue's constant and green's are even, and their halves are taken; red's
// rounds to the same as the other one does for each of the 256 values there are.
AVX2_INLINE Colours colours_of(Vector luma, Vector cb, Vector cr) {
  const Vector b = _mm256_sub_epi16(cb, _mm256_set1_epi16(128)), r = _mm256_sub_epi16(cr, _mm256_set1_epi16(128));
  const Vector more_red = _mm256_mulhrs_epi16(r, _mm256_set1_epi16(13173));
  const Vector more_blue = _mm256_mulhrs_epi16(b, _mm256_set1_epi16(-7471));
  const Vector more_green = joined<15>(products(pairs_of(b, r), -11277, 9367) + same(1 << 14));
  const Vector red = _mm256_add_epi16(_mm256_add_epi16(luma, r), more_red);
  const Vector green = _mm256_add_epi16(_mm256_sub_epi16(luma, r), more_green);
  const Vector blue = _mm256_add_epi16(_mm256_add_epi16(luma, _mm256_add_epi16(b, b)), more_blue);
  return {red, green, blue};
}

// Makes colours of as many of `count` pixels as fill vectors, and returns how many these are.
AVX2 inline int to_rgb(const u8* y, const u8* cb, const u8* cr, int count, u8* red, u8* green, u8* blue) {
  const Vector zero = _mm256_setzero_si256();
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    const Vector luma = load(y + i), b = load(cb + i), r = load(cr + i);
    const Colours low =
        colours_of(_mm256_unpacklo_epi8(luma, zero), _mm256_unpacklo_epi8(b, zero), _mm256_unpacklo_epi8(r, zero));
    const Colours high =
        colours_of(_mm256_unpackhi_epi8(luma, zero), _mm256_unpackhi_epi8(b, zero), _mm256_unpackhi_epi8(r, zero));
    store(red + i, _mm256_packus_epi16(low.red, high.red));
    store(green + i, _mm256_packus_epi16(low.green, high.green));
    store(blue + i, _mm256_packus_epi16(low.blue, high.blue));
  }
  return i;
}

}  // namespace vectors
}  // namespace jpegin

#undef AVX2
#undef AVX2_INLINE

#endif
