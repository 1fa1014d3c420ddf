// Baseline JPEG: every row of MCUs is a restart segment, so that none waits for another.
//
// A segment goes through in spans of SPAN pixels. Between the passes values lie as
// [row][column of the block][block], so that a loop over neighbouring blocks is one over
// neighbouring values. The scan's bits are those of libjpeg, but for the restarts.
#include "jpeg.h"
#include "jpegvectors.h"

constexpr int BLOCKS = SPAN / BLOCK;            // blocks beside each other in a span
constexpr int WORST = 224;                      // bytes that a block may take: 64 codes of 26 bits, rounded up
constexpr int PLANES = 4;                       // block rows of a span: luma (two where 4:2:0), two of chroma
constexpr int SPAN_BYTES = 3 * BLOCKS * WORST;  // of a span's bits
constexpr int AC_BITS = 11;                     // of an AC coefficient with its sign
constexpr u16 LOW = (1 << AC_BITS) - 1;
constexpr u16 FAR = 17;                         // a gap that is marked as this takes more than one code

// One span's blocks: [plane][row][column][block].
typedef i16 Samples[PLANES][BLOCK][BLOCK][BLOCKS];

struct Bits {
  u64 held;   // the bits not yet written, lowest last
  int count;  // how many of them: less than 8 between codes
  u8* end;
};

// A code's entry: its length in the low 6 bits, the code above them.
INLINE void put(Bits& bits, u32 entry) {
  bits.held = bits.held << (entry & 63) | entry >> 6;
  bits.count += entry & 63;
}

// Writes the whole bytes. At most 64 - 7 bits may be put between two calls.
INLINE void drain(Bits& bits) {
  store_big_endian(bits.end, bits.held << (63 - bits.count) << 1);
  bits.end += bits.count >> 3;
  bits.count &= 7;
}

// ---- from pixels to coefficients -----------------------------------------------------------

struct Lines {
  i16 y[SPAN], blue[SPAN], red[SPAN];
};

// Converts `count` pixels of one row; the last one goes on to the end of the span.
INLINE void convert(const Jpeg& job, const u8* row, int count, Lines& to) {
  if (job.samples == 1) {
    for (int i = 0; i < count; ++i) to.y[i] = (i16)(row[i] - 128);
    for (int i = count; i < SPAN; ++i) to.y[i] = to.y[count - 1];
    return;
  }
  int i = 0;
  WITH_AVX2(i = vectors::convert(row, count, to.y, to.blue, to.red));
  for (; i < count; ++i) {
    const int r = row[3 * i], g = row[3 * i + 1], b = row[3 * i + 2];
    to.y[i] = luma(r, g, b);
    to.blue[i] = blueness(r, g, b);
    to.red[i] = redness(r, g, b);
  }
  for (; i < SPAN; ++i) {
    to.y[i] = to.y[count - 1];
    to.blue[i] = to.blue[count - 1];
    to.red[i] = to.red[count - 1];
  }
}

// Means of two or four neighbours, rounded down and up in turn.
INLINE void halve(const i16* line, const i16* below, i16* out) {
  if (below)
    for (int i = 0; i < SPAN / 2; ++i)
      out[i] = (i16)((line[2 * i] + line[2 * i + 1] + below[2 * i] + below[2 * i + 1] + 1 + (i & 1)) >> 2);
  else
    for (int i = 0; i < SPAN / 2; ++i) out[i] = (i16)((line[2 * i] + line[2 * i + 1] + (i & 1)) >> 1);
}

// A line of a plane: eight neighbours become the columns of one block.
INLINE void place(const i16* line, int blocks, i16 (&row)[BLOCK][BLOCKS]) {
  i16* columns[BLOCK];
  for (int i = 0; i < BLOCK; ++i) columns[i] = row[i];
  rows_to_columns(line, columns, blocks);
}

INLINE const u8* row_of(const Jpeg& job, i64 y, int from) {
  return (const u8*)job.pixels + (smaller(y, (i64)job.height - 1) * job.width + from) * job.samples;
}

