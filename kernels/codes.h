// What a deflate block begins with: the codes of its symbols (RFC 1951, 3.2.7).
//
// A Block has the `lengths` of all codes (of literals, then of distances), the `header` in words that
// are 0 before, its size in bits, and room: a `tree`, an `order` of symbols, runs of lengths.
#pragma once

#include "deflate.h"

constexpr int HEADER_WORDS = 144;  // of a block's codes: at most 17 + 57 + 316 · 14 bits

// Writes bits, the first lowest, into words that are 0 before; others may write beside them.
struct Writer {
  u32* word;
  u64 held;
  int count;

  INLINE void put(u32 value, int bits) {
    held |= (u64)value << count;
    count += bits;
    if (count < 32) return;
    join_bits(word++, (u32)held);
    held >>= 32;
    count -= 32;
  }
  INLINE void finish() {
    if (count) join_bits(word, (u32)held);
  }
};

INLINE Writer writer_at(u32* words, u32 bit) { return {words + bit / 32, 0, (int)(bit % 32)}; }

// The lengths of all codes as symbols: 16 repeats the one before, 17 and 18 are zeros.
template <class Block> INLINE int run_lengths(Block& block) {
  constexpr int ALL = LITERALS + DISTANCES;
  int count = 0;
  const auto add = [&](int symbol, int tail) {
    block.run_symbol[count] = (u8)symbol;
    block.run_tail[count++] = (u8)tail;
  };
  for (int at = 0; at < ALL;) {
    const int length = block.lengths[at];
    int run = 1;
    while (at + run < ALL && block.lengths[at + run] == length) ++run;
    at += run;
    if (length) {
      add(length, 0);
      for (run -= 1; run > 2; run -= smaller(run, 6)) add(16, smaller(run, 6) - 3);
    } else {
      for (; run > 10; run -= smaller(run, 138)) add(18, smaller(run, 138) - 11);
      if (run > 2) add(17, run - 3), run = 0;
    }
    for (; run > 0; --run) add(length, 0);
  }
  return count;
}

INLINE int tail_bits(int symbol) { return symbol == 16 ? 2 : symbol == 17 ? 3 : symbol == 18 ? 7 : 0; }

// The code of code lengths.
struct LengthCode {
  u8 lengths[LENGTH_CODES];
  u16 codes[LENGTH_CODES];
  int sent;  // how many lengths are told
};

template <class Block> INLINE LengthCode code_of_lengths(Block& block, int runs) {
  LengthCode code = {};
  u32 counts[LENGTH_CODES] = {};
  int used = 0;
  for (int i = 0; i < runs; ++i) counts[block.run_symbol[i]] += 1;
  for (int symbol = 0; symbol < LENGTH_CODES; ++symbol) {
    if (!counts[symbol]) continue;
    int at = used++;
    for (; at > 0 && counts[block.order[at - 1]] > counts[symbol]; --at)
      block.order[at] = block.order[at - 1];
    block.order[at] = (u16)symbol;
  }
  for (int i = 0; i < used; ++i) block.tree.weight[i] = counts[block.order[i]];
  find_lengths(block.tree, block.order, used, LONGEST_LENGTH_CODE, code.lengths);
  for (int symbol = 0; symbol < LENGTH_CODES; ++symbol)
    code.codes[symbol] = code_of(code.lengths, LENGTH_CODES, symbol);
  code.sent = LENGTH_CODES;
  while (!code.lengths[LENGTH_ORDER[code.sent - 1]]) --code.sent;
  return code;
}

// Writes what comes before a block's symbols: its kind, and the lengths of its codes.
template <class Block> INLINE void write_header(Block& block, bool last) {
  const int runs = run_lengths(block);
  const LengthCode code = code_of_lengths(block, runs);
  Writer bits = writer_at(block.header, 0);
  bits.put((u32)last | 2 << 1, 3);
  bits.put(LITERALS - 257, 5);
  bits.put(DISTANCES - 1, 5);
  bits.put((u32)code.sent - 4, 4);
  for (int i = 0; i < code.sent; ++i) bits.put(code.lengths[LENGTH_ORDER[i]], 3);
  for (int i = 0; i < runs; ++i) {
    const int symbol = block.run_symbol[i];
    bits.put(code.codes[symbol], code.lengths[symbol]);
    bits.put(block.run_tail[i], tail_bits(symbol));
  }
  bits.finish();
  block.header_bits = (int)(bits.word - block.header) * 32 + bits.count;
}
