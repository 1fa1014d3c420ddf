// The arithmetic of baseline JPEG (ITU-T T.81), in whole numbers, as libjpeg does it: the same
// pixels give the same coefficients. tests/spec.py is its specification.
#pragma once

#include "pixel.h"

constexpr int BLOCK = 8;   // pixels on the side of a block
constexpr int COEFS = 64;  // coefficients of a block

// Zigzag order: the place (row * 8 + column) of the k-th coefficient.
CONSTANT_TABLE u8 ZIGZAG[COEFS] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// ---- colour: ITU-R 601 in 16 bits of fraction, less 128 -----------------------------------

INLINE i16 luma(int r, int g, int b) { return (i16)(((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) - 128); }
INLINE i16 blueness(int r, int g, int b) { return (i16)((-11059 * r - 21709 * g + 32768 * b + 32767) >> 16); }
INLINE i16 redness(int r, int g, int b) { return (i16)((32768 * r - 27439 * g - 5329 * b + 32767) >> 16); }

// ---- the forward transform of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) ---------------
//
// Constants have 13 bits of fraction. The rows' pass keeps 2 bits more than its result has, the
// columns' pass takes them away; both together leave the coefficients 8 times too large.

template <int bits> INLINE i32 rounded(i32 value) { return (value + (1 << (bits - 1))) >> bits; }

struct Rows {
  static INLINE i32 whole(i32 value) { return value * 4; }
  static INLINE i32 fraction(i32 value) { return rounded<11>(value); }
};

struct Columns {
  static INLINE i32 whole(i32 value) { return rounded<2>(value); }
  static INLINE i32 fraction(i32 value) { return rounded<15>(value); }
};

// Transforms the eight values that lie step apart at v.
template <class Pass> INLINE void transform(i16* v, int step) {
  const i32 sum0 = v[0] + v[7 * step], sum1 = v[step] + v[6 * step];
  const i32 sum2 = v[2 * step] + v[5 * step], sum3 = v[3 * step] + v[4 * step];
  const i32 odd7 = v[0] - v[7 * step], odd6 = v[step] - v[6 * step];
  const i32 odd5 = v[2 * step] - v[5 * step], odd4 = v[3 * step] - v[4 * step];

  const i32 outer = sum0 + sum3, outer_less = sum0 - sum3, inner = sum1 + sum2, inner_less = sum1 - sum2;
  const i32 turn = (inner_less + outer_less) * 4433;
  v[0] = (i16)Pass::whole(outer + inner);
  v[4 * step] = (i16)Pass::whole(outer - inner);
  v[2 * step] = (i16)Pass::fraction(turn + outer_less * 6270);
  v[6 * step] = (i16)Pass::fraction(turn - inner_less * 15137);

  const i32 all = (odd4 + odd6 + odd5 + odd7) * 9633;
  const i32 ends = (odd4 + odd7) * -7373, middles = (odd5 + odd6) * -20995;
  const i32 evens = all + (odd4 + odd6) * -16069, odds = all + (odd5 + odd7) * -3196;
  v[7 * step] = (i16)Pass::fraction(odd4 * 2446 + ends + evens);
  v[5 * step] = (i16)Pass::fraction(odd5 * 16819 + middles + odds);
  v[3 * step] = (i16)Pass::fraction(odd6 * 25172 + middles + evens);
  v[step] = (i16)Pass::fraction(odd7 * 12299 + ends + odds);
}

// ---- quantisation --------------------------------------------------------------------------

// The high half of a product.
INLINE u16 high(u16 a, u16 b) { return (u16)((u32)a * b >> 16); }

// |value| / divisor, rounded half away from zero; exact for less than 2^14, and no coefficient has more.
INLINE i16 quantised(i16 value, u16 half, u16 reciprocal, u16 scale) {
  const i16 sign = (i16)(value >> 15), size = (i16)(value < 0 ? -value : value);
  const i16 level = (i16)high(high((u16)(size + half), reciprocal), scale);
  return (i16)((level ^ sign) - sign);
}

// ---- entropy coding ------------------------------------------------------------------------

// How many bits |value| has.
INLINE int width_of(i32 value) {
  const i32 size = value < 0 ? -value : value;
  return larger((i32)(bits_of((float)size) >> 23) - 126, 0);
}

// The bits that tell value from the others of its width: itself, or less 1 where it is negative.
INLINE u32 tail_of(i32 value, int width) { return (u32)(value + (value >> 31)) & ((1u << width) - 1); }