// Reads the span that starts at pixel (from, top): 8 rows of MCUs that are 8 pixels high.
INLINE void read_low(const Jpeg& job, i64 top, int from, int count, Samples& to) {
  Lines lines;
  i16 means[SPAN / 2];
  for (int y = 0; y < BLOCK; ++y) {
    convert(job, row_of(job, top + y, from), count, lines);
    place(lines.y, BLOCKS, to[0][y]);
    if (job.samples == 1) continue;
    if (job.subsampling) {
      halve(lines.blue, nullptr, means);
      place(means, BLOCKS / 2, to[2][y]);
      halve(lines.red, nullptr, means);
      place(means, BLOCKS / 2, to[3][y]);
    } else {
      place(lines.blue, BLOCKS, to[2][y]);
      place(lines.red, BLOCKS, to[3][y]);
    }
  }
}

// The same for MCUs that are 16 pixels high.
INLINE void read_high(const Jpeg& job, i64 top, int from, int count, Samples& to) {
  Lines lines, below;
  i16 means[SPAN / 2];
  const i64 last = (job.height - 1) >> 1;  // the last pair of rows goes on below the picture
  for (int y = 0; y < BLOCK; ++y) {
    convert(job, row_of(job, top + 2 * y, from), count, lines);
    convert(job, row_of(job, top + 2 * y + 1, from), count, below);
    place(lines.y, BLOCKS, to[y >> 2][2 * y & 7]);
    place(below.y, BLOCKS, to[y >> 2][(2 * y & 7) + 1]);
    const i64 pair = (top >> 1) + y;
    if (pair > last) {
      convert(job, row_of(job, 2 * last, from), count, lines);
      convert(job, row_of(job, 2 * last + 1, from), count, below);
    }
    halve(lines.blue, below.blue, means);
    place(means, BLOCKS / 2, to[2][y]);
    halve(lines.red, below.red, means);
    place(means, BLOCKS / 2, to[3][y]);
  }
}

INLINE void transform_plane(i16 (&plane)[BLOCK][BLOCK][BLOCKS], const JpegTable& table) {
  WITH_AVX2(return vectors::transform_plane<BLOCKS>(plane[0][0], table.half, table.reciprocal, table.scale));
  for (int y = 0; y < BLOCK; ++y)
    for (int b = 0; b < BLOCKS; ++b) transform<Rows>(&plane[y][0][b], BLOCKS);
  for (int x = 0; x < BLOCK; ++x)
    for (int b = 0; b < BLOCKS; ++b) transform<Columns>(&plane[0][x][b], BLOCK * BLOCKS);
  for (int k = 0; k < COEFS; ++k) {
    const u16 half = table.half[k], reciprocal = table.reciprocal[k], scale = table.scale[k];
    i16* v = plane[k / BLOCK][k % BLOCK];
    for (int b = 0; b < BLOCKS; ++b) v[b] = quantised(v[b], half, reciprocal, scale);
  }
}

// Tells by the middle ones whether most coefficients of a plane are not 0.
INLINE bool is_dense(const i16 (&plane)[BLOCK][BLOCK][BLOCKS]) {
  i16 count = 0;
  for (int k = COEFS / 2; k < COEFS / 2 + 4; ++k) {
    const i16* v = plane[ZIGZAG[k] / BLOCK][ZIGZAG[k] % BLOCK];
    for (int b = 0; b < BLOCKS; ++b) count += v[b] != 0;
  }
  return count > 3 * BLOCKS;
}

INLINE i16 unmarked(i16 mark) { return (i16)((i16)(mark << (16 - AC_BITS)) >> (16 - AC_BITS)); }

// Puts above each AC coefficient that is not 0 how far behind the last such one it comes, FAR at most.
INLINE void mark_gaps(i16 (&plane)[BLOCK][BLOCK][BLOCKS]) {
  u16 gaps[BLOCKS] = {};
  for (int k = 1; k < COEFS; ++k) {
    i16* v = plane[ZIGZAG[k] / BLOCK][ZIGZAG[k] % BLOCK];
    for (int b = 0; b < BLOCKS; ++b) {
      const u16 gap = smaller((u16)(gaps[b] + 1), FAR), value = (u16)v[b];
      v[b] = (i16)(value ? (u16)(gap << AC_BITS) | (value & LOW) : 0);
      gaps[b] = value ? 0 : gap;
    }
  }
}

