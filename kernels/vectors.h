// Vectors of AVX2, for functions that are called where the processor has it, whatever level the rest is compiled for.
#pragma once

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE AVX2 inline __attribute__((always_inline))

namespace vectors {

typedef __m256i Vector;

AVX2_INLINE Vector load(const void* from) { return _mm256_loadu_si256((const Vector*)from); }
AVX2_INLINE void store(void* to, Vector values) { _mm256_storeu_si256((Vector*)to, values); }

// 16 bytes from each of two places.
AVX2_INLINE Vector load_halves(const void* low, const void* high) {
  const __m128i first = _mm_loadu_si128((const __m128i*)low), second = _mm_loadu_si128((const __m128i*)high);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

// What 16 pairs of 16 bits are multiplied by.
AVX2_INLINE Vector factors(i16 first, i16 second) {
  return _mm256_set1_epi32((i32)((u32)(u16)first | (u32)(u16)second << 16));
}

// Of two vectors of 16 bits: pairs of their values, or sums of 32 bits, in the order of `pairs_of`.
struct Pairs {
  Vector low, high;
};

AVX2_INLINE Pairs pairs_of(Vector a, Vector b) { return {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)}; }

// The first of each pair × `first` + the second × `second`.
AVX2_INLINE Pairs products(Pairs pairs, i16 first, i16 second) {
  const Vector by = factors(first, second);
  return {_mm256_madd_epi16(pairs.low, by), _mm256_madd_epi16(pairs.high, by)};
}

AVX2_INLINE Pairs operator+(Pairs a, Pairs b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}

AVX2_INLINE Pairs operator-(Pairs a, Pairs b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}

AVX2_INLINE Pairs operator+(Pairs a, i32 b) {
  const Vector all = _mm256_set1_epi32(b);
  return {_mm256_add_epi32(a.low, all), _mm256_add_epi32(a.high, all)};
}

// The sums less `bits` bits of fraction, as 16 values in their order; what is beyond 16 bits goes as far as they do.
template <int bits> AVX2_INLINE Vector joined(Pairs sums) {
  return _mm256_packs_epi32(_mm256_srai_epi32(sums.low, bits), _mm256_srai_epi32(sums.high, bits));
}

// Makes bytes of as many of `count` values below 2^31 as fill vectors, and returns how many these are: of whole numbers,
// rounded towards 0, and of what is beyond a byte as far as it goes.
AVX2 inline int to_bytes(const float* values, int count, u8* bytes) {
  const Vector order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packs put halves of vectors side by side
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    Vector whole[4];
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) whole[part] = _mm256_cvttps_epi32(_mm256_loadu_ps(values + i + 8 * part));
    const Vector low = _mm256_packs_epi32(whole[0], whole[1]), high = _mm256_packs_epi32(whole[2], whole[3]);
    store(bytes + i, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
  }
  return i;
}

AVX2_INLINE Vector twice(const u8* bytes) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)bytes));
}

// Weaves as many of `count` pixels as fill vectors, and returns how many these are; `sample` and `own` as in weave.h.
AVX2 inline int weave(const u8* const (&planes)[3], const u8 (&sample)[3][16], const u8 (&own)[3][16], int count,
                      u8* out) {
  const Vector second = twice(own[1]), third = twice(own[2]);
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    Vector v[3], thirds[3];
#pragma GCC unroll 3
    for (int p = 0; p < 3; ++p) v[p] = _mm256_shuffle_epi8(load(planes[p] + i), twice(sample[p]));
#pragma GCC unroll 3
    for (int t = 0; t < 3; ++t) {
      const Vector two = _mm256_blendv_epi8(v[t], v[(t + 1) % 3], second);
      thirds[t] = _mm256_blendv_epi8(two, v[(t + 2) % 3], third);
    }
    store(out + 3 * i, _mm256_permute2x128_si256(thirds[0], thirds[1], 0x20));
    store(out + 3 * i + 32, _mm256_permute2x128_si256(thirds[2], thirds[0], 0x30));
    store(out + 3 * i + 64, _mm256_permute2x128_si256(thirds[1], thirds[2], 0x31));
  }
  return i;
}

}  // namespace vectors
