// The job tables: the structs behind the NumPy dtypes of gputiles/backends/tables.py.
//
// Addresses are u64, in the memory of the target. Every struct is a multiple of 8 bytes
// with its fields in falling order of size, so that no compiler pads; the sizes are
// checked here and, through layout(), by tables.py.
#pragma once

#include "target.h"

enum Type { UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64, FLOAT32, FLOAT64 };

// How one component of a band's palette is looked up.
enum Kind { SKIP, CONSTANT, RAMP, LINEAR, STEP };

enum Blend { LIGHTEN, MULTIPLY, ADDITIVE, SCREEN };

// How an ICC conversion is made: see Conversion in recipe.py.
enum ConversionKind { CURVE, MATRIX, GRID };

enum Finish { FINISH_UINT8, FINISH_UINT16, FINISH_FLOAT };

// A raster (rows, columns, samples) and its validity plane (0: everywhere valid).
struct Source {
  u64 pixels;
  u64 valid;
  u64 nodata;  // integers sign-extended to 64 bits, floats as the bits of a double
  i32 columns;
  i32 rows;
  i32 samples;
  i32 type;
  i32 has_nodata;
  i32 unused;
};

struct Band {
  Source source;
  double wide_low;  // low, for values that float32 does not hold
  u64 palette;      // four planes (red, green, blue, alpha) of stops float32
  float low;
  float delta;  // high - low, or 1
  float limit;  // where n ends: 1, or beyond the window for ramps
  i32 sample;
  i32 stops;
  i32 blend;
  i32 clamp;
  i32 unused;
  i32 kind[4];
  float value[4];  // the constant, or the end of the ramp
};

// Composites columns × rows, padded to width × height with fill: `runs` runs, from run `begin` on.
struct Composite {
  u64 out;
  u64 bands;
  i64 runs;
  i64 begin;
  i32 width;
  i32 height;
  i32 columns;
  i32 rows;
  i32 band_count;
  i32 accumulators;  // 1 or 4
  i32 first;         // the first accumulator that is stored
  i32 samples;       // stored samples
  i32 finish;
  i32 blended;  // alpha is blended over background, and not stored
  u8 fill[4];
  u8 background[4];
};

// The unstyled conversion of one raster: `runs` runs, from run `begin` on.
struct Unstyled {
  Source source;
  u64 out;
  u64 colormap;  // entries × 3, or 0
  i64 runs;
  i64 begin;
  i32 entries;
  i32 width;
  i32 height;
  i32 columns;
  i32 rows;
  i32 colours;  // 1 or 3
  i32 alpha;    // the sample that is alpha, -1: none
  i32 samples;  // stored samples
  i32 blended;
  u8 fill[4];
  u8 background[4];
  i32 unused;
};

struct Downsample {
  Source child[4];  // pixels 0: the grid does not have it
  u64 out;
  u64 valid;  // 0: all pixels are known to be valid
  u64 empty;  // what a sample without weight holds, as Source.nodata
  i64 runs;
  i32 split_x;
  i32 split_y;
  i32 width;
  i32 height;
  i32 alpha;
  i32 nearest;
};

struct Resample {
  Source source;
  u64 out;
  u64 valid;
  u64 empty;
  i64 runs;
  i32 width;
  i32 height;
  i32 alpha;
  i32 nearest;
};

// What one row of a raster measures.
struct Extremes {
  double low;
  double high;
  i64 count;
};

struct Measure {
  Source source;
  u64 out;    // Extremes per row, or u64 counts per bin
  u64 edges;  // bins + 1 doubles
  double low;
  double high;
  i64 runs;
  i32 sample;
  i32 bins;
  i32 direct;  // every integer has its own bin: value - direct_low
  i32 direct_low;
};

// Filters `runs` rows, from row `begin` on.
struct PngFilter {
  u64 pixels;
  u64 out;
  i64 runs;
  i64 begin;
  u64 look;    // of the picture; 0: all samples count
  u64 kept;    // a copy of the samples that count, if some do not
  i32 row;     // bytes of a row
  i32 stride;  // bytes of a pixel
};