// Gathers each block's coefficients, in zigzag order.
INLINE void gather(const i16 (&plane)[BLOCK][BLOCK][BLOCKS], i16 (&out)[BLOCKS][COEFS]) {
  for (int k = 0; k < COEFS; k += BLOCK) {
    const i16* rows[BLOCK];
    for (int i = 0; i < BLOCK; ++i) rows[i] = plane[ZIGZAG[k + i] / BLOCK][ZIGZAG[k + i] % BLOCK];
    columns_to_rows(rows, out[0] + k, COEFS, BLOCKS);
  }
}

// ---- from coefficients to bits ---------------------------------------------------------------

// The entry of an AC coefficient that is not 0, `gap` (1 … 16) behind the one before.
INLINE u32 ac_entry(const JpegTable& table, int gap, int value) {
  if (IN_VECTORS) return ((const u32*)table.symbols)[gap << AC_BITS | (value & LOW)];
  const int width = width_of(value);
  return table.ac[gap * 16 + width] + (tail_of(value, width) << 6);
}

INLINE void put_coefficient(const JpegTable& table, const i16* coefs, int k, int& at, Bits& bits) {
  int gap = k - at;
  while (gap > 16) {
    put(bits, table.sixteen);
    drain(bits);
    gap -= 16;
  }
  put(bits, ac_entry(table, gap, coefs[k]));
  at = k;
}

INLINE u32 dc_entry(const JpegTable& table, int value, int& last) {
  const i32 step = value - last;
  const int width = width_of(step);
  last = value;
  return table.dc[width] + (tail_of(step, width) << 6);
}

INLINE void put_block(const JpegTable& table, const i16* coefs, int& last, Bits& to) {
  Bits bits = to;  // in registers: nothing that is written may be one of these
  put(bits, dc_entry(table, coefs[0], last));
  u64 mask = not_zero(coefs) & ~1ull;
  int at = 0;
  while (mask) {
    drain(bits);
    put_coefficient(table, coefs, lowest(mask), at, bits);
    mask &= mask - 1;
    if (!mask) break;
    put_coefficient(table, coefs, lowest(mask), at, bits);
    mask &= mask - 1;
  }
  drain(bits);
  if (at != COEFS - 1) put(bits, table.end);
  drain(bits);
  to = bits;
}

// At most 64 - 8 bits, and nothing may wait to be written but less than 8.
INLINE void put_long(Bits& bits, u64 code, int count) {
  bits.held = bits.held << count | code;
  bits.count += count;
  drain(bits);
}

// The same for a block that is mostly not 0, and marked: the codes of four coefficients, which do
// not wait for each other, are joined before they are put. Says no where a gap is too long for that.
INLINE bool put_dense(const JpegTable& table, const i16* marks, int& last, Bits& to) {
  const u32* symbols = (const u32*)table.symbols;
  u16 most = 0;
  for (int k = 1; k < COEFS; ++k) most = larger(most, (u16)marks[k]);
  if (most >= FAR << AC_BITS) return false;
  Bits bits = to;
  const u64 dc = dc_entry(table, marks[0], last);
  for (int k = 0; k < COEFS; k += 4) {
    const u64 e0 = k ? symbols[(u16)marks[k]] : dc, e1 = symbols[(u16)marks[k + 1]];
    const u64 e2 = symbols[(u16)marks[k + 2]], e3 = symbols[(u16)marks[k + 3]];
    const u64 first = e0 >> 6 << (e1 & 63) | e1 >> 6, second = e2 >> 6 << (e3 & 63) | e3 >> 6;
    const int first_count = (e0 & 63) + (e1 & 63), second_count = (e2 & 63) + (e3 & 63);
    if (first_count + second_count <= 64 - 8) {
      put_long(bits, first << second_count | second, first_count + second_count);
    } else {
      put_long(bits, first, first_count);
      put_long(bits, second, second_count);
    }
  }
  if (!marks[COEFS - 1]) put_long(bits, table.end >> 6, table.end & 63);
  to = bits;
  return true;
}

