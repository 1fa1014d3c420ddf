// Rectangles of bytes: mosaics of tiles, and what lies scattered brought together.
#include "pixel.h"

// A thread's bytes: neighbouring threads write neighbouring pieces of a row.
constexpr int PIECE = 4 * RUN;

INLINE void copy_bytes(const u8* from, u8* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = from[i];
}

INLINE void paste_run(const Paste& job, i64 run) {
  const i64 per_row = (job.width + PIECE - 1) / PIECE;
  const i64 row = run / per_row, begin = run % per_row * PIECE;
  const int count = (int)smaller((i64)PIECE, job.width - begin);
  u8* to = (u8*)job.to + row * job.to_pitch + begin;
  if (job.from)
    copy_bytes((const u8*)job.from + row * job.from_pitch + begin, to, count);
  else
    for (int i = 0; i < count; ++i) to[i] = (u8)job.value;
}

// Where each of several streams begins when they follow each other.
INLINE void follow_run(const Follow& job, i64 run) {
  const i64* lengths = (const i64*)job.lengths;
  i64 total = 0;
  for (i64 i = 0; i < run; ++i) total += lengths[i];
  ((i64*)job.offsets)[run] = total;
}

// Copies streams that lie `capacity` bytes apart to where they follow each other.
INLINE void pack_run(const Pack& job, i64 run) {
  const i64 pieces = (job.capacity + PIECE - 1) / PIECE;
  const i64 stream = run / pieces, begin = run % pieces * PIECE;
  const i64 left = ((const i64*)job.lengths)[stream] - begin;
  if (left <= 0) return;
  const u8* from = (const u8*)job.streams + stream * job.capacity + begin;
  copy_bytes(from, (u8*)job.out + ((const i64*)job.offsets)[stream] + begin, (int)smaller((i64)PIECE, left));
}

PIXEL_KERNEL(paste, Paste, paste_run)
PIXEL_KERNEL(follow, Follow, follow_run)
PIXEL_KERNEL(pack, Pack, pack_run)
