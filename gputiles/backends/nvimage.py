"""JPEG and JPEG 2000 chunks decoded on a card, in one batch, by nvImageCodec.

A kind of stream is decoded there only if a picture of its kind, decoded when the card is opened,
comes out as the host's decoder gives it. What nvImageCodec does not decode is the host's to try.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.nvstreams import Stream
from gputiles.backends.nvtrials import trials

TOLERANCE = 4  # levels by which a trial picture may differ from the host's: decoders round each in its way
OPTIONS = ":fancy_upsampling=1"  # chroma as libjpeg smooths it
UNFIT = (RuntimeError, ValueError, TypeError)  # what nvImageCodec raises at what it does not take


class Place:
    """Memory of the card as nvImageCodec takes it."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], address: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (address, False),
            "version": 3,
        }


class Pictures:
    """The decoders of one card, for the card's thread only.

    The first uses the engine that a card may have for JPEG; a second one, without it, is there for kinds
    that the first has wrong. Raises RuntimeError where the library does not work.
    """

    def __init__(self, module: Any, number: int, stream: int, threads: int) -> None:
        self._module = module
        self._stream = stream
        self._device = {"device_id": number, "max_num_cpu_threads": threads}
        kind = module.BackendKind
        self.engines = (kind.HW_GPU_ONLY, kind.GPU_ONLY, kind.HYBRID_CPU_GPU)
        self._engine = self._decoder(*self.engines)
        self._decoders: dict[str, Any] = {}  # by the kind that each has right
        rgb, unchanged = module.ColorSpec.SRGB, module.ColorSpec.UNCHANGED
        self._params = {
            spec: module.DecodeParams(apply_exif_orientation=False, allow_any_depth=True, color_spec=spec)
            for spec in (rgb, unchanged)
        }

    def _decoder(self, *kinds: Any, options: str = OPTIONS) -> Any:
        backends = [self._module.Backend(kind) for kind in kinds]
        return self._module.Decoder(backends=backends, options=options, **self._device)

    @property
    def kinds(self) -> frozenset[str]:
        """What may be decoded."""
        return frozenset(self._decoders)

    def prove(self, place: Callable[[int], int], fetch: Callable[[int, NDArray[Any]], None]) -> None:
        """Decode a picture of each kind into memory from ``place``; trust the kinds that come out right.

        ``fetch`` brings what lies at an address into an array.
        """
        made = [(stream, expected, place(stream.size)) for stream, expected in trials()]
        self._decoders.clear()
        self._try(self._engine, made, fetch)
        left = [each for each in made if each[0].kind not in self._decoders]
        if left:
            kind = self._module.BackendKind
            self._try(self._decoder(kind.GPU_ONLY, kind.HYBRID_CPU_GPU), left, fetch)

    def _try(
        self,
        decoder: Any,
        made: Sequence[tuple[Stream, NDArray[Any], int]],
        fetch: Callable[[int, NDArray[Any]], None],
    ) -> None:
        """Note a decoder for the kinds whose pictures it has right."""
        for stream, expected, address in made:
            found = np.zeros(stream.shape, stream.dtype)
            if self._decode(decoder, [stream], [address])[0]:
                fetch(address, found)
                if int(np.abs(found.astype(np.int64) - expected).max()) <= TOLERANCE:
                    self._decoders[stream.kind] = decoder

    def decode(self, streams: Sequence[Stream], addresses: Sequence[int]) -> list[bool]:
        """Decode streams to addresses, on the stream of kernels; say which were decoded."""
        done = [False] * len(streams)
        alike: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for at, stream in enumerate(streams):
            alike[id(self._decoders[stream.kind]), stream.in_ycc].append(at)
        for chosen in alike.values():
            decoder = self._decoders[streams[chosen[0]].kind]
            made = self._decode(decoder, [streams[at] for at in chosen], [addresses[at] for at in chosen])
            for at, good in zip(chosen, made, strict=True):
                done[at] = good
        return done

    def _decode(self, decoder: Any, streams: Sequence[Stream], addresses: Sequence[int]) -> list[bool]:
        """Decode streams, all in YCbCr or none of them, in one call."""
        module, done = self._module, [False] * len(streams)
        codes = [self._code(stream) for stream in streams]
        fitting = [at for at, code in enumerate(codes) if code is not None]
        if not fitting:
            return done
        places = [Place(streams[at].shape, streams[at].dtype, addresses[at]) for at in fitting]
        spec = module.ColorSpec.SRGB if streams[0].in_ycc else module.ColorSpec.UNCHANGED
        try:
            found = decoder.decode(
                [codes[at] for at in fitting],
                images=[module.as_image(place, cuda_stream=self._stream) for place in places],
                params=self._params[spec],
                cuda_stream=self._stream,
            )
        except UNFIT:  # nothing is known of any of them: the host tries
            return done
        for at, image in zip(fitting, found, strict=True):
            done[at] = image is not None
        return done

    def _code(self, stream: Stream) -> Any:
        """Return a stream as nvImageCodec reads it; None where that is not what the chunk promises."""
        try:
            code = self._module.CodeStream(stream.data)
            shape = (code.height, code.width, code.num_channels)
            fits = shape == stream.shape and np.dtype(code.dtype) == stream.dtype
        except UNFIT:  # it cannot parse it
            return None
        return code if fits else None
