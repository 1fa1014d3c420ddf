// The arithmetic of jpeg.h and jpegpixels.h in vectors of AVX2, 16 blocks side by side.
//
// Products are of 16 bits and come in pairs, so the constants of a transform are put together: sums of whole numbers,
// in another order, are the same.
#pragma once

#include "target.h"

#ifdef AVX2  // else nobody calls these

namespace vectors {

constexpr int ABREAST = 16;

// What both transforms make of their odd values: the first and the last of them, and those between.
AVX2_INLINE void odd_sums(Pairs outer, Pairs inner, Pairs (&out)[4]) {
  out[0] = products(outer, 11363, 2260) + products(inner, 9633, 6437);
  out[1] = products(outer, 9633, -6436) + products(inner, -2259, -11362);
  out[2] = products(outer, 6437, 9633) + products(inner, -11362, 2261);
  out[3] = products(outer, 2260, -11363) + products(inner, -6436, 9633);
}

// ---- from coefficients to pixels ----------------------------------------------------------------

template <int KEPT, int bits> AVX2_INLINE void inverse(const Vector (&x)[8], Vector (&out)[8]) {
  constexpr i32 half = 1 << (bits - 1);
  Pairs even[4], odd[4];
  if constexpr (KEPT > 4) {
    const Pairs x04 = pairs_of(x[0], x[4]), x26 = pairs_of(x[2], x[6]);
    const Pairs sum = products(x04, 8192, 8192) + half, less = products(x04, 8192, -8192) + half;
    const Pairs low = products(x26, 10703, 4433), high = products(x26, 4433, -10704);
    even[0] = sum + low, even[1] = less + high, even[2] = less - high, even[3] = sum - low;
    odd_sums(pairs_of(x[1], x[7]), pairs_of(x[3], x[5]), odd);
  } else {
    const Pairs x02 = pairs_of(x[0], x[2]), x13 = pairs_of(x[1], x[3]);
    even[0] = products(x02, 8192, 10703) + half, even[1] = products(x02, 8192, 4433) + half;
    even[2] = products(x02, 8192, -4433) + half, even[3] = products(x02, 8192, -10703) + half;
    odd[0] = products(x13, 11363, 9633), odd[1] = products(x13, 9633, -2259);
    odd[2] = products(x13, 6437, -11362), odd[3] = products(x13, 2260, -6436);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    out[i] = joined<bits>(even[i] + odd[i]);
    out[7 - i] = joined<bits>(even[i] - odd[i]);
  }
}

// Puts down a row of blocks, given column by column, as samples.
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

// Transforms blocks of which the first KEPT rows and columns may be other than 0, and leaves zeros. False where a
// value between the passes is not within `limit`, which 16 bits hold.
template <int KEPT> AVX2 bool transform(i16* coefs, const i16* steps, i16 limit, u8* out, i64 pitch) {
  alignas(32) i16 half[8][8][ABREAST];
  Vector beyond = _mm256_setzero_si256();
  for (int column = 0; column < KEPT; ++column) {
    Vector x[8], y[8];
#pragma GCC unroll 8
    for (int row = 0; row < KEPT; ++row) {
      i16* const from = coefs + (8 * row + column) * ABREAST;
      x[row] = _mm256_mullo_epi16(load(from), _mm256_set1_epi16(steps[8 * row + column]));
      store(from, _mm256_setzero_si256());
    }
    inverse<KEPT, 11>(x, y);
#pragma GCC unroll 8
    for (int row = 0; row < 8; ++row) {
      store(half[row][column], y[row]);
      beyond = _mm256_or_si256(beyond, _mm256_add_epi16(y[row], _mm256_set1_epi16(limit)));
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
  const Vector more_green = joined<15>(products(pairs_of(b, r), -11277, 9367) + (1 << 14));
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

// ---- from pixels to coefficients ----------------------------------------------------------------

struct Ycc {
  Vector y, blue, red;
};

// Eight pixels, given as red and green, and as green and blue. Constants of 32768 are taken off as less than 0, which
// 16 bits hold; luma's of green is half in either pair.
AVX2_INLINE Ycc ycc_of(Vector rg, Vector gb) {
  const Vector luma = _mm256_add_epi32(_mm256_madd_epi16(rg, factors(19595, 19235)),
                                       _mm256_madd_epi16(gb, factors(19235, 7471)));
  const Vector blue = _mm256_sub_epi32(_mm256_madd_epi16(rg, factors(-11059, -21709)),
                                       _mm256_madd_epi16(gb, factors(0, -32768)));
  const Vector red = _mm256_sub_epi32(_mm256_madd_epi16(gb, factors(-27439, -5329)),
                                      _mm256_madd_epi16(rg, factors(-32768, 0)));
  const Vector round = _mm256_set1_epi32(32768 - (128 << 16)), round_less = _mm256_set1_epi32(32767);
  return {_mm256_srai_epi32(_mm256_add_epi32(luma, round), 16),
          _mm256_srai_epi32(_mm256_add_epi32(blue, round_less), 16),
          _mm256_srai_epi32(_mm256_add_epi32(red, round_less), 16)};
}

// Where the bytes of four pixels' reds and greens, and greens and blues, lie, as values of 16 bits.
#define RED_GREEN(at) at, -1, at + 1, -1, at + 3, -1, at + 4, -1, at + 6, -1, at + 7, -1, at + 9, -1, at + 10, -1
#define GREEN_BLUE(at) RED_GREEN(at + 1)

// Converts as many of `count` RGB pixels as fill vectors, and returns how many these are.
AVX2 inline int convert(const u8* row, int count, i16* y, i16* blue, i16* red) {
  const Vector rg = _mm256_setr_epi8(RED_GREEN(0), RED_GREEN(0)), gb = _mm256_setr_epi8(GREEN_BLUE(0), GREEN_BLUE(0));
  // the last four of 16 pixels are read from four bytes before them, for what lies behind may not be read
  const Vector last_rg = _mm256_setr_epi8(RED_GREEN(0), RED_GREEN(4));
  const Vector last_gb = _mm256_setr_epi8(GREEN_BLUE(0), GREEN_BLUE(4));
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    const u8* const from = row + 3 * i;
    const Vector one = load_halves(from, from + 24), two = load_halves(from + 12, from + 32);
    const Ycc a = ycc_of(_mm256_shuffle_epi8(one, rg), _mm256_shuffle_epi8(one, gb));
    const Ycc b = ycc_of(_mm256_shuffle_epi8(two, last_rg), _mm256_shuffle_epi8(two, last_gb));
    store(y + i, _mm256_packs_epi32(a.y, b.y));
    store(blue + i, _mm256_packs_epi32(a.blue, b.blue));
    store(red + i, _mm256_packs_epi32(a.red, b.red));
  }
  return i;
}

#undef RED_GREEN
#undef GREEN_BLUE

// The passes of jpeg.h: what each keeps of whole values, and how many bits of fraction it takes away.
struct Rows {
  static constexpr int bits = 11;
  static AVX2_INLINE Vector whole(Vector values) { return _mm256_slli_epi16(values, 2); }
};

struct Columns {
  static constexpr int bits = 15;
  static AVX2_INLINE Vector whole(Vector values) {
    return _mm256_srai_epi16(_mm256_add_epi16(values, _mm256_set1_epi16(2)), 2);
  }
};

template <class Pass> AVX2_INLINE Vector fraction(Pairs sums) {
  return joined<Pass::bits>(sums + (1 << (Pass::bits - 1)));
}

// Transforms the eight values that lie step apart at v, of each block.
template <class Pass> AVX2_INLINE void forward(i16* v, int step) {
  Vector sum[4], less[4];  // of the first and the last value, and so on inwards
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Vector a = load(v + i * step), b = load(v + (7 - i) * step);
    sum[i] = _mm256_add_epi16(a, b), less[i] = _mm256_sub_epi16(a, b);
  }
  const Vector outer = _mm256_add_epi16(sum[0], sum[3]), inner = _mm256_add_epi16(sum[1], sum[2]);
  const Pairs even = pairs_of(_mm256_sub_epi16(sum[0], sum[3]), _mm256_sub_epi16(sum[1], sum[2]));
  store(v, Pass::whole(_mm256_add_epi16(outer, inner)));
  store(v + 4 * step, Pass::whole(_mm256_sub_epi16(outer, inner)));
  store(v + 2 * step, fraction<Pass>(products(even, 10703, 4433)));
  store(v + 6 * step, fraction<Pass>(products(even, 4433, -10704)));
  Pairs odd[4];
  odd_sums(pairs_of(less[0], less[3]), pairs_of(less[1], less[2]), odd);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) store(v + (2 * i + 1) * step, fraction<Pass>(odd[i]));
}

// Transforms and quantises `BLOCKS` blocks, which lie as [row][column][block].
template <int BLOCKS> AVX2 void transform_plane(i16* plane, const u16* half, const u16* reciprocal, const u16* scale) {
  static_assert(BLOCKS % ABREAST == 0, "vectors are full");
  for (int b = 0; b < BLOCKS; b += ABREAST) {
    for (int y = 0; y < 8; ++y) forward<Rows>(plane + 8 * BLOCKS * y + b, BLOCKS);
    for (int x = 0; x < 8; ++x) forward<Columns>(plane + BLOCKS * x + b, 8 * BLOCKS);
  }
  for (int k = 0; k < 64; ++k) {
    const Vector more = _mm256_set1_epi16((i16)half[k]);
    const Vector by = _mm256_set1_epi16((i16)reciprocal[k]), then = _mm256_set1_epi16((i16)scale[k]);
    for (int b = 0; b < BLOCKS; b += ABREAST) {
      i16* const at = plane + BLOCKS * k + b;
      const Vector value = load(at), size = _mm256_add_epi16(_mm256_abs_epi16(value), more);
      store(at, _mm256_sign_epi16(_mm256_mulhi_epu16(_mm256_mulhi_epu16(size, by), then), value));
    }
  }
}

}  // namespace vectors

#endif
