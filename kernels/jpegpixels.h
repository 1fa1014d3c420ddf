// From the coefficients of baseline JPEG to pixels, in whole numbers, as libjpeg does it: the same
// coefficients give the same pixels.
//
// For the host alone. GROUP blocks are transformed at a time, each in a lane of its own.
#pragma once

#include "jpegcodes.h"
#include "jpegvectors.h"

namespace jpegin {

constexpr i32 LIMIT = 1 << 14;  // of values before a transform: sums and products stay within 32 bits

// The inverse of Loeffler, Ligtenberg and Moschytz' transform for eight values of which the first KEPT
// may be other than 0. Constants have 13 bits of fraction; `bits` of those that the values have are taken away.
template <int KEPT, int bits> INLINE void inverse(const i32 (&x)[8], i32 (&out)[8]) {
  const i32 half = 1 << (bits - 1);
  const i32 x2 = KEPT > 2 ? x[2] : 0, x4 = KEPT > 4 ? x[4] : 0, x6 = KEPT > 6 ? x[6] : 0;
  const i32 turn = (x2 + x6) * 4433;
  const i32 low = turn + x2 * 6270, high = turn - x6 * 15137;
  const i32 sum = (x[0] + x4) * 8192 + half, less = (x[0] - x4) * 8192 + half;
  const i32 even0 = sum + low, even3 = sum - low, even1 = less + high, even2 = less - high;

  const i32 x1 = KEPT > 1 ? x[1] : 0, x3 = KEPT > 3 ? x[3] : 0, x5 = KEPT > 5 ? x[5] : 0, x7 = KEPT > 7 ? x[7] : 0;
  const i32 all = (x7 + x3 + x5 + x1) * 9633;
  const i32 ends = (x7 + x1) * -7373, middles = (x5 + x3) * -20995;
  const i32 evens = all + (x7 + x3) * -16069, odds = all + (x5 + x1) * -3196;
  const i32 odd0 = x7 * 2446 + ends + evens, odd1 = x5 * 16819 + middles + odds;
  const i32 odd2 = x3 * 25172 + middles + evens, odd3 = x1 * 12299 + ends + odds;

  out[0] = (even0 + odd3) >> bits, out[7] = (even0 - odd3) >> bits;
  out[1] = (even1 + odd2) >> bits, out[6] = (even1 - odd2) >> bits;
  out[2] = (even2 + odd1) >> bits, out[5] = (even2 - odd1) >> bits;
  out[3] = (even3 + odd0) >> bits, out[4] = (even3 - odd0) >> bits;
}

INLINE i32 clamped(i32 value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

// Transforms a group of blocks, of which the first KEPT rows and columns may be other than 0, to 8 rows of
// 8 × GROUP samples, and leaves zeros. False where a value is too large for the sums of the second pass.
template <int KEPT> INLINE bool transform(i16* coefs, const i16* steps, u8* out, i64 pitch) {
  static_assert(GROUP == 16, "as many blocks as a vector has");
  WITH_AVX2(return vectors::transform<KEPT>(coefs, steps, LIMIT, out, pitch));
  alignas(64) i32 half[8][8][GROUP];
  u32 beyond = 0;
  for (int column = 0; column < KEPT; ++column) {
    u32 seen = 0;
    for (int b = 0; b < GROUP; ++b) {
      i32 x[8] = {}, y[8];
      for (int row = 0; row < KEPT; ++row)
        x[row] = coefs[(8 * row + column) * GROUP + b] * (i32)steps[8 * row + column];
      inverse<KEPT, 11>(x, y);
      for (int row = 0; row < 8; ++row) {
        half[row][column][b] = y[row];
        seen |= (u32)(y[row] + LIMIT);
      }
    }
    beyond |= seen;
  }
  for (int row = 0; row < KEPT; ++row) __builtin_memset(coefs + 8 * row * GROUP, 0, KEPT * GROUP * sizeof(i16));
  if (beyond >= 2 * LIMIT) return false;
  for (int row = 0; row < 8; ++row) {
    alignas(64) i32 wide[8][GROUP];
    for (int b = 0; b < GROUP; ++b) {
      i32 x[8] = {}, y[8];
      for (int column = 0; column < KEPT; ++column) x[column] = half[row][column][b];
      inverse<KEPT, 18>(x, y);
      for (int column = 0; column < 8; ++column) wide[column][b] = clamped(y[column] + 128);
    }
    alignas(64) u32 left[GROUP], right[GROUP];
    for (int b = 0; b < GROUP; ++b) {
      left[b] = (u32)(wide[0][b] | wide[1][b] << 8 | wide[2][b] << 16 | wide[3][b] << 24);
      right[b] = (u32)(wide[4][b] | wide[5][b] << 8 | wide[6][b] << 16 | wide[7][b] << 24);
    }
    alignas(64) u64 both[GROUP];
    for (int b = 0; b < GROUP; ++b) both[b] = left[b] | (u64)right[b] << 32;
    __builtin_memcpy(out + row * pitch, both, sizeof both);
  }
  return true;
}

// ---- chroma of twice the width, between the samples of its row ---------------------------------

// Three quarters of the nearer sample, one of the farther; at the rims the sample itself.
INLINE void widen(const u8* from, int count, u8* to) {
  u16* const __restrict pairs = (u16*)to;
  const auto pair = [](int left, int own, int right) INLINE_LAMBDA {
    return (u16)((3 * own + left + 1) >> 2 | (3 * own + right + 2) >> 2 << 8);
  };
  pairs[0] = pair(from[0], from[0], from[count > 1]);
  for (int i = 1; i < count - 1; ++i) pairs[i] = pair(from[i - 1], from[i], from[i + 1]);
  if (count > 1) pairs[count - 1] = pair(from[count - 2], from[count - 1], from[count - 1]);
}

// The same from two rows, of which `near` counts thrice.
INLINE void widen(const u8* near, const u8* far, int count, u16* __restrict sums, u8* to) {
  u16* const __restrict pairs = (u16*)to;
  for (int i = 0; i < count; ++i) sums[i + 1] = (u16)(3 * near[i] + far[i]);
  sums[0] = sums[1], sums[count + 1] = sums[count];
  for (int i = 0; i < count; ++i) {
    const u16 left = (u16)(3 * sums[i + 1] + sums[i] + 8) >> 4;
    const u16 right = (u16)(3 * sums[i + 1] + sums[i + 2] + 7) >> 4;
    pairs[i] = (u16)(left | right << 8);
  }
}

INLINE void repeat(const u8* from, int count, u8* to) {
  for (int i = 0; i < count; ++i) to[2 * i] = to[2 * i + 1] = from[i];
}

// ---- colour: ITU-R 601 in 16 bits of fraction ---------------------------------------------------

// The high 16 bits of a product.
INLINE i16 high(i16 a, i16 b) { return (i16)(a * (i32)b >> 16); }

INLINE u8 byte_of(i16 value) { return (u8)(value < 0 ? 0 : value > 255 ? 255 : value); }

// 1.402, 1.772 and 0.71414 less 1, 2 and 1: what is left fits the high half of a product of 16 bits.
INLINE void to_rgb(const u8* y, const u8* cb, const u8* cr, int count, u8* __restrict red, u8* __restrict green,
                   u8* __restrict blue) {
  int i = 0;
  WITH_AVX2(i = vectors::to_rgb(y, cb, cr, count, red, green, blue));
  for (; i < count; ++i) {
    const i16 b = (i16)(cb[i] - 128), r = (i16)(cr[i] - 128), luma = y[i];
    const i16 more_red = (i16)((i16)(high((i16)(2 * r), 26345) + 1) >> 1);
    const i16 more_blue = (i16)((i16)(high((i16)(2 * b), -14942) + 1) >> 1);
    // the low halves of both products, and one half of 16 bits, carry into the high ones
    const u16 low = (u16)(b * -22554), both = (u16)(low + (u16)(r * 18734));
    const i16 carry = (i16)((both < low) + (both >> 15));
    const i16 more_green = (i16)(high(b, -22554) + high(r, 18734) + carry);
    red[i] = byte_of((i16)(luma + r + more_red));
    green[i] = byte_of((i16)(luma - r + more_green));
    blue[i] = byte_of((i16)(luma + 2 * b + more_blue));
  }
}

}  // namespace jpegin
