// Filtered rows of detailed pictures as deflate blocks, by one thread each.
//
// Where hardly anything repeats, looking for matches costs the time and gains nothing: bytes are
// written by a code that a sample of them gave, and of matches there are only runs. Whether rows
// are of that kind the sample tells, too; those that are not are left to a compressor that searches.
#include "codes.h"

constexpr int LONGEST_DENSE = 14;        // bits of a code: four of them and a byte's rest fit in 64
constexpr int GROUP = 16;                // bytes that are looked at together; the shortest run
constexpr int SAMPLED = 256;             // bytes of which a group is counted
constexpr int SEEN = 2048;               // groups that are remembered
constexpr u32 ENOUGH = 2048;             // bytes that tell what the code should be

// ---- the sample ------------------------------------------------------------------------------

struct Sampled {
  u32 counts[LITERALS];
  u32 literals;  // bytes counted
  u32 flat;      // groups that are runs
  u32 repeated;  // groups, but for runs, that were there before
};

// Whether a group's bytes all are `value`.
INLINE bool is_flat(const u8* group, u8 value) {
  const u64 all = value * 0x0101010101010101ull;
  u64 other = 0;
  for (int i = 0; i < GROUP; i += 8) other |= load_little_endian(group + i) ^ all;
  return !other;
}

INLINE u64 group_hash(const u8* group) {
  const u64 low = load_little_endian(group), high = load_little_endian(group + 8);
  const u64 mixed = (low ^ (high << 23 | high >> 41)) * 0x9E3779B97F4A7C15ull;
  return mixed ^ mixed >> 29;
}

INLINE void sample_group(const u8* group, Sampled& sampled, u32 (&seen)[SEEN]) {
  if (is_flat(group, group[0])) {
    sampled.flat += 1;
    return;
  }
  sampled.literals += GROUP;
  for (int i = 0; i < GROUP; ++i) sampled.counts[group[i]] += 1;
  const u64 hash = group_hash(group);
  u32& known = seen[hash % SEEN];
  sampled.repeated += known == (u32)(hash >> 32);
  known = (u32)(hash >> 32);
}

INLINE void take_sample(const u8* bytes, i64 count, Sampled& sampled) {
  u32 seen[SEEN] = {};
  for (i64 at = 0; at + GROUP <= count; at += SAMPLED) sample_group(bytes + at, sampled, seen);
}

// ---- codes -----------------------------------------------------------------------------------

struct Dense {
  Tree tree;
  u16 order[LITERALS + 2];
  u8 run_symbol[LITERALS + DISTANCES], run_tail[LITERALS + DISTANCES];
  u8 lengths[LITERALS + DISTANCES];
  u32 header[HEADER_WORDS];
  int header_bits;
  u32 entries[LITERALS];  // the length of a code, and in the high half the code
};

// Sorts all symbols, the rarest first.
INLINE void sort_by_count(const u32 (&counts)[LITERALS], Dense& dense) {
  for (int symbol = 0; symbol < LITERALS; ++symbol) {
    int before = 0;
    for (int other = 0; other < LITERALS; ++other)
      before += counts[other] < counts[symbol] || (counts[other] == counts[symbol] && other < symbol);
    dense.order[before] = (u16)symbol;
    dense.tree.weight[before] = counts[symbol];
  }
}

// The codes of all lengths (RFC 1951, 3.2.2), their first bits lowest.
INLINE void number_codes(Dense& dense) {
  u32 next[LONGEST_DENSE + 2] = {};
  for (int symbol = 0; symbol < LITERALS; ++symbol) next[dense.lengths[symbol] + 1] += 1;
  next[0] = next[1] = 0;
  for (int length = 2; length <= LONGEST_DENSE; ++length) next[length] = (next[length - 1] + next[length]) << 1;
  for (int symbol = 0; symbol < LITERALS; ++symbol) {
    const int length = dense.lengths[symbol];
    dense.entries[symbol] = (u32)length | turned_code(next[length]++, length) << 16;
  }
}

// Every symbol has a code, whether the sample has it or not.
INLINE void make_codes(Sampled& sampled, Dense& dense) {
  for (int symbol = 0; symbol < LITERALS; ++symbol) sampled.counts[symbol] += 1;
  sampled.counts[LITERALS - 1] += sampled.flat * GROUP / LONGEST_MATCH;
  sort_by_count(sampled.counts, dense);
  find_lengths(dense.tree, dense.order, LITERALS, LONGEST_DENSE, dense.lengths);
  number_codes(dense);
  for (int distance = 0; distance < DISTANCES; ++distance)
    dense.lengths[LITERALS + distance] = distance < 2;  // a code of one symbol is none
}

