// Huffman decoding of baseline JPEG (ITU-T T.81, annex F.2), several streams in turn.
//
// For the host alone. A core waits for most of a symbol's time: where the next one begins is known
// only after this one was looked up. So several streams take turns, three symbols each, and nothing
// branches on what these are: the first that ends a block is looked for afterwards.
#pragma once

#include "target.h"

namespace jpegin {

constexpr int INDEX = 11;          // bits of a look-up
constexpr int GROUP = 16;          // blocks whose coefficients lie side by side: [64][GROUP]
constexpr int LONGEST = 16;        // bits of a code
constexpr int WORST_BLOCK = 216;   // bytes that 64 symbols of 27 bits take

// An entry: how many bits a code has with its tail (bits 0 … 5), how far its coefficient is beyond the
// one before (8 … 15), and what makes its tail a value (24 … 28): a place in `mask` and `offset`. What is
// no coefficient is OUT of the block, so far that three of them still fit 8 bits.
constexpr int OUT = 64;
constexpr int MOST_TAIL = 10;  // bits of a coefficient other than a mean
constexpr int MOST_BITS = 19;  // of a symbol that is looked up: three of them are read together
constexpr int SHORTEST = MOST_BITS + 1 - MOST_TAIL;  // bits of a code that is not looked up
constexpr u32 LATER = 1 << 16;  // nothing is told: the code, or the sign behind it, goes on beyond INDEX bits
constexpr u32 END = 1 << 17;    // no coefficient follows

INLINE constexpr u32 entry(int bits, int distance, int tail = 0, bool negative = false) {
  return (u32)(bits | distance << 8 | (2 * tail + (negative && tail)) << 24);
}

constexpr u32 NONE = entry(0, OUT) | LATER;
constexpr u32 WRONG = entry(1, OUT);  // no such code, or one that is not decoded here

constexpr int SPARE = 64 * GROUP * 2;
constexpr int STRIDE = 66 * GROUP;  // from a group of blocks to the next

// What every symbol needs, in one piece, because each address takes a register: the bits of a tail; what it
// is less than its value if it begins with 0; and where the coefficient before the k-th lies, in bytes from the
// first one of its block. What is no coefficient goes to a spare place behind those of the group.
struct Constants {
  u32 mask[32], offset[32];
  u16 place[256];
};

constexpr Constants constants() {
  const u8 zigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
                         41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
                         30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};
  Constants constants = {};
  for (int n = 0; n < 32; ++n) {
    constants.mask[n] = (1u << n / 2) - 1;
    constants.offset[n] = n % 2 ? 1 - (1u << n / 2) : 0;
  }
  for (int k = 0; k < 256; ++k) constants.place[k] = (u16)(k > 0 && k <= 64 ? zigzag[k - 1] * GROUP * 2 : SPARE);
  return constants;
}

alignas(64) static constexpr Constants CONSTANTS = constants();

// A code of annex C, and what it is looked up in.
struct Codes {
  u32 quick[1 << INDEX];
  u32 limit[LONGEST + 1];   // of codes of a length, and shorter ones: the first 16 bits behind them
  i32 before[LONGEST + 1];  // symbols of shorter codes, less the first code
  u32 meanings[256];        // entries of the symbols, in order, as of positive values
  u8 told[16 + 256];        // how many codes of each length, then their symbols
  i32 symbols;
  i32 most;  // bits of a tail: what has more is not decoded here
  i32 means; // whether it is a code of means
  i32 used;

  // What a code of `length` bits stands for.
  u32 meaning(int length, int symbol, bool negative) const {
    const int run = symbol >> 4, tail = symbol & 15;
    if (means && symbol > most) return WRONG;
    if (means) return entry(length + symbol, 1, symbol, negative);
    if (!tail && !run) return entry(length, OUT) | END;
    if (tail > most || (!tail && run != 15)) return WRONG;
    return entry(length + tail, 1 + run, tail, negative);
  }

