// Decompresses LZW streams of TIFF (TIFF 6.0, section 13): codes of 9 to 12 bits, the highest bit first, that
// grow by a bit one code early. For the host alone.
//
// What a code stands for is the string of the code before it and one byte more, which lies behind that string
// in the output. So an entry of the table is a place in the output and a length; no chain of entries is
// followed. Where codes begin hangs on how many came since the table was cleared, not on what they are, so that
// a core has several of them under way.
#pragma once

#include "tables.h"

namespace lzw {

constexpr u32 CLEAR = 256, END = 257, FIRST = 258;  // FIRST is the first code that stands for a string
constexpr u32 FULL = 4096;                          // entries of the table
constexpr int NARROWEST = 9, WIDEST = 12;           // bits of a code
constexpr int AT_ONCE = 4;                          // codes that are sure to be there where eight bytes are loaded
constexpr u32 PIECE = 8;                            // bytes that are copied at once, however few are wanted

static_assert(AT_ONCE * WIDEST + 7 <= 64, "so many codes are in eight bytes");

struct Literals {
  u8 bytes[256 + PIECE];
  constexpr Literals() : bytes() {
    for (int value = 0; value < 256; ++value) bytes[value] = (u8)value;
  }
};

constexpr Literals LITERALS;

// The string of a code: the address at which it begins, in the output or among LITERALS, and its bytes in the
// lowest LENGTH_BITS, so that one load has both.
typedef u64 Entry;

constexpr int LENGTH_BITS = 16, ADDRESS_BITS = 48;
static_assert(FULL < 1 << LENGTH_BITS, "a string is at most a byte longer than another");

INLINE Entry entry_of(const u8* from, u32 length) { return (u64)from << LENGTH_BITS | length; }
INLINE const u8* begin_of(Entry entry) { return (const u8*)(entry >> LENGTH_BITS); }
INLINE i64 length_of(Entry entry) { return (i64)(entry & ((1 << LENGTH_BITS) - 1)); }

// Where a stream is.
struct Hand {
  u64 at;      // the next bit
  u8* out;     // the next byte
  Entry last;  // the string of the code before
  u32 next;    // the entry that is to be made of it
};

struct Stream {
  const u8* in;
  i64 size;
  u8* limit;
  Hand hand;
  Entry table[FULL];
};

enum Outcome { MORE, CLEARED, ENDED, BROKEN };

INLINE bool has(const Stream& stream, int count) { return stream.hand.at + (u64)count <= (u64)stream.size * 8; }

// The next code of `width` bits; behind the input there are zeros.
INLINE u32 take(Stream& stream, int width) {
  u64 word = 0;
  const i64 from = (i64)(stream.hand.at >> 3), left = stream.size - from;
  for (i64 i = 0; i < left && i < 3; ++i) word |= (u64)stream.in[from + i] << (56 - 8 * i);
  word <<= stream.hand.at & 7;
  stream.hand.at += (u64)width;
  return (u32)(word >> (64 - width));
}

INLINE void go_on(Hand& hand, i64 length) {
  hand.last = entry_of(hand.out, (u32)length);
  hand.out += length;
  hand.next += 1;
}

// Takes one code, and checks whatever may be wrong with it.
template <int WIDTH>
inline __attribute__((noinline)) Outcome step(Stream& stream) {
  if (!has(stream, WIDTH)) return ENDED;
  const u32 code = take(stream, WIDTH);
  if (code == CLEAR) return CLEARED;
  if (code == END) return ENDED;
  Hand& hand = stream.hand;
  if (code > hand.next || hand.next == FULL) return BROKEN;
  stream.table[hand.next] = hand.last + 1;
  const u8* from = begin_of(stream.table[code]);
  const i64 length = length_of(stream.table[code]);
  if (length > stream.limit - hand.out) return BROKEN;
  for (i64 i = 0; i < length; ++i) hand.out[i] = from[i];  // that made just now ends with its own first byte
  go_on(hand, length);
  return MORE;
}

// Takes a code that was made before the last one, and for whose string there is ample room; false: it is another.
INLINE bool take_plain(Stream& stream, Hand& hand, u32 code) {
  const u8* from = begin_of(stream.table[code]);
  const i64 length = length_of(stream.table[code]);
  const bool known = code < hand.next && code - CLEAR > END - CLEAR;
  if (__builtin_expect(!known, 0) || __builtin_expect(stream.limit - hand.out < length + PIECE, 0)) return false;
  store_little_endian(hand.out, load_little_endian(from));
  for (i64 i = PIECE; __builtin_expect(i < length, 0); i += PIECE)
    store_little_endian(hand.out + i, load_little_endian(from + i));
  stream.table[hand.next] = hand.last + 1;
  go_on(hand, length);
  return true;
}

// Takes plain codes, as many as eight bytes hold at a time, until another comes, or the codes grow.
template <int WIDTH>
INLINE void take_many(Stream& stream, u32 stop) {
  Hand hand = stream.hand;
  while (hand.next + (u32)AT_ONCE <= stop && stream.size - (i64)(hand.at >> 3) >= 8) {
    u64 word = __builtin_bswap64(load_little_endian(stream.in + (hand.at >> 3))) << (hand.at & 7);
    int taken = 0;
    while (taken < AT_ONCE && take_plain(stream, hand, (u32)(word >> (64 - WIDTH)))) {
      word <<= WIDTH;
      taken += 1;
    }
    hand.at += (u64)(taken * WIDTH);
    if (__builtin_expect(taken < AT_ONCE, 0)) break;
  }
  stream.hand = hand;
}

// Takes codes of WIDTH bits until they grow, the table is cleared, or the stream ends.
template <int WIDTH>
INLINE Outcome run(Stream& stream) {
  constexpr u32 stop = WIDTH == WIDEST ? FULL : (1u << WIDTH) - 1;
  while (stream.hand.next < stop || WIDTH == WIDEST) {
    take_many<WIDTH>(stream, stop);
    if (stream.hand.next == stop && WIDTH < WIDEST) break;
    const Outcome outcome = step<WIDTH>(stream);
    if (outcome != MORE) return outcome;
  }
  return MORE;
}

// Takes the first code behind one that clears the table.
INLINE Outcome begin(Stream& stream) {
  u32 code = CLEAR;
  while (code == CLEAR) {
    if (!has(stream, NARROWEST)) return ENDED;
    code = take(stream, NARROWEST);
  }
  if (code == END) return ENDED;
  if (code > CLEAR || stream.hand.out == stream.limit) return BROKEN;
  *stream.hand.out = (u8)code;
  go_on(stream.hand, 1);
  stream.hand.next = FIRST;
  return MORE;
}

// Whether a stream fills its room, and ends there. One of older programs, with the lowest bit first, does not
// begin with the code that clears the table.
inline bool decompress(const Inflate& job) {
  Stream stream;
  stream.in = (const u8*)job.in;
  stream.size = job.size;
  stream.limit = (u8*)job.out + job.capacity;
  stream.hand = {0, (u8*)job.out, 0, FIRST};
  for (u32 value = 0; value < CLEAR; ++value) stream.table[value] = entry_of(LITERALS.bytes + value, 1);
  if ((u64)stream.limit >> ADDRESS_BITS || (u64)&LITERALS >> ADDRESS_BITS) return false;
  if (!has(stream, NARROWEST) || take(stream, NARROWEST) != CLEAR) return false;
  Outcome outcome = CLEARED;
  while (outcome == CLEARED) {
    outcome = begin(stream);
    if (outcome == MORE) outcome = run<NARROWEST>(stream);
    if (outcome == MORE) outcome = run<NARROWEST + 1>(stream);
    if (outcome == MORE) outcome = run<NARROWEST + 2>(stream);
    if (outcome == MORE) outcome = run<WIDEST>(stream);
  }
  return outcome == ENDED && stream.hand.out == stream.limit;
}

}  // namespace lzw

EXPORT void lzw_streams(Inflate* jobs, i64 count) {
  for (i64 i = 0; i < count; ++i) jobs[i].done = lzw::decompress(jobs[i]);
}
