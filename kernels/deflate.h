// The arithmetic of deflate streams (RFC 1951) and of the checksums around them (RFC 1950, PNG annex D).
#pragma once

#include "pixel.h"

constexpr int LITERALS = 286;  // symbols of literals, lengths, and the end of a block
constexpr int END_OF_BLOCK = 256;
constexpr int DISTANCES = 30;
constexpr int LENGTH_CODES = 19;
constexpr int LONGEST_CODE = 15;
constexpr int LONGEST_LENGTH_CODE = 7;
constexpr int LONGEST_MATCH = 258;
constexpr int FARTHEST = 32768;
constexpr u32 ADLER_BASE = 65521;

// ---- symbols -------------------------------------------------------------------------------

// A length or a distance: its symbol, and the bits that tell it from others of that symbol.
struct Symbol {
  int symbol;
  int bits;
  u32 tail;
};

// The place of the highest bit of 1 … 2^24.
INLINE int highest(u32 value) { return (int)(bits_of((float)value) >> 23) - 127; }

INLINE Symbol length_symbol(int length) {
  const int over = length - 3;
  if (length == LONGEST_MATCH) return {285, 0, 0};
  if (over < 8) return {257 + over, 0, 0};
  const int top = highest((u32)over), bits = top - 2;
  return {257 + 4 * (top - 1) + ((over >> bits) & 3), bits, (u32)over & ((1u << bits) - 1)};
}

INLINE Symbol distance_symbol(int distance) {
  const int over = distance - 1;
  if (over < 4) return {over, 0, 0};
  const int top = highest((u32)over), bits = top - 1;
  return {2 * top + ((over >> bits) & 1), bits, (u32)over & ((1u << bits) - 1)};
}