  void fill(u32 from, u32 to, u32 value) {
    for (u32 i = from; i < to; ++i) quick[i] = value;
  }

  // Makes the look-up of `told`; whether it is a code.
  bool make() {
    const u8* symbol = told + 16;
    u32 code = 0;  // from the left of 16 bits
    int all = 0;
    for (int length = 1; length <= LONGEST; ++length) {
      const u32 step = 1u << (LONGEST - length);
      before[length] = all - (i32)(code >> (LONGEST - length));
      for (int n = told[length - 1]; n > 0; --n, code += step, ++all) {
        if (means && symbol[all] > 15) return false;
        if (code + step >= 1u << LONGEST) return false;  // ones alone are no code
        const u32 plus = meaning(length, symbol[all], false), minus = meaning(length, symbol[all], true);
        meanings[all] = plus;
        const u32 from = code >> (LONGEST - INDEX), to = (code + step) >> (LONGEST - INDEX);
        if (length > INDEX) {
          quick[from] = NONE;
          continue;
        }
        if ((plus != minus && length == INDEX) || (!means && (int)(plus & 63) > MOST_BITS)) {
          fill(from, to, NONE);
          continue;
        }
        const u32 middle = plus == minus ? from : (from + to) / 2;
        fill(from, middle, minus);
        fill(middle, to, plus);
      }
      limit[length] = code;
    }
    const u32 rest = (code + (1u << (LONGEST - INDEX)) - 1) >> (LONGEST - INDEX);
    fill(rest, 1u << INDEX, WRONG);
    symbols = all;
    return true;
  }
};

// The entry of a code that no look-up has; `quick` is the beginning of a Codes. Nothing branches on how
// long the code is, or on a sign: no processor can foretell it.
INLINE u32 longer(const u32* quick, u64 bits) {
  const Codes& codes = *(const Codes*)quick;
  const u32 next = (u32)(bits >> 48);
  int length = SHORTEST;
  for (int i = SHORTEST; i <= LONGEST; ++i) length += next >= codes.limit[i];
  if (length > LONGEST) return WRONG;
  const u32 found = codes.meanings[codes.before[length] + (i32)(next >> (LONGEST - length))];
  const bool negative = !(bits << length >> 63);
  return found + ((u32)(negative & (found >> 24 != 0)) << 24);
}

// A block to be decoded, in the order of the scan.
struct Block {
  char* coefs;       // its first coefficient
  const u32* means;  // where its first symbol is looked up
  const u32* others;
  u8* most;  // coefficients that a block of its group has at most
  int component;
  u8 count;  // of its coefficients, those behind the last one that is told left out; 0: it is wrong
};

// How far a stream has come.
struct Spot {
  u64 at;  // its next bit: the bit's number in all of memory
  u32 k;   // coefficients that the block has so far, times 256
};

// A stream at work. What a block brings does not lie side by side: compilers would move it through a vector.
struct Turn {
  Spot spot;
  char* coefs;        // the block's
  u32 wrong;          // 0 as long as all means had a code
  const u32* others;  // the block's
  Block* block;
  Block* stop;
};

INLINE u64 bits_at(u64 at) {
  u64 bits;
  __builtin_memcpy(&bits, (const u8*)(at >> 3), sizeof bits);
  return __builtin_bswap64(bits) << (at & 7);
}

INLINE u32 distance_of(u32 found) { return found >> 8 & 255; }

INLINE u64 without(u64 bits, u32 found) { return bits << (found & 63) | bits >> (-found & 63); }

// Puts down the value whose tail lies behind the first symbol, which was taken off. As a copy of bytes, which
// may change anything: so coefs and others of a turn are read again each time. Kept in registers, of which
// two streams need more than there are, they would be in the way of what changes with each symbol.
INLINE void put(char* to, u64 bits, u32 found) {
  const i16 value = (i16)(((u32)bits & CONSTANTS.mask[found >> 24]) + CONSTANTS.offset[found >> 24]);
  __builtin_memcpy(to, &value, sizeof value);
}

