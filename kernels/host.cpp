// The host library: every kernel that the host uses as a plain C function over a table of jobs.
//
// Called through ctypes, which releases the GIL. Nothing is kept between calls, so any
// number of threads may call at once.
#include "composite.cu"
#include "dense.cu"
#include "downsample.cu"
#include "fetch.h"
#include "histogram.cu"
#include "icc.cu"
#include "inflate.h"
#include "jpeg.cu"
#include "jpegdecode.h"
#include "lzw.h"
#include "paste.cu"
#include "png.cu"
#include "pool.h"
#include "resample.cu"
#include "scan.h"

// The sizes of the job structs in the order of tables.py, which compares them when it loads.
extern "C" __attribute__((visibility("default"))) void layout(i64* sizes) {
  const i64 all[] = {sizeof(Source),   sizeof(Band),     sizeof(Composite), sizeof(Unstyled), sizeof(Downsample),
                     sizeof(Resample), sizeof(Extremes), sizeof(Measure),   sizeof(PngFilter),
                     sizeof(JpegTable), sizeof(Jpeg),  sizeof(Icc),      sizeof(Paste),     sizeof(Follow),
                     sizeof(Pack),      sizeof(PngLook), sizeof(PngDeflate), sizeof(PngCheck), sizeof(PngTail),
                     sizeof(PngDense), sizeof(Unpack), sizeof(Turned),  sizeof(Ycc),      sizeof(Inflate),
                     sizeof(Fetch),     sizeof(JpegDecode)};
  for (int i = 0; i < (int)(sizeof all / sizeof *all); ++i) sizes[i] = all[i];
}

// Runs kernels one after the other in one call: a caller that comes back between them waits for the GIL.
extern "C" __attribute__((visibility("default"))) void chain(const Step* steps, i64 count) {
  run_steps(steps, count);
}

extern "C" __attribute__((visibility("default"))) void* pool_open(const i64* cores, i64 count) {
  return new Pool(cores, count);
}

extern "C" __attribute__((visibility("default"))) void pool_run(void* pool, const Step* steps, i64 length, i64 count,
                                                                i64 most) {
  ((Pool*)pool)->run(steps, length, count, most);
}

extern "C" __attribute__((visibility("default"))) void pool_wake(void* pool, i64 most) { ((Pool*)pool)->wake(most); }

extern "C" __attribute__((visibility("default"))) void pool_close(void* pool) { delete (Pool*)pool; }

// The byte behind the coded data of a JPEG stream; -1 where not all of them are there: see scan.h.
extern "C" __attribute__((visibility("default"))) i64 jpeg_end(const u8* data, i64 size, i64 whole) {
  return scan::end_of(data, size, whole != 0);
}
