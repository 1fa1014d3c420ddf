"""An engine's report as Prometheus' text: the same numbers as JSON has, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

MEDIA_TYPE = CONTENT_TYPE_LATEST

# (key of a shelf's report, name, what it is); in bytes where the name says so
SHELF_GAUGES = (
    ("capacity", "shelf_capacity", "What a shelf may hold: bytes, or entries of shelves that count entries"),
    ("used", "shelf_used", "What a shelf holds, and what is reserved for work in flight"),
    ("stored", "shelf_stored", "What a shelf holds"),
    ("reserved", "shelf_reserved", "What is reserved on a shelf for work in flight"),
    ("peak", "shelf_peak", "The most that a shelf has held"),
    ("items", "shelf_items", "Entries of a shelf"),
    ("images", "shelf_images", "Images that have entries on a shelf"),
    ("inFlight", "shelf_flights", "Entries that are being made"),
)
SHELF_COUNTERS = (
    ("hits", "shelf_hits", "Look-ups that found their entry"),
    ("misses", "shelf_misses", "Look-ups that had to make their entry"),
    ("coalesced", "shelf_coalesced", "Look-ups that joined others that were making the same entry"),
    ("evictions", "shelf_evictions", "Entries that had to leave for others"),
)
QUEUE_GAUGES = (
    ("waiting", "queue_jobs", "Jobs that wait for a worker"),
    ("waitingBytes", "queue_bytes", "Bytes that waiting jobs hold"),
    ("running", "queue_running_batches", "Batches that are being computed"),
)
QUEUE_COUNTERS = (
    ("batches", "queue_batches", "Batches that were computed"),
    ("skipped", "queue_skipped_jobs", "Jobs that nobody waited for any more"),
)


def exposition(report: dict[str, Any]) -> bytes:
    """Return the text of a report of ``inspect``, in ``MEDIA_TYPE``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Report(report))
    return generate_latest(registry)


class _Report:
    """A report as prometheus_client's collector."""

    def __init__(self, report: dict[str, Any]) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        report = self._report
        yield from _shelves(report["shelves"])
        yield _images(report["images"])
        yield from _remote(report["remote"])
        yield from _queue(report["queue"])
        yield _counts(report["counts"], report["queue"]["jobs"])
        yield _by("stage_seconds", "Seconds that the workers computed", "stage", report["queue"]["seconds"])
        yield _by("stage_wait_seconds", "Seconds that jobs waited", "stage", report["queue"]["waited"])
        yield CounterMetricFamily("gputiles_read_seconds", "Seconds that reads took", report["readSeconds"])
        yield _by(
            "failed_jobs", "Jobs of the device that ended with an error", "stage", report["queue"]["failed"]
        )
        yield _by(
            "refusals", "Requests, and tiles of batches, that were refused", "status", report["refusals"]
        )
        yield GaugeMetricFamily(
            "gputiles_descriptors", "Open file descriptors of images", report["descriptors"]
        )
        yield GaugeMetricFamily(
            "gputiles_reading", "Calls that wait for, or are in, the reading room", report["reading"]
        )
        yield GaugeMetricFamily("gputiles_workers", "Workers of the device", report["device"]["workers"])
        yield InfoMetricFamily("gputiles_device", "The compute device", {"name": report["device"]["name"]})


def _shelves(shelves: dict[str, Any]) -> Iterator[Metric]:
    for key, name, text in SHELF_GAUGES:
        gauge = GaugeMetricFamily(f"gputiles_{name}", text, labels=["shelf"])
        for shelf, numbers in shelves.items():
            gauge.add_metric([shelf], numbers[key])
        yield gauge
    for key, name, text in SHELF_COUNTERS:
        counter = CounterMetricFamily(f"gputiles_{name}", text, labels=["shelf"])
        for shelf, numbers in shelves.items():
            counter.add_metric([shelf], numbers[key])
        yield counter


def _images(images: list[dict[str, Any]]) -> Metric:
    """Return the bytes of the images that hold most, shelf by shelf."""
    gauge = GaugeMetricFamily(
        "gputiles_image_bytes", "Bytes of the images that hold most", labels=["item", "name", "shelf"]
    )
    for image in images:
        for shelf, held in image["bytes"].items():
            gauge.add_metric([image["id"], image["name"], shelf], held)
    return gauge


def _remote(remote: dict[str, int]) -> Iterator[Metric]:
    for key, text in (("capacity", "may be held"), ("used", "are held")):
        yield GaugeMetricFamily(
            f"gputiles_remote_{key}_bytes", f"Bytes of remote files that {text} in memory", remote[key]
        )


def _queue(queue: dict[str, Any]) -> Iterator[Metric]:
    for key, name, text in QUEUE_GAUGES:
        yield GaugeMetricFamily(f"gputiles_{name}", text, queue[key])
    for key, name, text in QUEUE_COUNTERS:
        yield CounterMetricFamily(f"gputiles_{name}", text, queue[key])
    sizes = HistogramMetricFamily("gputiles_batch_jobs", "Jobs of a batch, by its stage", labels=["stage"])
    for stage, distribution in queue["batchSizes"].items():
        sizes.add_metric([stage], *_buckets(distribution))
    yield sizes
    buckets, total = _buckets(queue["depths"])
    yield HistogramMetricFamily("gputiles_queue_depth", "Jobs that waited when a batch began", buckets, total)


def _buckets(distribution: dict[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """Return the buckets of a distribution, each with all below it, and the sum of what was seen."""
    bounds = [f"{bound:.1f}" for bound in distribution["bounds"]]
    return list(zip([*bounds, "+Inf"], accumulate(distribution["counts"]), strict=True)), distribution["sum"]


def _by(name: str, text: str, label: str, numbers: dict[str, float]) -> Metric:
    counter = CounterMetricFamily(f"gputiles_{name}", text, labels=[label])
    for key, number in numbers.items():
        counter.add_metric([key], number)
    return counter


def _counts(counts: dict[str, int], jobs: dict[str, int]) -> Metric:
    """Return what was done, by kind: jobs of the device among it."""
    work = CounterMetricFamily("gputiles_work", "What was done, by kind", labels=["kind"])
    for kind, number in {**counts, **jobs}.items():
        work.add_metric([kind], number)
    return work
