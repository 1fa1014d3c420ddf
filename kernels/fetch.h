// Bytes of files, read where they are wanted, by the thread that goes on with them. For the host alone.
#pragma once

#include <cerrno>
#include <unistd.h>

#include "tables.h"

// Reads a range whole: a read may stop early, at a signal, at 2 GiB or on a network file system.
INLINE bool fetch_range(const Fetch& job) {
  for (i64 got = 0; got < job.size;) {
    const ssize_t more = pread((int)job.file, (u8*)job.out + got, (size_t)(job.size - got), (off_t)(job.offset + got));
    if (more > 0) got += more;
    if (more == 0 || (more < 0 && errno != EINTR)) return false;
  }
  return true;
}

extern "C" __attribute__((visibility("default"))) void fetch(Fetch* jobs, i64 count) {
  for (i64 i = 0; i < count; ++i) jobs[i].done = fetch_range(jobs[i]);
}
