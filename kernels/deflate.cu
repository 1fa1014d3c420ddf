// PNG files made on a card: filtered rows become deflate streams, chunks, whole files.
//
// Rows are cut into segments, each of which a block of threads makes an IDAT chunk of: a deflate
// block of its own codes, or the bytes as they are where codes do not make them fewer. Nothing of
// it depends on other segments: chunks follow each other as they are.
#include "segment.h"

constexpr int FILE_HEAD = 33;  // bytes of signature and IHDR
constexpr u32 IDAT = 0x49444154, IHDR = 0x49484452, IEND = 0x49454E44;

// ---- what a picture's pixels have in common -------------------------------------------------

INLINE void png_look_run(const PngLook& job, i64 run) {
  const u8* pixel = (const u8*)job.pixels + run * RUN * job.samples;
  const int count = (int)smaller((i64)RUN, job.pixel_count - run * RUN);
  u32 found = 0;
  for (int i = 0; i < count; ++i, pixel += job.samples) {
    if (job.samples > 2 && (pixel[0] != pixel[1] || pixel[1] != pixel[2])) found |= COLOURED;
    if (job.samples % 2 == 0 && pixel[job.samples - 1] != 255) found |= TRANSLUCENT;
  }
  u32* look = (u32*)job.look;
  if (found & ~*(volatile u32*)look) join_bits(look, found);
}

INLINE void png_reduce_run(const PngLook& job, i64 run) {
  const int kept = kept_samples(job.look, job.samples);
  if (kept == job.samples) return;
  const i64 first = run * RUN;
  const u8* pixel = (const u8*)job.pixels + first * job.samples;
  u8* out = (u8*)job.out + first * kept;
  const int count = (int)smaller((i64)RUN, job.pixel_count - first), colours = kept > 2 ? 3 : 1;
  for (int i = 0; i < count; ++i, pixel += job.samples) {
    for (int c = 0; c < colours; ++c) *out++ = pixel[c];
    if (kept > colours) *out++ = pixel[job.samples - 1];
  }
}

// ---- segments -------------------------------------------------------------------------------

INLINE Place place_of(const PngDeflate& job, i64 segment) {
  Place place = {};
  place.samples = kept_samples(job.look, job.samples);
  place.row = job.width * place.samples + 1;
  const i64 all = (i64)place.row * job.height;
  i64 end;
  if (place.row <= SEGMENT) {
    const i64 rows = SEGMENT / place.row;
    place.begin = segment * rows * place.row;
    end = smaller(place.begin + rows * place.row, all);
  } else {
    const i64 parts = (place.row + SEGMENT - 1) / SEGMENT, row = segment / parts * place.row;
    place.begin = row + segment % parts * SEGMENT;
    end = smaller(place.begin + SEGMENT, row + place.row);
  }
  place.count = (int)larger(smaller(end, all) - place.begin, (i64)0);
  place.first = segment == 0;
  place.last = end == all;
  return place;
}

INLINE u8* put_word(u8* to, u32 value) {
  for (int i = 0; i < 4; ++i) *to++ = (u8)(value >> (24 - 8 * i));
  return to;
}

// Signature and IHDR.
INLINE u8* put_head(u8* to, const PngDeflate& job, int samples) {
  to = put_word(to, 0x89504E47);
  to = put_word(to, 0x0D0A1A0A);
  to = put_word(to, 13);
  const u8* begin = to;
  to = put_word(to, IHDR);
  to = put_word(to, (u32)job.width);
  to = put_word(to, (u32)job.height);
  *to++ = 8;
  *to++ = (u8)(samples == 1 ? 0 : samples == 2 ? 4 : samples == 3 ? 2 : 6);
  for (int i = 0; i < 3; ++i) *to++ = 0;
  return put_word(to, ~crc_bytes(~0u, begin, (int)(to - begin)));
}

INLINE u8 stream_byte(const Shared& shared, const Stream& stream, const Place& place, int at) {
  if (!stream.stored) return shared.bytes[at];
  if (at > 4) return shared.bytes[at - 5];
  const int length = at > 2 ? ~place.count : place.count;
  return at == 0 ? (u8)place.last : (u8)(length >> (at % 2 ? 0 : 8));
}

// Copies a lane's share of a stream to its chunk, and adds to the chunk's CRC.
INLINE void copy_stream(Shared& shared, const Stream& stream, const Place& place, u8* out, u32 crc, int lane) {
  for (int at = lane; at < stream.count; at += LANES) out[at] = stream_byte(shared, stream, place, at);
  const int share = (stream.count + LANES - 1) / LANES;
  const int begin = smaller(lane * share, stream.count), end = smaller(begin + share, stream.count);
  if (lane) crc = 0;
  for (int at = begin; at < end; ++at)
    crc = crc >> 8 ^ shared.crc_table[(crc ^ stream_byte(shared, stream, place, at)) & 255];
  turn_bits(&shared.crc, crc_shifted(crc, stream.count - end));
}

