"""The errors that gputiles raises, one tree.

::

    GputilesError
    ├── BadRequest          malformed: a number, an encoding, an edge …
    │   └── BadStyle        a style that says something it cannot say
    ├── SignInRequired      not for everybody: say who asks
    ├── Forbidden           not for the one who asks
    ├── NotFound            no such item, tile, level or frame
    ├── LimitExceeded       more work or memory than a limit allows
    ├── Unsupported         a format or compression that gputiles does not read
    ├── Damaged             a file or chunk that cannot be decoded
    └── Unavailable         not now: try again
        ├── Overloaded      the queue is full
        ├── OutOfDescriptors  the process may open no more files
        ├── DeadlineExceeded  the answer took longer than the deadline
        ├── Changed         the file changed while it was read
        ├── OutOfMemory     the device could not hold the work
        └── DeviceLost      the device answers no more: the process must be started anew

A message says what was wrong, what is allowed and the value. The errors know nothing of
HTTP; ``routes/respond.py`` maps them to status codes in one table.
"""


class GputilesError(Exception):
    """The root of all errors that gputiles raises on purpose."""


class BadRequest(GputilesError):
    """A request that cannot be understood, whatever the image."""


class BadStyle(BadRequest):
    """A style that is not an object, or has an entry with an impossible value."""


class SignInRequired(GputilesError):
    """An item that not everybody may see, asked for without a token that counts."""


class Forbidden(GputilesError):
    """An item that the one who asks may not see."""


class NotFound(GputilesError):
    """An item, tile, level or frame that does not exist."""


class LimitExceeded(GputilesError):
    """A request or file that needs more memory or work than a limit allows."""


class Unsupported(GputilesError):
    """A file whose format, compression or layout gputiles does not read."""


class Damaged(GputilesError):
    """A file or chunk that should be readable but cannot be decoded."""


class Unavailable(GputilesError):
    """The request is fine but cannot be answered now."""


class Overloaded(Unavailable):
    """The queues are full."""


class OutOfDescriptors(Unavailable):
    """The process, or the machine, has no file descriptor left."""


class DeadlineExceeded(Unavailable):
    """The answer was not ready before the request's deadline."""


class Changed(Unavailable):
    """The file changed between its opening and a read."""


class OutOfMemory(Unavailable):
    """Device memory could not hold the work."""


class DeviceLost(Unavailable):
    """The compute device has failed for good: nothing more can be computed in this process."""