// Whether there is detail that does not come again, in at least a sixteenth of the rows, with more
// than one and a half bits a byte.
INLINE bool is_dense(const Sampled& sampled, const Dense& dense) {
  u64 bits = 0;
  for (int symbol = 0; symbol < END_OF_BLOCK; ++symbol)
    bits += (u64)(sampled.counts[symbol] - 1) * dense.lengths[symbol];
  return sampled.literals >= ENOUGH && sampled.literals >= sampled.flat * GROUP / 16 &&
         2 * bits >= 3 * (u64)sampled.literals && 3 * sampled.repeated < sampled.literals / GROUP;
}

// ---- the stream ------------------------------------------------------------------------------

// Writes bits, the first lowest; up to 7 of them wait for others.
struct Packed {
  u8* to;
  u64 held;
  int count;

  INLINE void put(u64 value, int bits) {
    held |= value << count;
    count += bits;
  }
  // Writes whole bytes; at most 57 bits were put since the last time.
  INLINE void flush() {
    store_little_endian(to, held);
    to += count >> 3;
    held >>= count & ~7;
    count &= 7;
  }
  INLINE void fill() {
    if (count) count = 8;
    flush();
  }
};

INLINE u64 code_in(u32 entry) { return entry >> 16; }
INLINE int bits_in(u32 entry) { return (int)(entry & 63); }  // which shifts take from a register as it is

// Four at a time are joined before they meet what was put before: there is less to wait for. Of the sum of
// entries the low bits are the sum of the lengths.
INLINE void put_literals(const u32 (&entries)[LITERALS], const u8* bytes, int count, Packed& bits) {
  int at = 0;
  for (; at + 4 <= count; at += 4) {
    const u32 a = entries[bytes[at]], b = entries[bytes[at + 1]];
    const u32 c = entries[bytes[at + 2]], d = entries[bytes[at + 3]];
    const u64 first = code_in(a) | code_in(b) << bits_in(a), second = code_in(c) | code_in(d) << bits_in(c);
    bits.put(first | second << bits_in(a + b), bits_in(a + b + c + d));
    bits.flush();
  }
  for (; at < count; ++at) bits.put(code_in(entries[bytes[at]]), bits_in(entries[bytes[at]]));
  bits.flush();
}

INLINE void put_match(const u32 (&entries)[LITERALS], int length, Packed& bits) {
  const Symbol symbol = length_symbol(length);
  bits.put(code_in(entries[symbol.symbol]), bits_in(entries[symbol.symbol]));
  bits.put(symbol.tail, symbol.bits);
  bits.put(0, 1);  // the distance 1
  bits.flush();
}

// Writes what repeats the byte before `bytes`, and returns how many bytes that are.
INLINE i64 put_run(const u32 (&entries)[LITERALS], const u8* bytes, i64 count, Packed& bits) {
  i64 run = GROUP;
  while (run < count && bytes[run] == bytes[-1]) ++run;
  i64 left = run;
  for (; left > 2; left -= smaller(left, (i64)LONGEST_MATCH))
    put_match(entries, (int)smaller(left, (i64)LONGEST_MATCH), bits);
  put_literals(entries, bytes, (int)left, bits);
  return run;
}

INLINE void put_header(const Dense& dense, Packed& bits) {
  for (int at = 0; at < dense.header_bits; at += 32) {
    bits.put(dense.header[at / 32], smaller(32, dense.header_bits - at));
    bits.flush();
  }
}

INLINE void put_end(const u32 (&entries)[LITERALS], bool last, Packed& bits) {
  bits.put(code_in(entries[END_OF_BLOCK]), bits_in(entries[END_OF_BLOCK]));
  if (!last) bits.put(0, 3);  // an empty stored block, which ends at a whole byte
  bits.flush();
  bits.fill();
  if (last) return;
  bits.put(0xFFFF0000u, 32);
  bits.flush();
}

INLINE u8* write_dense(const PngDense& job, Dense& dense) {
  const u8* const bytes = (const u8*)job.filtered;
  Packed bits = {(u8*)job.out, 0, 0};
  write_header(dense, job.last);
  put_header(dense, bits);
  for (i64 at = 0; at < job.count;) {
    if (at && at + GROUP <= job.count && is_flat(bytes + at, bytes[at - 1])) {
      at += put_run(dense.entries, bytes + at, job.count - at, bits);
      continue;
    }
    const int some = (int)smaller((i64)GROUP, job.count - at);
    put_literals(dense.entries, bytes + at, some, bits);
    at += some;
  }
  put_end(dense.entries, job.last, bits);
  return bits.to;
}

INLINE void png_dense_run(const PngDense& job, i64) {
  Sampled sampled = {};
  Dense dense = {};
  take_sample((const u8*)job.filtered, job.count, sampled);
  make_codes(sampled, dense);
  i64 length = 0;
  if (is_dense(sampled, dense)) length = write_dense(job, dense) - (u8*)job.out;
  *(i64*)job.length = length <= job.count + job.count / 64 ? length : 0;
  *(i64*)job.adler = adler_of((const u8*)job.filtered, job.count);
}

PIXEL_KERNEL(png_dense, PngDense, png_dense_run)