// Copies the scan's bytes, a 0 after each 255; returns where they end.
INLINE u8* stuff(const u8* from, const u8* end, u8* to) {
  while (from < end) {
    const int count = copy_until_255(from, end, to);
    from += count;
    to += count;
    if (from < end) {
      *to++ = *from++;
      *to++ = 0;
    }
  }
  return to;
}

// ---- a segment ---------------------------------------------------------------------------------

struct Scan {
  int last[3];  // the DC coefficients before
  Bits bits;
};

// A span's coefficients, in zigzag order, those of dense planes marked.
struct Coefs {
  i16 blocks[PLANES][BLOCKS][COEFS];
  bool marked[PLANES];
};

// Plane `p`'s block `b`.
INLINE void put_any(const JpegTable* tables, const Coefs& all, int p, int b, int& last, Bits& bits) {
  const i16* coefs = all.blocks[p][b];
  i16 plain[COEFS];
  if (all.marked[p]) {
    if (put_dense(tables[p > 1], coefs, last, bits)) return;
    for (int k = 0; k < COEFS; ++k) plain[k] = k ? unmarked(coefs[k]) : coefs[0];
    coefs = plain;
  }
  put_block(tables[p > 1], coefs, last, bits);
}

// The blocks of one span in the order of the scan.
INLINE void put_span(const Jpeg& job, const Coefs& coefs, int mcus, Scan& scan) {
  const JpegTable* tables = (const JpegTable*)job.tables;
  const int across = job.subsampling ? 2 : 1, down = job.subsampling == 2 ? 2 : 1;
  for (int m = 0; m < mcus; ++m) {
    for (int y = 0; y < down; ++y)
      for (int x = 0; x < across; ++x) put_any(tables, coefs, y, m * across + x, scan.last[0], scan.bits);
    if (job.samples == 1) continue;
    put_any(tables, coefs, 2, m, scan.last[1], scan.bits);
    put_any(tables, coefs, 3, m, scan.last[2], scan.bits);
  }
}

INLINE void encode_span(const Jpeg& job, i64 segment, int from, Scan& scan) {
  const JpegTable* tables = (const JpegTable*)job.tables;
  const int count = smaller(SPAN, job.width - from);
  const bool high = job.subsampling == 2;
  Samples samples;
  Coefs coefs;
  if (high)
    read_high(job, segment * 2 * BLOCK, from, count, samples);
  else
    read_low(job, segment * BLOCK, from, count, samples);
  for (int p = 0; p < PLANES; ++p) {
    if ((p == 1 && !high) || (p > 1 && job.samples == 1)) continue;
    transform_plane(samples[p], tables[p > 1]);
    coefs.marked[p] = IN_VECTORS && is_dense(samples[p]);
    if (coefs.marked[p]) mark_gaps(samples[p]);
    gather(samples[p], coefs.blocks[p]);
  }
  const int side = job.subsampling ? 2 * BLOCK : BLOCK;
  put_span(job, coefs, (count + side - 1) / side, scan);
}

INLINE void jpeg_segment(const Jpeg& job, i64 run) {
  const i64 segment = job.first + run;
  u8* const begin = (u8*)job.out + run * job.capacity;
  u8* end = begin;
  Scan scan = {};
  for (int from = 0; from < job.width; from += SPAN) {
    u8 bytes[SPAN_BYTES + 8];
    scan.bits.end = bytes;
    encode_span(job, segment, from, scan);
    const bool finished = from + SPAN >= job.width;
    if (finished && scan.bits.count) {
      put(scan.bits, (255u >> scan.bits.count) << 6 | (u32)(8 - scan.bits.count));  // ones to the full byte
      drain(scan.bits);
    }
    end = stuff(bytes, scan.bits.end, end);
  }
  *end++ = 255;
  *end++ = segment + 1 < job.segments ? (u8)(0xD0 + segment % 8) : (u8)0xD9;  // a restart, or the end
  ((i64*)job.lengths)[run] = end - begin;
}

PIXEL_KERNEL(jpeg, Jpeg, jpeg_segment)
