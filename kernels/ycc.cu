// YCbCr of all bits of 8 or 16 becomes RGB where it lies: ycbcr_to_rgb in sources/colour.py says how.
#include "pixel.h"

// A level rounded to nearest, half to even, as float32 adds: levels are far from 2²².
template <class T> INLINE T rounded(float level, float top) {
  const float shift = 12582912.0f;  // 3 · 2²²: whole numbers are one apart there
  return (T)between((level + shift) - shift, 0.0f, top);
}

template <class T> INLINE void to_rgb(T* pixel, float top, float half) {
  const float y = (float)pixel[0], cb = (float)pixel[1] - half, cr = (float)pixel[2] - half;
  const float red = y + cr * 1.402f, blue = y + cb * 1.772f;
  const float green = ((y - 0.299f * red) - 0.114f * blue) / 0.587f;
  pixel[0] = rounded<T>(red, top), pixel[1] = rounded<T>(green, top), pixel[2] = rounded<T>(blue, top);
}

INLINE void ycc_run(const Ycc& job, i64 run) {
  const i64 from = run * RUN, to = smaller(from + RUN, job.count);
  for (i64 at = from; at < to; ++at) {
    if (job.size == 1)
      to_rgb((u8*)job.pixels + 3 * at, 255.0f, 128.0f);
    else
      to_rgb((u16*)job.pixels + 3 * at, 65535.0f, 32768.0f);
  }
}

PIXEL_KERNEL(ycc, Ycc, ycc_run)