// Finds out what all pixels of a picture have in common, and copies the samples that tell anything.
struct PngLook {
  u64 pixels;
  u64 out;   // of the copy
  u64 look;  // u32, 0 before
  i64 runs;
  i64 pixel_count;
  i64 samples;
};

// Compresses `runs` segments of filtered rows, from segment `first` on.
struct PngDeflate {
  u64 filtered;  // where row 0 would lie
  u64 tokens;    // SEGMENT u16 a segment
  u64 out;       // `capacity` bytes a segment
  u64 lengths;   // i64 a segment: the bytes written
  u64 checks;    // PngCheck a segment
  u64 look;      // of the picture; 0: all samples count
  i64 runs;
  i64 first;
  i64 capacity;
  i32 width;
  i32 height;
  i32 samples;
  i32 unused;
};

// What a segment adds to the Adler-32 of all filtered rows.
struct PngCheck {
  u32 sum;
  u32 weighted;  // each byte times the bytes from it on
  i64 count;
};

// Ends a file whose last `segments` have `checks`; `adler` is that of what came before.
struct PngTail {
  u64 checks;
  u64 out;
  u64 length;  // i64: the bytes written
  i64 runs;    // 1
  i64 segments;
  i64 adler;
};

// Writes `count` filtered bytes as a deflate block, the stream's `last` or one that ends at a whole byte.
struct PngDense {
  u64 filtered;
  u64 out;     // room for 14 bits a byte, and 1024 bytes
  u64 length;  // i64: the bytes written; 0: these bytes need a search for matches
  u64 adler;   // i64: the Adler-32 of the filtered bytes
  i64 runs;    // 1
  i64 count;
  i64 last;
};

// What the coefficients of one kind of component are divided by, and their codes. An entry of
// dc and ac has the length of code and tail in its low 6 bits, and above them the code followed
// by as many 0 as the tail has bits. Those of `symbols` have the tail itself there: to look one up takes a
// processor less than to make it of its parts.
struct JpegTable {
  u16 half[64];        // divisor / 2, row by row
  u16 reciprocal[64];  // 2^32 / (scale * divisor), rounded up
  u16 scale[64];       // the power of two with which the reciprocal has 16 bits
  u32 dc[12];          // by width
  u32 ac[17 * 16];     // by the distance from the coefficient before (1 … 16) and by width
  u32 sixteen;         // sixteen coefficients 0
  u32 end;             // all that follow are 0
  u64 symbols;         // for the host: u32 by the same distance (0 … 17) and by 11 bits of value
};

// Encodes `runs` segments (rows of MCUs) of a picture, from segment `first` on.
struct Jpeg {
  u64 pixels;   // (height, width, samples)
  u64 out;      // `capacity` bytes a segment
  u64 lengths;  // i64 a segment: the bytes written
  u64 tables;   // two JpegTable: luma, chroma
  i64 runs;
  i64 first;
  i64 segments;  // of the whole picture
  i64 capacity;
  i32 width;
  i32 height;
  i32 samples;      // 1 or 3
  i32 subsampling;  // 0 4:4:4, 1 4:2:2, 2 4:2:0
};

// Brings the colours of a raster to sRGB: `runs` runs of RUN pixels, wherever rows end.
struct Icc {
  u64 pixels;
  u64 out;
  u64 curves;  // colours × entries float
  u64 table;   // stops float, or stops³ × 3
  i64 runs;
  i64 pixel_count;
  i32 samples;
  i32 type;  // UINT8 or UINT16
  i32 kind;
  i32 entries;
  i32 stops;
  i32 has_nodata;
  i32 nodata;
  float top;  // the value that is white
  float offset[3];
  float matrix[9];  // row by row
};

// Copies `width` bytes of each row of a rectangle, or fills them with `value` where `from` is 0.
struct Paste {
  u64 from;
  u64 to;
  i64 runs;  // pieces of rows
  i64 width;
  i64 from_pitch;  // bytes from a row to the next
  i64 to_pitch;
  i64 value;
};

// Adds up the lengths (i64) before each of `runs` streams.
struct Follow {
  u64 lengths;
  u64 offsets;
  i64 runs;
};

// Brings streams together: `runs` pieces of streams that lie `capacity` bytes apart.
struct Pack {
  u64 streams;
  u64 lengths;
  u64 offsets;  // of the streams in out
  u64 out;
  i64 runs;
  i64 capacity;
};

