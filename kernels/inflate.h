// Inflates several zlib streams (RFC 1950, RFC 1951) side by side. For the host alone.
//
// One stream is bound by latency: the bits of a symbol tell where those of the next begin. A core has room
// for several such chains, so streams take turns in one loop: LANES at a time, each with tables of its own.
// A turn takes a few symbols, and branches on little but whether a match is among them. Whatever it is not
// made for (long codes, long matches, the ends of blocks, of the input and of the output) is left to `step`,
// which checks all there is to check.
#pragma once

#include "deflate.h"
#include "tables.h"

namespace lanes {

constexpr int LANES = 3;
constexpr int WIDTH = 10;          // bits of the table of literals and lengths
constexpr int DISTANCE_WIDTH = 8;  // and of that of distances
constexpr int ALPHABET = 288;      // the fixed code has two literals that are never used
constexpr int COPIED = 16;         // bytes that a turn copies of a match, however few are wanted
constexpr int LOADED = 57;         // bits that are sure to be there where eight bytes are loaded
constexpr int LONGEST_TURN = 2 * WIDTH + DISTANCE_WIDTH + 13;  // bits
constexpr int LONGEST_STEP = 64;                               // bits, unless a block ends
constexpr i64 MOST_READ = 16;      // bytes that a turn and a step take at most
constexpr i64 MOST_WRITTEN = LONGEST_MATCH + 8;
constexpr i64 MOST_AHEAD = 8;      // bytes that a turn reads beyond those that it takes

static_assert(LONGEST_TURN + WIDTH <= LOADED, "what is left of the bits is enough for the next look-up");
static_assert(LONGEST_TURN + LONGEST_STEP <= 8 * MOST_READ, "so many are kept free");

enum Outcome { MORE, END, BROKEN };

// What turns look up. Literals: how many bits they take, how many they are (1 or 2), and themselves. A match:
// 0 and 0, so that whoever takes it for literals takes nothing, then its length and the bits that this takes.
// Its parts are loaded one by one: a core has more room for loads than for shifts.
struct Quick {
  u8 bits;
  u8 count;
  u8 first;   // or the length
  u8 second;  // or the bits of the length
};

constexpr u32 OTHER = 255u << 16;  // longer than any match that a turn copies: left to `step`

// The bits of a distance's code and tail, those of the code alone, and the least distance; zeros stand for
// what `step` has to find out.
struct Far {
  u8 bits;
  u8 code;
  u16 least;
};

CONSTANT_TABLE u16 LENGTH_BASE[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
CONSTANT_TABLE u8 LENGTH_EXTRA[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
CONSTANT_TABLE u16 DISTANCE_BASE[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
CONSTANT_TABLE u8 DISTANCE_EXTRA[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                        6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

INLINE u64 low_bits(u64 word, u32 count) { return word & (((u64)1 << count) - 1); }

// The lowest 15 bits in reverse: codes are sent with their highest bit first.
INLINE u32 reversed(u32 bits) {
  bits = (bits & 0x5555) << 1 | (bits >> 1 & 0x5555);
  bits = (bits & 0x3333) << 2 | (bits >> 2 & 0x3333);
  bits = (bits & 0x0f0f) << 4 | (bits >> 4 & 0x0f0f);
  return ((bits & 0x00ff) << 8 | (bits >> 8 & 0x00ff)) >> 1;
}

// A prefix code as its lengths define it: symbols in the order of their codes.
struct Code {
  u16 count[16];
  u16 before[16];  // symbols of shorter codes
  u32 first[16];   // code of each length
  u16 symbols[ALPHABET];

  // False where two symbols would share a code, or codes are left that no symbol has: of the latter only a
  // code of a single bit is allowed, and none at all.
  bool make(const u8* lengths, int size) {
    u16 odd[16] = {};  // so that one count does not wait for the other
    for (u16& each : count) each = 0;
    int i = 0;
    for (; i + 1 < size; i += 2) {
      count[lengths[i]] += 1;
      odd[lengths[i + 1]] += 1;
    }
    if (i < size) count[lengths[i]] += 1;
    for (int length = 1; length < 16; ++length) count[length] = (u16)(count[length] + odd[length]);
    count[0] = 0;
    u32 code = 0, all = 0;
    for (int length = 1; length <= LONGEST_CODE; ++length) {
      code <<= 1;
      first[length] = code;
      before[length] = (u16)all;
      code += count[length];
      all += count[length];
      if (code > 1u << length) return false;
    }
    u16 next[16] = {};
    for (int length = 1; length <= LONGEST_CODE; ++length) next[length] = before[length];
    for (int symbol = 0; symbol < size; ++symbol)
      if (lengths[symbol]) symbols[next[lengths[symbol]]++] = (u16)symbol;
    return code == 1u << LONGEST_CODE || all == 0 || (all == 1 && count[1] == 1);
  }

  // Returns symbol << 4 | length of the code longer than `length` that the bits begin with; 0: there is none.
  u32 find(u64 word, int length) const {
    const u32 code = reversed((u32)word);
    for (++length; length <= LONGEST_CODE; ++length) {
      const u32 over = (code >> (LONGEST_CODE - length)) - first[length];
      if (over < count[length]) return (u32)symbols[before[length] + over] << 4 | length;
    }
    return 0;
  }

  // Calls fill(at, symbol, length) for each code of at most `width` bits; `at` is the code in reverse.
  template <typename Fill>
  INLINE void each(int width, Fill fill) const {
    for (int length = 1; length <= width; ++length)
      for (u32 i = 0; i < count[length]; ++i)
        fill(reversed((first[length] + i) << (LONGEST_CODE - length)), symbols[before[length] + i], length);
  }
};

// One stream on its way.
struct Lane {
  u64 at;         // the address of the next bit: that of its byte × 8, and its number
  u64 end;        // the same of the end of the input
  u8* out;
  u8* begin;
  u8* limit;
  bool last;      // no block follows this one
  bool fixed;     // the codes are those of the fixed code
  Inflate* job;
  u32 quick[1 << WIDTH];  // each a Quick
  Far distances[1 << DISTANCE_WIDTH];
  u16 plain[1 << WIDTH];  // symbol << 4 | length of its code; 0: see `code`
  Code code;
  Code distance_code;
};

INLINE u64 load(u64 at) { return load_little_endian((const u8*)(at >> 3)) >> (at & 7); }

// At least LOADED of the next bits; behind the input there are zeros.
INLINE u64 bits(const Lane& lane) {
  const u8* from = (const u8*)(lane.at >> 3);
  const i64 left = (const u8*)(lane.end >> 3) - from;
  if (left >= 8) return load(lane.at);
  u64 word = 0;
  for (i64 i = 0; i < left; ++i) word |= (u64)from[i] << 8 * i;
  return word >> (lane.at & 7);
}

// ---- tables --------------------------------------------------------------------------------

// Codes in reverse, shortest first, and the table of them: what a code begins repeats behind it, so that the
// table doubles with each length.
INLINE void fill_plain(Lane& lane, u16* backwards) {
  const Code& code = lane.code;
  int all = 0;
  lane.plain[0] = 0;
  for (int length = 1; length <= WIDTH; ++length) {
    const int half = 1 << (length - 1);
    __builtin_memcpy(lane.plain + half, lane.plain, half * sizeof *lane.plain);
    for (u32 i = 0; i < code.count[length]; ++i, ++all) {
      const u32 at = reversed((code.first[length] + i) << (LONGEST_CODE - length));
      backwards[all] = (u16)at;
      lane.plain[at] = (u16)(code.symbols[all] << 4 | length);
    }
  }
}

INLINE u32 entry_of(u32 bits, u32 count, u32 first, u32 second) {
  return bits | count << 8 | first << 16 | second << 24;
}

// What follows a literal of `length` bits, where it is a literal that fits into the table too.
INLINE void fill_pairs(const Lane& lane, int length, u32* pairs) {
  for (u32 i = 0; i < 1u << (WIDTH - length); ++i) {
    const u32 symbol = lane.plain[i] >> 4, both = length + (lane.plain[i] & 15);
    const bool fits = lane.plain[i] && symbol < 256 && both <= WIDTH;
    pairs[i] = fits ? entry_of(both, 2, 0, symbol) : entry_of(length, 1, 0, 0);
  }
}

INLINE void fill_quick(Lane& lane, const u16* backwards) {
  for (u32& entry : lane.quick) entry = OTHER;
  const Code& code = lane.code;
  u32 pairs[1 << WIDTH];
  int all = 0;
  for (int length = 1; length <= WIDTH; ++length) {
    if (!code.count[length]) continue;
    const u32 step = 1u << length, many = 1u << (WIDTH - length);
    fill_pairs(lane, length, pairs);
    for (u32 i = 0; i < code.count[length]; ++i, ++all) {
      u32* to = lane.quick + backwards[all];
      const u32 symbol = code.symbols[all];
      if (symbol < 256) {
        for (u32 j = 0; j < many; ++j) to[j * step] = pairs[j] | symbol << 16;
      } else if (symbol > END_OF_BLOCK && symbol < LITERALS) {
        const u32 base = LENGTH_BASE[symbol - 257], extra = LENGTH_EXTRA[symbol - 257], whole = length + extra;
        if (whole > WIDTH || base + (1u << extra) - 1 > COPIED) continue;
        for (u32 j = 0; j < many; ++j) to[j * step] = entry_of(0, 0, base + (j & ((1u << extra) - 1)), whole);
      }
    }
  }
}

INLINE void fill_distances(Lane& lane) {
  for (Far& entry : lane.distances) entry = {};
  lane.distance_code.each(DISTANCE_WIDTH, [&](u32 at, u32 symbol, int length) INLINE_LAMBDA {
    if (symbol >= DISTANCES) return;
    const Far entry = {(u8)(length + DISTANCE_EXTRA[symbol]), (u8)length, DISTANCE_BASE[symbol]};
    for (u32 i = at; i < 1u << DISTANCE_WIDTH; i += 1u << length) lane.distances[i] = entry;
  });
}

inline bool set_codes(Lane& lane, const u8* lengths, int literals, int distances) {
  if (!lane.code.make(lengths, literals) || !lane.distance_code.make(lengths + literals, distances)) return false;
  u16 backwards[ALPHABET];
  fill_plain(lane, backwards);
  fill_quick(lane, backwards);
  fill_distances(lane);
  return true;
}

// ---- blocks --------------------------------------------------------------------------------

INLINE u32 take(Lane& lane, int count) {
  const u32 value = (u32)low_bits(bits(lane), count);
  lane.at += count;
  return value;
}

// Reads the code lengths of a block of its own codes.
inline bool read_codes(Lane& lane) {
  lane.fixed = false;
  const int literals = 257 + (int)take(lane, 5), distances = 1 + (int)take(lane, 5);
  const int sent = 4 + (int)take(lane, 4), all = literals + distances;
  if (literals > LITERALS || distances > DISTANCES) return false;
  u8 lengths[LITERALS + DISTANCES] = {};
  for (int i = 0; i < sent; ++i) lengths[LENGTH_ORDER[i]] = (u8)take(lane, 3);
  Code code;
  if (!code.make(lengths, LENGTH_CODES)) return false;
  u8 table[1 << LONGEST_LENGTH_CODE] = {};
  code.each(LONGEST_LENGTH_CODE, [&](u32 at, u32 symbol, int length) INLINE_LAMBDA {
    for (u32 i = at; i < 1u << LONGEST_LENGTH_CODE; i += 1u << length) table[i] = (u8)(symbol << 3 | length);
  });
  for (int i = 0; i < all;) {
    u64 word = bits(lane);
    int taken = 0;
    while (i < all && taken <= LOADED - LONGEST_LENGTH_CODE - 7) {
      const u32 entry = table[word & ((1 << LONGEST_LENGTH_CODE) - 1)], symbol = entry >> 3, length = entry & 7;
      if (!entry) return false;
      word >>= length;
      taken += length;
      if (symbol < 16) {
        lengths[i++] = (u8)symbol;
        continue;
      }
      const int extra = symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
      const int times = (symbol == 18 ? 11 : 3) + (int)low_bits(word, extra);
      if ((symbol == 16 && i == 0) || i + times > all) return false;
      const u8 value = symbol == 16 ? lengths[i - 1] : 0;
      for (int j = 0; j < times; ++j) lengths[i + j] = value;
      i += times;
      word >>= extra;
      taken += extra;
    }
    lane.at += taken;
  }
  return lane.at <= lane.end && set_codes(lane, lengths, literals, distances);
}

inline bool fixed_codes(Lane& lane) {
  if (lane.fixed) return true;
  u8 lengths[ALPHABET + DISTANCES + 2];
  for (int i = 0; i < ALPHABET; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
  for (int i = 0; i < DISTANCES + 2; ++i) lengths[ALPHABET + i] = 5;
  return lane.fixed = set_codes(lane, lengths, ALPHABET, DISTANCES + 2);
}

inline bool copy_stored(Lane& lane) {
  lane.at = (lane.at + 7) & ~(u64)7;
  if (lane.at + 32 > lane.end) return false;
  const u32 length = take(lane, 16), check = take(lane, 16);
  const u8* from = (const u8*)(lane.at >> 3);
  if ((length ^ check) != 0xffff || lane.end - lane.at < 8 * (u64)length || lane.limit - lane.out < (i64)length)
    return false;
  __builtin_memcpy(lane.out, from, length);
  lane.out += length;
  lane.at += 8 * (u64)length;
  return true;
}

// Goes on to the next symbol of the stream, over the heads of blocks.
inline Outcome begin_block(Lane& lane) {
  for (;;) {
    if (lane.last) return END;
    if (lane.at + 3 > lane.end) return BROKEN;
    lane.last = take(lane, 1);
    const u32 kind = take(lane, 2);
    if (kind == 0) {
      if (!copy_stored(lane)) return BROKEN;
      continue;
    }
    const bool good = kind == 1 ? fixed_codes(lane) : kind == 2 && read_codes(lane);
    return good ? MORE : BROKEN;
  }
}

// ---- symbols -------------------------------------------------------------------------------

// Copies a match byte by byte near the end of the room, else in pieces that may write beyond it.
INLINE void copy_match(Lane& lane, u32 length, u32 distance) {
  u8* to = lane.out;
  const u8* from = to - distance;
  u8* const end = to + length;
  lane.out = end;
  if (distance == 1) {
    __builtin_memset(to, *from, length);
  } else if (lane.limit - end < 16 || distance < 8) {
    if (lane.limit - end < 16) {
      while (to < end) *to++ = *from++;
      return;
    }
    // a pattern of 2 … 7 bytes: as much of it as fits in 8 is written, and the next goes on behind it
    u64 pattern = 0;
    for (u32 i = 0; i < 8; ++i) pattern |= (u64)from[i % distance] << 8 * i;
    const u32 stride = 8 - 8 % distance;
    for (; to < end; to += stride) store_little_endian(to, pattern);
  } else if (distance < 16) {
    for (; to < end; to += 8, from += 8) __builtin_memcpy(to, from, 8);
  } else {
    for (; to < end; to += 16, from += 16) {
      u8 piece[16];
      __builtin_memcpy(piece, from, 16);
      __builtin_memcpy(to, piece, 16);
    }
  }
}

// Decodes one symbol, and checks whatever may be wrong with it.
inline __attribute__((noinline)) Outcome step(Lane& lane) {
  u64 word = bits(lane);
  u32 entry = lane.plain[word & ((1 << WIDTH) - 1)];
  if (!entry) entry = lane.code.find(word, WIDTH);
  if (!entry) return BROKEN;
  const u32 symbol = entry >> 4;
  word >>= entry & 15;
  lane.at += entry & 15;
  if (symbol < 256) {
    if (lane.at > lane.end || lane.out == lane.limit) return BROKEN;
    *lane.out++ = (u8)symbol;
    return MORE;
  }
  if (symbol == END_OF_BLOCK) return lane.at > lane.end ? BROKEN : begin_block(lane);
  if (symbol >= LITERALS) return BROKEN;
  const u32 extra = LENGTH_EXTRA[symbol - 257];
  const u32 length = LENGTH_BASE[symbol - 257] + (u32)low_bits(word, extra);
  word >>= extra;
  Far far = lane.distances[word & ((1 << DISTANCE_WIDTH) - 1)];
  if (!far.bits) {
    const u32 found = lane.distance_code.find(word, 0), which = found >> 4, width = found & 15;
    if (!found || which >= DISTANCES) return BROKEN;
    far = {(u8)(width + DISTANCE_EXTRA[which]), (u8)width, DISTANCE_BASE[which]};
  }
  const u32 distance = far.least + (u32)(low_bits(word, far.bits) >> far.code);
  lane.at += extra + far.bits;
  if (lane.at > lane.end || distance > lane.out - lane.begin || length > lane.limit - lane.out) return BROKEN;
  copy_match(lane, length, distance);
  return MORE;
}

// How many turns are safe: no read or write of theirs leaves the input or the room of the output.
INLINE i64 safe_turns(const Lane& lane) {
  const i64 reads = ((i64)(lane.end >> 3) - (i64)(lane.at >> 3) - MOST_AHEAD) / MOST_READ;
  const i64 writes = (lane.limit - lane.out - COPIED) / MOST_WRITTEN;
  const i64 turns = reads < writes ? reads : writes;
  return turns > 0 ? turns : 0;
}

// ---- turns ---------------------------------------------------------------------------------

typedef u8 Piece __attribute__((vector_size(COPIED), aligned(1), may_alias));

// What a turn has of a lane in registers: where it is, and at least WIDTH of the bits that are there.
struct Hand {
  u64 at;
  u64 word;
  u8* out;
};

INLINE void take_up(const Lane& lane, Hand& hand) {
  hand.at = lane.at;
  hand.word = bits(lane);
  hand.out = lane.out;
}

INLINE void lay_down(Lane& lane, const Hand& hand) {
  lane.at = hand.at;
  lane.out = hand.out;
}

// One or two literals, if they come next; then one or two more, or a match. False: what comes then is for
// `step`. All parts of an entry are loaded before anything is written: the compiler cannot know that the
// output does not lie in the tables.
INLINE bool turn(const Lane& lane, Hand& hand) {
  const Quick& first = ((const Quick*)lane.quick)[low_bits(hand.word, WIDTH)];
  const u32 first_bits = first.bits, first_count = first.count;
  u64 word = load(hand.at) >> (first_bits & 63);  // on its way while the literals are looked up
  u8* const out = hand.out + first_count;
  __builtin_memcpy(hand.out, &first.first, 2);
  hand.at += first_bits;
  hand.out = out;
  const Quick& then = ((const Quick*)lane.quick)[low_bits(word, WIDTH)];
  const u32 count = then.count;
  if (count) {
    const u32 bits = then.bits;
    __builtin_memcpy(out, &then.first, 2);
    hand.at += bits;
    hand.word = word >> (bits & 63);
    hand.out = out + count;
    return true;
  }
  const u32 own = then.second, length = then.first;
  word >>= own & 63;
  const Far& far = lane.distances[low_bits(word, DISTANCE_WIDTH)];
  const u32 bits = far.bits;
  const u64 distance = far.least + (low_bits(word, bits) >> (far.code & 63));
  const u64 from = (u64)out - distance;
  if (__builtin_expect(length > COPIED, 0) || __builtin_expect(length > distance, 0) ||
      __builtin_expect(from < (u64)lane.begin, 0))
    return false;
  hand.at += own + bits;
  hand.word = word >> (bits & 63);
  hand.out = out + length;
  *(Piece*)out = *(const Piece*)from;
  return true;
}

// Takes a turn; where the lane stops, or a block has ended, the turns are over.
INLINE void take_turn(Lane& lane, Hand& hand, Outcome& outcome, i64& turns) {
  if (__builtin_expect(turn(lane, hand), 1)) return;
  lay_down(lane, hand);
  outcome = step(lane);
  if (outcome != MORE || lane.at - hand.at > LONGEST_STEP) turns = 0;
  take_up(lane, hand);
}

// Lets the first N lanes take turns; what becomes of them is in `outcomes`.
template <int N>
INLINE void run(Lane* lanes, Outcome* outcomes) {
  i64 turns = safe_turns(lanes[0]);
  for (int i = 1; i < N; ++i) {
    const i64 others = safe_turns(lanes[i]);
    turns = others < turns ? others : turns;
  }
  Hand first, second, third;
  take_up(lanes[0], first);
  if constexpr (N > 1) take_up(lanes[1], second);
  if constexpr (N > 2) take_up(lanes[2], third);
  for (; turns > 0; --turns) {
    take_turn(lanes[0], first, outcomes[0], turns);
    if constexpr (N > 1) take_turn(lanes[1], second, outcomes[1], turns);
    if constexpr (N > 2) take_turn(lanes[2], third, outcomes[2], turns);
  }
  lay_down(lanes[0], first);
  if constexpr (N > 1) lay_down(lanes[1], second);
  if constexpr (N > 2) lay_down(lanes[2], third);
}

// ---- streams -------------------------------------------------------------------------------

INLINE Outcome begin(Lane& lane, Inflate& job) {
  lane.job = &job;
  lane.at = job.in * 8;
  lane.end = (job.in + job.size) * 8;
  lane.out = lane.begin = (u8*)job.out;
  lane.limit = lane.begin + job.capacity;
  lane.last = false;
  if (job.size < 2) return BROKEN;
  const u32 method = take(lane, 8), flags = take(lane, 8);
  const bool known = (method & 15) == 8 && method >> 4 <= 7 && !(flags & 32) && (method << 8 | flags) % 31 == 0;
  return known ? begin_block(lane) : BROKEN;
}

// Whether a stream that has ended fills the room that there is for it, and has the checksum that follows it.
INLINE bool is_whole(Lane& lane) {
  lane.at = (lane.at + 7) & ~(u64)7;
  if (lane.at + 32 > lane.end || lane.out != lane.limit) return false;
  u32 told = take(lane, 32);
  return __builtin_bswap32(told) == adler_of(lane.begin, lane.limit - lane.begin);
}

// Goes on alone where no turn is safe.
INLINE Outcome alone(Lane& lane, Outcome outcome) {
  while (outcome == MORE && !safe_turns(lane)) outcome = step(lane);
  return outcome;
}

INLINE void inflate(Inflate* jobs, i64 count) {
  Lane lanes[LANES];
  Outcome outcomes[LANES];
  for (Lane& lane : lanes) lane.fixed = false;
  int busy = 0;
  for (i64 next = 0; next < count || busy;) {
    if (busy < LANES && next < count) {
      outcomes[busy] = begin(lanes[busy], jobs[next++]);
      busy += 1;
    } else if (busy == 1) {
      run<1>(lanes, outcomes);
    } else if (busy == 2) {
      run<2>(lanes, outcomes);
    } else {
      run<LANES>(lanes, outcomes);
    }
    for (int i = busy - 1; i >= 0; --i) {
      outcomes[i] = alone(lanes[i], outcomes[i]);
      if (outcomes[i] == MORE) continue;
      lanes[i].job->done = outcomes[i] == END && is_whole(lanes[i]);
      busy -= 1;
      if (i == busy) continue;
      lanes[i] = lanes[busy];
      outcomes[i] = outcomes[busy];
    }
  }
}

}  // namespace lanes

EXPORT void inflate_streams(Inflate* jobs, i64 count) { lanes::inflate(jobs, count); }
