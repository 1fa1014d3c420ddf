"""DICOM series of a slide, written with pydicom: a file for each level and for each other picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

from tests.slidefiles import MICRONS, SIDE, STEPS, picture
from tests.tiffs import tiles_of

Pixels = NDArray[np.uint8]
WHOLE_SLIDE = UID("1.2.840.10008.5.1.4.1.1.77.1.6")
SYNTAXES = {"none": ExplicitVRLittleEndian, "jpeg": JPEGBaseline8Bit, "jpeg 2000": JPEG2000Lossless}


def uid(text: str) -> UID:
    """Return an identifier that is always the same for a text."""
    return UID(generate_uid(entropy_srcs=[text]))


def encoded(tile: Pixels, coding: str) -> bytes:
    """Return a tile as a frame of a file."""
    if coding == "none":
        return tile.tobytes()
    file = io.BytesIO()
    if coding == "jpeg":
        Pillow.fromarray(tile).save(file, "JPEG", quality=95, subsampling=0)
    else:
        Pillow.fromarray(tile).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    return file.getvalue()


def write(
    path: Path, pixels: Pixels, *, kind: str = "VOLUME", series: str = "a", coding: str = "none",
    step: int = 1,
) -> None:  # fmt: skip
    """Write one file of a series: a level that is ``step`` times smaller, or another picture."""
    rows, columns = pixels.shape[:2]
    tile = (SIDE, SIDE) if kind == "VOLUME" else (columns, rows)
    frames = [encoded(each, coding) for each in tiles_of(pixels, *tile)]
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = WHOLE_SLIDE, uid(f"{series}{path.name}")
    data.PatientName, data.PatientID, data.Modality = "Doe^Jane", "1", "SM"
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid(series)
    data.FrameOfReferenceUID, data.InstanceNumber = uid("frame"), 1
    data.ContainerIdentifier = f"container {series}"
    made = ["DERIVED", "RESAMPLED"] if step > 1 else ["ORIGINAL", "NONE"]
    data.ImageType = [made[0], "PRIMARY", kind, made[1]]
    data.DimensionOrganizationType = "TILED_FULL"
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = columns, rows
    data.TotalPixelMatrixFocalPlanes, data.NumberOfOpticalPaths = 1, 1
    data.ImagedVolumeWidth, data.ImagedVolumeHeight = columns * step * MICRONS / 1000, rows * MICRONS / 1000
    data.NumberOfFrames, data.Columns, data.Rows = len(frames), *tile
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.PhotometricInterpretation = {"none": "RGB", "jpeg": "YBR_FULL_422", "jpeg 2000": "YBR_RCT"}[coding]
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.SharedFunctionalGroupsSequence = Sequence([_shared(step)])
    data.OpticalPathSequence = Sequence([_path()])
    data.PixelData = b"".join(frames) if coding == "none" else encapsulate(frames)
    data["PixelData"].VR = "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = SYNTAXES[coding]
    data.file_meta.MediaStorageSOPClassUID = WHOLE_SLIDE
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


def _shared(step: int) -> Dataset:
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [MICRONS * step / 1000] * 2
    measures.SliceThickness = 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    return shared


def _path() -> Dataset:
    path = Dataset()
    path.OpticalPathIdentifier, path.ObjectiveLensPower = "1", "20"
    return path


OTHERS = {"label": picture(70, 90, 1), "macro": picture(60, 180, 2), "thumbnail": picture(40, 60, 3)}
KINDS = {"label": "LABEL", "macro": "OVERVIEW", "thumbnail": "THUMBNAIL"}


def write_series(path: Path, pixels: Pixels, *, coding: str = "none") -> None:
    """Write a series of three levels, the largest at ``path``, and its other pictures beside it."""
    path.parent.mkdir(exist_ok=True)
    for step in STEPS:
        name = path if step == 1 else path.with_name(f"{path.stem}-{step}.dcm")
        level = np.ascontiguousarray(pixels[::step, ::step])
        write(name, level, series=path.stem, coding=coding, step=step)
    for kind, other in OTHERS.items():
        name = path.with_name(f"{path.stem}-{kind}.dcm")
        write(name, other, kind=KINDS[kind], series=path.stem, coding=coding, step=8)