// ---- the kernel -----------------------------------------------------------------------------

INLINE void prepare(Shared& shared, const u8* filtered, const Place& place, int lane) {
  for (int i = lane; i < place.count; i += LANES) shared.bytes[i] = filtered[i];
  for (int i = lane; i < HEADS; i += LANES) shared.heads[i] = ~0u;
  for (int i = lane; i < LITERALS; i += LANES) shared.literals[i] = i == END_OF_BLOCK;
  for (int i = lane; i < DISTANCES; i += LANES) shared.distances[i] = i < 2;  // a code of one symbol is none
  for (int i = lane; i < LITERALS + DISTANCES; i += LANES) shared.lengths[i] = 0;
  for (int i = lane; i < HEADER_WORDS; i += LANES) shared.header[i] = 0;
  for (int i = lane; i < 256; i += LANES) shared.crc_table[i] = crc_entry((u32)i);
  if (lane == 0) shared.crc = shared.sum = shared.weighted = 0;
}

// A lane's part of the segment's Adler-32: the sum of its bytes, and of each times the bytes from it on.
INLINE void add_check(Shared& shared, const Place& place, int begin, int end) {
  u32 sum = 0, weighted = 0;
  for (int at = begin; at < end; ++at) {
    sum += shared.bytes[at];
    weighted += shared.bytes[at] * (u32)(place.count - at);
  }
  increment(&shared.sum, sum);
  increment(&shared.weighted, weighted % ADLER_BASE);
}

// Writes a stream as a chunk: before it the head of the file, behind it a CRC. Returns the bytes.
INLINE int write_chunk(
    const PngDeflate& job, Shared& shared, const Stream& stream, const Place& place, u8* out, int lane) {
  u8 head[10];
  const int lead = place.first ? 2 : 0;  // of the zlib stream: a window of 32 KiB
  put_word(put_word(head, (u32)(stream.count + lead)), IDAT);
  head[8] = 0x78, head[9] = 0x01;
  u8* const chunk = out + (place.first ? FILE_HEAD : 0);
  u8* const data = chunk + 8 + lead;
  copy_stream(shared, stream, place, data, crc_bytes(~0u, head + 4, 4 + lead), lane);
  BARRIER();
  if (lane == 0) {
    if (place.first) put_head(out, job, place.samples);
    for (int i = 0; i < 8 + lead; ++i) chunk[i] = head[i];
    put_word(data + stream.count, ~shared.crc);
  }
  return (int)(data - out) + stream.count + 4;
}

INLINE void png_deflate_segment(const PngDeflate& job, Shared& shared, i64 run, int lane) {
  const Place place = place_of(job, job.first + run);
  i64* const length = (i64*)job.lengths + run;
  PngCheck* const check = (PngCheck*)job.checks + run;
  if (place.count == 0) {
    if (lane == 0) *length = 0, *check = {};
    return;
  }
  prepare(shared, (const u8*)job.filtered + place.begin, place, lane);
  BARRIER();
  remember(shared, place.count, lane);
  BARRIER();
  const int begin = smaller(lane * SHARE, place.count), end = smaller(begin + SHARE, place.count);
  const Tokens tokens = {(u16*)job.tokens + run * SEGMENT + lane};
  u32 extra = 0;
  const int count = make_tokens(shared, place, begin, end, tokens, extra);
  add_check(shared, place, begin, end);
  BARRIER();
  const Stream stream = write_stream(shared, place, tokens, count, extra, lane);
  BARRIER();
  const int bytes = write_chunk(job, shared, stream, place, (u8*)job.out + run * job.capacity, lane);
  if (lane) return;
  *length = bytes;
  *check = {shared.sum % ADLER_BASE, shared.weighted % ADLER_BASE, place.count};
}

// The end of a file: Adler-32 of all segments in a chunk of its own, and IEND.
INLINE void png_tail_run(const PngTail& job, i64) {
  const PngCheck* checks = (const PngCheck*)job.checks;
  u64 sum = job.adler & 65535, weighted = job.adler >> 16;
  for (i64 i = 0; i < job.segments; ++i) {
    weighted = (weighted + checks[i].count * sum + checks[i].weighted) % ADLER_BASE;
    sum = (sum + checks[i].sum) % ADLER_BASE;
  }
  u8* const begin = (u8*)job.out;
  u8* to = put_word(put_word(put_word(begin, 4), IDAT), (u32)(weighted << 16 | sum));
  to = put_word(to, ~crc_bytes(~0u, begin + 4, 8));
  to = put_word(put_word(put_word(to, 0), IEND), 0xAE426082);
  *(i64*)job.length = to - begin;
}

PIXEL_KERNEL(png_look, PngLook, png_look_run)
PIXEL_KERNEL(png_reduce, PngLook, png_reduce_run)
BLOCK_KERNEL(png_deflate, PngDeflate, Shared, LANES, png_deflate_segment)
PIXEL_KERNEL(png_tail, PngTail, png_tail_run)
