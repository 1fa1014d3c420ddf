// Turned pictures: mirrored, rotated clockwise, without colour.
#include "pixel.h"

enum { COLOUR, GREY, BITONAL };

constexpr int WHITE_FROM = 128;

// Where the pixel at (row, column) of the turned picture comes from.
INLINE const u8* turned_from(const Turned& job, int row, int column) {
  const int down = job.rows - 1, across = job.columns - 1;
  const int y = job.quarter == 0 ? row : job.quarter == 1 ? down - column : job.quarter == 2 ? down - row : column;
  const int x = job.quarter == 0 ? column : job.quarter == 1 ? row : job.quarter == 2 ? across - column : across - row;
  return (const u8*)job.from + ((i64)y * job.columns + (job.mirror ? across - x : x)) * job.samples;
}

// Luma as ITU-R 601 in 16 bits.
INLINE u8 grey_of(const Turned& job, const u8* pixel) {
  const u32 grey = job.samples < 3 ? pixel[0] : (19595u * pixel[0] + 38470u * pixel[1] + 7471u * pixel[2] + 0x8000u) >> 16;
  return job.tone == GREY ? (u8)grey : grey >= WHITE_FROM ? 255 : 0;
}

INLINE void turn_run(const Turned& job, i64 run) {
  const int width = job.quarter % 2 ? job.rows : job.columns;
  const i64 all = (i64)job.rows * job.columns, begin = run * RUN, end = smaller(begin + RUN, all);
  const int alpha = job.samples % 2 == 0, kept = job.tone == COLOUR ? job.samples : 1 + alpha;
  u8* to = (u8*)job.to + begin * kept;
  for (i64 at = begin; at < end; ++at, to += kept) {
    const u8* pixel = turned_from(job, (int)(at / width), (int)(at % width));
    if (job.tone == COLOUR) {
      for (int s = 0; s < kept; ++s) to[s] = pixel[s];
    } else {
      to[0] = grey_of(job, pixel);
      if (alpha) to[1] = pixel[job.samples - 1];
    }
  }
}

PIXEL_KERNEL(turn, Turned, turn_run)