// Begins a block with its mean.
INLINE void open(Turn& turn, Spot& spot) {
  const Block& block = *turn.block;
  turn.coefs = block.coefs, turn.others = block.others;
  const u64 bits = bits_at(spot.at);
  u32 found = block.means[bits >> (64 - INDEX)];
  if (__builtin_expect(found & LATER, 0)) found = longer(block.means, bits);
  put(turn.coefs, without(bits, found), found);
  spot.at += found & 63;
  turn.wrong |= distance_of(found) - 1;
  spot.k = 1 << 8;
}

// Takes the code that the look-up did not have, and returns what was found.
INLINE u32 take_later(Turn& turn, Spot& spot) {
  const u64 bits = bits_at(spot.at);
  const u32 found = longer(turn.others, bits);
  spot.k += distance_of(found) << 8;
  put(turn.coefs + CONSTANTS.place[spot.k >> 8], without(bits, found), found);
  spot.at += found & 63;
  return found;
}

// Takes the first of three symbols that ends its block, and begins the next one. False at the stop.
INLINE bool close(Turn& turn, Spot& spot, u32 one, u32 two, u32 three) {
  const u32 first = spot.k + (distance_of(one) << 8), second = first + (distance_of(two) << 8);
  // masks: of conditions compilers make branches, and half of these would be foretold wrongly
  const u32 to_second = 0 - (u32)(first < OUT << 8), to_third = 0 - (u32)(second < OUT << 8);
  u32 found = one ^ ((one ^ two) & to_second) ^ ((two ^ three) & to_third);
  const u32 before = spot.k + ((first - spot.k) & to_second) + ((second - first) & to_third);
  const u32 used = one + (two & to_second) + (three & to_third);
  spot.at += used & 63;
  spot.k = before + (distance_of(found) << 8);
  if (__builtin_expect(found & LATER, 0)) {
    spot.k = before;
    found = take_later(turn, spot);
    if (spot.k < OUT << 8) return true;
  }
  const u32 count = found & END ? before : spot.k == OUT << 8 && found >> 24 ? spot.k : 0;
  turn.block->count = (u8)(count >> 8);
  if (++turn.block == turn.stop) return false;
  open(turn, spot);
  return true;
}

// Takes a symbol off the bits, puts its value down, and returns what was found.
INLINE u32 take(const Turn& turn, u64& bits, u32& sum) {
  const u32 found = turn.others[bits >> (64 - INDEX)];
  bits = without(bits, found);
  sum += found;
  put(turn.coefs + CONSTANTS.place[sum >> 8 & 255], bits, found);
  return found;
}

// Takes three symbols. False at the stop.
INLINE bool take_three(Turn& turn, Spot& spot) {
  u64 bits = bits_at(spot.at);
  u32 sum = spot.k;  // of the entries: in its parts, bits and distances
  const u32 one = take(turn, bits, sum), two = take(turn, bits, sum), three = take(turn, bits, sum);
  if ((sum & 255 << 8) >= OUT << 8) return close(turn, spot, one, two, three);
  spot.at += sum & 255;
  spot.k = sum & 255 << 8;
  return true;
}

// Decodes until one of the streams is at its stop.
template <int LANES> INLINE void decode(Turn* const (&turns)[LANES]) {
  Spot spots[LANES];
  for (int i = 0; i < LANES; ++i) spots[i] = turns[i]->spot;
  for (bool going = true; going;)
#pragma GCC unroll 2
    for (int i = 0; i < LANES; ++i)
      if (!take_three(*turns[i], spots[i])) {
        going = false;
        break;
      }
  for (int i = 0; i < LANES; ++i) turns[i]->spot = spots[i];
}

}  // namespace jpegin
