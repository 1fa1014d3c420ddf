// A segment of filtered rows, compressed by the LANES threads of a block (see deflate.cu).
//
// Each lane makes tokens of its own share of the bytes, which lie in shared memory; all of them
// together find the codes, and write their tokens where those of the lanes before end. What comes
// out does not depend on the order in which lanes come by.
#pragma once

#include "codes.h"

constexpr int LANES = 128;
constexpr int SHARE = LONGEST_MATCH;     // bytes of a lane: no match goes on into the next one's
constexpr int SEGMENT = LANES * SHARE;   // filtered bytes of a segment at most: SEGMENT in deflating.py
constexpr int HEADS = 2048;              // places that are remembered for matches
constexpr int SHORTEST = 4;              // bytes of a match
constexpr int SHORTEST_FAR = 10;         // of one neither in the pixel nor in the row before
constexpr u16 MATCH = 0x8000;            // a token that is no literal; the distance follows

// Where a segment's bytes lie in the filtered rows: some whole rows, or a part of a long one.
struct Place {
  i64 begin;
  int count;  // 0: the picture has fewer segments
  int row;    // bytes of a row, with its filter
  int samples;
  bool first, last;
};

// What a block's threads share.
struct Shared {
  union {
    u8 bytes[SEGMENT];        // the segment, later its stream
    u32 words[SEGMENT / 4];
  };
  union {
    u32 heads[HEADS];  // where four bytes are first, by their hash
    struct {
      Tree tree;
      u16 order[LITERALS + 2];
      u8 run_symbol[LITERALS + DISTANCES], run_tail[LITERALS + DISTANCES];
    };
  };
  u32 literals[LITERALS], distances[DISTANCES];  // how often each is used
  u8 lengths[LITERALS + DISTANCES];              // of codes: literals, then distances
  u16 codes[LITERALS + DISTANCES];
  u32 header[HEADER_WORDS];
  u32 crc_table[256];
  u32 bits[LANES];  // before the end of each lane
  int header_bits;
  u32 crc, sum, weighted;
};

// A lane's tokens lie LANES apart, so that lanes write beside each other.
struct Tokens {
  u16* at;
  INLINE void add(u16 token) {
    *at = token;
    at += LANES;
  }
  INLINE u16 next() {
    const u16 token = *at;
    at += LANES;
    return token;
  }
};

INLINE u32 hash_of(const u8* bytes) {
  const u32 four = bytes[0] | (u32)bytes[1] << 8 | (u32)bytes[2] << 16 | (u32)bytes[3] << 24;
  return four * 2654435761u >> 21;
}

INLINE void remember(Shared& shared, int count, int lane) {
  for (int i = lane; i + SHORTEST <= count; i += LANES) lower(&shared.heads[hash_of(shared.bytes + i)], (u32)i);
}

struct Match {
  int length, distance;
};

// Takes the match at `distance` if it is longer than the best.
INLINE void try_distance(const u8* bytes, int at, int distance, int most, Match& best) {
  if (distance > at || distance > FARTHEST) return;
  const u8 *here = bytes + at, *there = here - distance;
  int length = 0;
  while (length < most && here[length] == there[length]) ++length;
  if (length > best.length) best = {length, distance};
}

// The match that a lane takes at `at`; distance 0: none. Pixel and row before cost few bits; what
// lies elsewhere must be long, or its bytes take fewer as they are.
INLINE Match find_match(const Shared& shared, const Place& place, int at, int end) {
  Match best = {SHORTEST - 1, 0};
  const int most = smaller(LONGEST_MATCH, end - at);
  if (most < SHORTEST) return best;
  try_distance(shared.bytes, at, place.samples, most, best);
  try_distance(shared.bytes, at, place.row, most, best);
  const int head = (int)shared.heads[hash_of(shared.bytes + at)];
  if (best.length >= SHORTEST_FAR || head >= at) return best;
  Match far = {SHORTEST_FAR - 1, 0};
  try_distance(shared.bytes, at, at - head, most, far);
  return far.distance ? far : best;
}

// Makes a lane's tokens, and counts symbols.
INLINE int make_tokens(Shared& shared, const Place& place, int begin, int end, Tokens tokens, u32& extra) {
  int count = 0;
  for (int at = begin; at < end; ++count) {
    const Match match = find_match(shared, place, at, end);
    if (!match.distance) {
      tokens.add(shared.bytes[at]);
      increment(&shared.literals[shared.bytes[at++]]);
      continue;
    }
    tokens.add((u16)(MATCH | match.length));
    tokens.add((u16)(match.distance - 1));
    const Symbol length = length_symbol(match.length), distance = distance_symbol(match.distance);
    increment(&shared.literals[length.symbol]);
    increment(&shared.distances[distance.symbol]);
    extra += length.bits + distance.bits;
    at += match.length;
  }
  return count;
}