// Makes samples of `runs` rows of a window of a chunk: see unpack.cu.
struct Unpack {
  u64 from;  // the first row of the chunk that is in the window
  u64 to;    // the first sample that the window fills
  i64 runs;
  i64 from_pitch;  // bytes from a row to the next
  i64 to_pitch;
  i32 left;       // the first column of the window
  i32 columns;    // in the window
  i32 width;      // columns of the chunk
  i32 samples;    // of a pixel of the chunk
  i32 stride;     // samples of a pixel of the tile
  i32 size;       // bytes of a sample
  i32 swapped;    // the highest byte comes first
  i32 predictor;  // 1: none, 2: differences of integers, 3: of the bytes of floats
};

// Turns a picture of (rows, columns, samples): see Turn in encoded.py.
struct Turned {
  u64 from;
  u64 to;
  i64 runs;  // of RUN pixels, wherever rows end
  i32 rows;
  i32 columns;
  i32 samples;
  i32 quarter;
  i32 mirror;
  i32 tone;  // 0: in colour, 1: grey, 2: black and white
};

// Converts pixels of three samples from YCbCr to RGB where they lie.
struct Ycc {
  u64 pixels;
  i64 runs;   // of RUN pixels
  i64 count;  // pixels
  i32 size;   // bytes of a sample: 1 or 2
  i32 unused;
};

// A compressed stream of `size` bytes, and the room that it is to fill.
struct Inflate {
  u64 in;
  i64 size;
  u64 out;
  i64 capacity;
  i64 done;  // 1 where it is whole, sound, and of just that many bytes
};

// A range of an open file, and the room that it is to fill.
struct Fetch {
  i64 file;  // its descriptor
  i64 offset;
  i64 size;
  u64 out;
  i64 done;  // 1 where it was read whole
};

// Decodes a JPEG stream: see jpegdecode.h. The scratch memory of the first job is for all of them.
struct JpegDecode {
  u64 data;
  u64 tables;  // of the page, put before the stream's
  u64 out;     // (height, width, samples)
  u64 done;    // i64: 1 where `out` has the pixels, else another decoder is to be asked
  u64 scratch;
  i64 size;  // bytes
  i64 tables_size;
  i64 scratch_size;
  i32 width;
  i32 height;
  i32 samples;   // 1 or 3
  i32 said_rgb;  // whether the page says that three components are RGB
};

static_assert(sizeof(Source) == 48, "see tables.py");
static_assert(sizeof(Band) == 128, "see tables.py");
static_assert(sizeof(Composite) == 80, "see tables.py");
static_assert(sizeof(Unstyled) == 128, "see tables.py");
static_assert(sizeof(Downsample) == 248, "see tables.py");
static_assert(sizeof(Resample) == 96, "see tables.py");
static_assert(sizeof(Extremes) == 24, "see tables.py");
static_assert(sizeof(Measure) == 104, "see tables.py");
static_assert(sizeof(PngFilter) == 56, "see tables.py");
static_assert(sizeof(PngLook) == 48, "see tables.py");
static_assert(sizeof(PngDeflate) == 88, "see tables.py");
static_assert(sizeof(PngCheck) == 16, "see tables.py");
static_assert(sizeof(PngTail) == 48, "see tables.py");
static_assert(sizeof(PngDense) == 56, "see tables.py");
static_assert(sizeof(JpegTable) == 1536, "see tables.py");
static_assert(sizeof(Jpeg) == 80, "see tables.py");
static_assert(sizeof(Icc) == 128, "see tables.py");
static_assert(sizeof(Paste) == 56, "see tables.py");
static_assert(sizeof(Follow) == 24, "see tables.py");
static_assert(sizeof(Pack) == 48, "see tables.py");
static_assert(sizeof(Unpack) == 72, "see tables.py");
static_assert(sizeof(Turned) == 48, "see tables.py");
static_assert(sizeof(Ycc) == 32, "see tables.py");
static_assert(sizeof(Inflate) == 40, "see tables.py");
static_assert(sizeof(JpegDecode) == 80, "see tables.py");