// The order in which the lengths of the code of lengths are sent.
CONSTANT_TABLE u8 LENGTH_ORDER[LENGTH_CODES] = {
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

// ---- prefix codes --------------------------------------------------------------------------

// Room for the tree of a code: leaves first, then what joins them; the root is last.
struct Tree {
  u32 weight[2 * LITERALS];
  u16 parent[2 * LITERALS];
};

// Joins the two lightest nodes until one is left. Leaves have ascending weights, and so have the
// nodes that are made: the lightest is always the next of one kind or the other.
INLINE void grow(Tree& tree, int leaves) {
  int leaf = 0, node = leaves;
  for (int next = leaves; next < 2 * leaves - 1; ++next) {
    u32 total = 0;
    for (int child = 0; child < 2; ++child) {
      const bool is_leaf = leaf < leaves && (node >= next || tree.weight[leaf] <= tree.weight[node]);
      const int taken = is_leaf ? leaf++ : node++;
      total += tree.weight[taken];
      tree.parent[taken] = (u16)next;
    }
    tree.weight[next] = total;
  }
}

// Makes room for all codes where those longer than `most` were counted as `most`: a code that is
// too long becomes the sibling of a shorter one, which moves down by one.
INLINE void shorten(u16 (&counts)[LONGEST_CODE + 1], int most) {
  u32 taken = 0;
  for (int length = 1; length <= most; ++length) taken += (u32)counts[length] << (most - length);
  for (; taken > 1u << most; --taken) {
    int length = most - 1;
    while (!counts[length]) --length;
    counts[length] -= 1;
    counts[length + 1] += 2;
    counts[most] -= 1;
  }
}

// Gives symbols the lengths of the best prefix code of at most `most` bits. `order` has them with
// ascending weights, which lie in the tree, and at least two; lengths of others stay as they are.
INLINE void find_lengths(Tree& tree, const u16* order, int count, int most, u8* lengths) {
  u16 counts[LONGEST_CODE + 1] = {};
  grow(tree, count);
  tree.weight[2 * count - 2] = 0;  // from here on depths
  for (int at = 2 * count - 3; at >= 0; --at) {
    tree.weight[at] = tree.weight[tree.parent[at]] + 1;
    if (at < count) counts[smaller((int)tree.weight[at], most)] += 1;
  }
  shorten(counts, most);
  for (int length = most; length > 0; --length)
    for (int i = 0; i < counts[length]; ++i) lengths[*order++] = (u8)length;
}

// A code with its first bit lowest.
INLINE u32 turned_code(u32 code, int length) {
  u32 turned = 0;
  for (int i = 0; i < length; ++i) turned |= (code >> i & 1) << (length - 1 - i);
  return turned;
}

// The code of a symbol (RFC 1951, 3.2.2), its first bit lowest.
INLINE u16 code_of(const u8* lengths, int symbols, int symbol) {
  const int length = lengths[symbol];
  u32 code = 0, before = 0;
  for (int i = 0; i < symbols; ++i) {
    if (lengths[i] && lengths[i] < length) code += 1u << (length - lengths[i]);
    before += i < symbol && lengths[i] == length;
  }
  return (u16)turned_code(code + before, length);
}

// ---- checksums -----------------------------------------------------------------------------
//
// A CRC is the rest of a polynomial whose highest coefficient is the lowest bit: what follows
// multiplies what came before by a power of x.

constexpr u32 POLYNOMIAL = 0xEDB88320u;

// x to the power of 8 · 2^i.
CONSTANT_TABLE u32 BYTES_ON[16] = {
    0x00800000u, 0x00008000u, 0xedb88320u, 0xb1e6b092u, 0xa06a2517u, 0xed627daeu, 0x88d14467u, 0xd7bbfe6au,
    0xec447f11u, 0x8e7ea170u, 0x6427800eu, 0x4d47bae0u, 0x09fe548fu, 0x83852d0fu, 0x30362f1au, 0x7b5a9cc3u};

INLINE u32 crc_step(u32 crc) { return crc >> 1 ^ (POLYNOMIAL & (0u - (crc & 1))); }

INLINE u32 crc_entry(u32 byte) {
  for (int i = 0; i < 8; ++i) byte = crc_step(byte);
  return byte;
}

INLINE u32 crc_bytes(u32 crc, const u8* bytes, int count) {
  for (int i = 0; i < count; ++i) crc = crc >> 8 ^ crc_entry((crc ^ bytes[i]) & 255);
  return crc;
}

INLINE u32 crc_product(u32 a, u32 b) {
  u32 product = 0;
  for (int i = 0; i < 32; ++i) {
    product ^= b & (0u - (a >> 31));
    a <<= 1;
    b = crc_step(b);
  }
  return product;
}

// What a CRC becomes when `count` (less than 65536) zero bytes follow.
INLINE u32 crc_shifted(u32 crc, int count) {
  for (int i = 0; count >> i; ++i)
    if (count >> i & 1) crc = crc_product(BYTES_ON[i], crc);
  return crc;
}

// The Adler-32 of bytes: of each place in a row of ROW the sum, and the sum of sums.
INLINE u32 adler_of(const u8* data, i64 size) {
  constexpr int ROW = 64, ROWS = 20;  // so that the sums of sums of a column are below 65536
  u64 low = 1, high = 0;
  for (; size >= ROW * ROWS; size -= ROW * ROWS) {
    u16 sums[ROW] = {}, weighted[ROW] = {};
    for (int row = 0; row < ROWS; ++row, data += ROW)
      for (int i = 0; i < ROW; ++i) {
        sums[i] = (u16)(sums[i] + data[i]);
        weighted[i] = (u16)(weighted[i] + sums[i]);
      }
    u32 sum = 0, rows = 0, columns = 0;
    for (int i = 0; i < ROW; ++i) {
      sum += sums[i];
      rows += weighted[i];
      columns += (u32)sums[i] * i;
    }
    high += low * ROW * ROWS + (u64)rows * ROW - columns;
    low += sum;
    low %= ADLER_BASE;
    high %= ADLER_BASE;
  }
  for (; size > 0; --size) {
    low += *data++;
    high += low;
  }
  return (u32)(high % ADLER_BASE) << 16 | (u32)(low % ADLER_BASE);
}