// ---- codes ----------------------------------------------------------------------------------

// Sorts the symbols that are used, the rarest first; each lane finds the places of some. Returns how
// many are used, to lanes that have such a symbol.
INLINE int sort_symbols(Shared& shared, const u32* counts, int symbols, int lane) {
  int used = 0;
  for (int symbol = lane; symbol < symbols; symbol += LANES) {
    const u32 count = counts[symbol];
    if (!count) continue;
    int before = 0;
    used = 0;
    for (int other = 0; other < symbols; ++other) {
      used += counts[other] != 0;
      before += counts[other] && (counts[other] < count || (counts[other] == count && other < symbol));
    }
    shared.order[before] = (u16)symbol;
    shared.tree.weight[before] = count;
  }
  return used;
}

// Finds the lengths and codes of symbols. Lane 0 has a symbol that is always used: the end of a block,
// or the first distance.
INLINE void make_code(Shared& shared, const u32* counts, int first, int symbols, int lane) {
  const int used = sort_symbols(shared, counts, symbols, lane);
  BARRIER();
  if (lane == 0) find_lengths(shared.tree, shared.order, used, LONGEST_CODE, shared.lengths + first);
  BARRIER();
  for (int symbol = lane; symbol < symbols; symbol += LANES)
    shared.codes[first + symbol] = code_of(shared.lengths + first, symbols, symbol);
}

// ---- streams --------------------------------------------------------------------------------

// The bits that a lane's tokens take.
INLINE u32 bits_of_tokens(const Shared& shared, Tokens tokens, int count) {
  u32 bits = 0;
  for (int i = 0; i < count; ++i) {
    const u32 token = tokens.next();
    if (token < MATCH) {
      bits += shared.lengths[token];
      continue;
    }
    bits += shared.lengths[length_symbol(token - MATCH).symbol];
    bits += shared.lengths[LITERALS + distance_symbol(tokens.next() + 1).symbol];
  }
  return bits;
}

INLINE void put_symbol(const Shared& shared, int first, const Symbol& symbol, Writer& bits) {
  const int at = first + symbol.symbol;
  bits.put(shared.codes[at] | symbol.tail << shared.lengths[at], shared.lengths[at] + symbol.bits);
}

INLINE void write_tokens(const Shared& shared, Tokens tokens, int count, Writer& bits) {
  for (int i = 0; i < count; ++i) {
    const u32 token = tokens.next();
    if (token < MATCH) {
      bits.put(shared.codes[token], shared.lengths[token]);
      continue;
    }
    put_symbol(shared, 0, length_symbol(token - MATCH), bits);
    put_symbol(shared, LITERALS, distance_symbol(tokens.next() + 1), bits);
  }
}

// Makes `bits[lane]` the sum of those of all lanes up to it.
INLINE void add_up(u32 (&bits)[LANES], int lane) {
  for (int step = 1; step < LANES; step *= 2) {
    BARRIER();
    const u32 before = lane >= step ? bits[lane - step] : 0;
    BARRIER();
    bits[lane] += before;
  }
  BARRIER();
}

// A stream's bytes lie in `shared` after a stored block's head, if it is one.
struct Stream {
  int count;    // bytes
  bool stored;
};

// Turns the segment in `shared` into a deflate block, if that is smaller, and says what it is.
INLINE Stream write_stream(Shared& shared, const Place& place, Tokens tokens, int count, u32 extra, int lane) {
  make_code(shared, shared.literals, 0, LITERALS, lane);
  make_code(shared, shared.distances, LITERALS, DISTANCES, lane);
  if (lane == 0) write_header(shared, place.last);
  shared.bits[lane] = extra + bits_of_tokens(shared, tokens, count);
  const u32 own = shared.bits[lane];
  add_up(shared.bits, lane);
  const u32 end = (u32)shared.header_bits + shared.bits[LANES - 1] + shared.lengths[END_OF_BLOCK];
  const int bytes = place.last ? (int)(end + 7) / 8 : (int)(end + 3 + 7) / 8 + 4;
  if (bytes > place.count) return {place.count + 5, true};

  for (int i = lane; i < (bytes + 3) / 4; i += LANES) shared.words[i] = 0;
  BARRIER();
  for (int i = lane; i < (shared.header_bits + 31) / 32; i += LANES)
    join_bits(&shared.words[i], shared.header[i]);
  Writer bits = writer_at(shared.words, (u32)shared.header_bits + shared.bits[lane] - own);
  write_tokens(shared, tokens, count, bits);
  if (lane == LANES - 1) {
    bits.put(shared.codes[END_OF_BLOCK], shared.lengths[END_OF_BLOCK]);
    if (!place.last) {  // an empty stored block, which ends at a whole byte
      bits.put(0, 8 * bytes - 32 - (int)end);
      bits.put(0xFFFF0000u, 32);
    }
  }
  bits.finish();
  return {bytes, false};
}
