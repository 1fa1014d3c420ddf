"""Plots: the ratios with their spread, and the stages of a tile, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "gputiles"  # the same report, the same file


def draw(report: dict[str, Any], folder: Path) -> list[str]:
    """Draw what the report holds; return the names of the files."""
    figures = {"ratios.svg": _ratios(report["rows"])}
    if report["stages"]:
        figures["stages.svg"] = _stages(report["stages"])
    for name, figure in figures.items():
        figure.savefig(folder / name, metadata={"Date": None})
    return list(figures)


def _ratios(rows: list[dict[str, Any]]) -> Figure:
    """Return bars of the ratios, with their 10–90 % spread."""
    figure = Figure(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    ratios = [row["ratio"] for row in rows]
    low = [row["ratio"] - row["ratio_10_90"][0] for row in rows]
    high = [row["ratio_10_90"][1] - row["ratio"] for row in rows]
    axes.barh([row["name"] for row in rows], ratios, xerr=[low, high], color="#4878b0", capsize=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as large_image (median of pairs, 10–90 %)")
    return figure


def _stages(stages: list[dict[str, Any]]) -> Figure:
    """Return one bar a picture, stacked of its stages."""
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(stages)), layout="constrained")
    axes = figure.subplots()
    titles = [title for title in stages[0] if title not in ("picture", "tiles")]
    left = [0.0] * len(stages)
    for title in titles:
        lengths = [stage[title] for stage in stages]
        axes.barh([stage["picture"] for stage in stages], lengths, left=left, label=title)
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    axes.set_xlabel("ms of one cold 6-channel 512² tile to JPEG, one worker")
    figure.legend(loc="outside upper center", ncols=len(titles))
    return figure
