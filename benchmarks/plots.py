"""Plots: the ratios with their spread, and the stages of a tile, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.scaling import CURVES
from benchmarks.stages import STAGES

matplotlib.rcParams["svg.hashsalt"] = "gputiles"  # the same report, the same file


def draw(report: dict[str, Any], folder: Path) -> list[str]:
    """Draw what the report holds; return the names of the files."""
    figures = {}
    if report["rows"]:
        figures["ratios.svg"] = _ratios(report["rows"], "large_image (median of pairs, 10–90 %)")
    if duels := _duels(report["sections"]):
        figures["duels.svg"] = _ratios(duels, "the other over HTTP (median of pairs, least and most)")
    if points := report["sections"].get("scaling", {}).get("rows"):
        figures["scaling.svg"] = _scaling(points)
    if loads := report["sections"].get("open", {}).get("rows"):
        figures["open.svg"] = _open(loads)
    if kernels := report["sections"].get("roofline", {}).get("rows"):
        figures["roofline.svg"] = _roofline(kernels)
    if report["stages"]:
        figures["stages.svg"] = _stages(report["stages"])
    for name, figure in figures.items():
        figure.savefig(folder / name, metadata={"Date": None})
    return list(figures)


def _duels(sections: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what ``_ratios`` takes of the valid rows against other servers."""
    return [
        {"name": f"{name}: {row['name']}", "ratio": row["ratio"], "ratio_10_90": row["ratio_range"]}
        for name in ("girder", "iip", "constant")
        for row in sections.get(name, {}).get("rows", ())
        if row["valid"]
    ]


def _ratios(rows: list[dict[str, Any]], against: str) -> Figure:
    """Return bars of the ratios, with their spread."""
    figure = Figure(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    ratios = [row["ratio"] for row in rows]
    low = [row["ratio"] - row["ratio_10_90"][0] for row in rows]
    high = [row["ratio_10_90"][1] - row["ratio"] for row in rows]
    axes.barh([row["name"] for row in rows], ratios, xerr=[low, high], color="#4878b0", capsize=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlim(0, 2 * max(ratios))  # a pair that something came between would leave no room for the others
    axes.invert_yaxis()
    axes.set_xlabel(f"times as fast as {against}")
    return figure


def _stages(stages: list[dict[str, Any]]) -> Figure:
    """Return one bar a picture, stacked of its stages."""
    figure = Figure(figsize=(8, 1.5 + 0.5 * len(stages)), layout="constrained")
    axes = figure.subplots()
    titles = [title for title in STAGES if any(stage[title] for stage in stages)]
    left = [0.0] * len(stages)
    for title in titles:
        lengths = [max(0.0, stage[title]) for stage in stages]
        axes.barh([_bar(stage) for stage in stages], lengths, left=left, label=title)
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms of one cold 6-channel 512² tile to JPEG over HTTP, one worker")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _bar(stage: dict[str, Any]) -> str:
    return f"{stage['picture']}, {stage['tile']}"


def _scaling(points: list[dict[str, Any]]) -> Figure:
    """Return tiles a second over HTTP, a plot for each curve."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    parts = figure.subplots(2, 2).flat
    for axes, (curve, title) in zip(parts, CURVES.items(), strict=True):
        found = [point for point in points if point["curve"] == curve]
        for name in dict.fromkeys(point["name"] for point in found):
            line = [point for point in found if point["name"] == name]
            x, y = ([point[key] for point in line] for key in (curve, "per_s"))
            axes.loglog(x, y, marker="o", base=2, label=name)
        rates = [point["per_s"] for point in found]
        axes.set_ylim(min(rates) / 2, max(rates) * 2)  # so that what differs little looks so
        axes.set_xlabel(title)
        axes.set_ylabel("tiles/s over HTTP")
        axes.legend()
    return figure


def _open(rows: list[dict[str, Any]]) -> Figure:
    """Return the latencies of each kind of request against the rate at which it was asked."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure = Figure(figsize=(3.5 * len(names), 3.5), layout="constrained")
    parts = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(parts, names, strict=True):
        found = [row for row in rows if row["name"] == name and row["done"]]
        for part in (50, 95, 99):
            axes.semilogy(
                [row["offered_per_s"] for row in found],
                [row[f"p{part}_ms"] for row in found],
                marker="o",
                label=f"p{part}",
            )
        axes.set_title(name)
        axes.set_xlabel("offered requests/s")
        axes.set_ylabel("ms from when due")
        axes.legend()
    return figure


def _roofline(rows: list[dict[str, Any]]) -> Figure:
    """Return every kernel by its arithmetic a byte, below what the bandwidth of a copy allows."""
    copy, *kernels = rows
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    dense = [row["operations_a_byte"] for row in kernels]
    ends = [min(dense) / 2, max(dense) * 2]
    axes.loglog(ends, [end * copy["gb_per_s"] for end in ends], color="black", label="as fast as a copy")
    axes.loglog(dense, [row["gop_per_s"] for row in kernels], "o", color="#4878b0")
    for row in kernels:
        axes.annotate(
            row["name"], (row["operations_a_byte"], row["gop_per_s"]), (5, 4), textcoords="offset points"
        )
    axes.set_xlabel("operations a byte moved")
    axes.set_ylabel("10⁹ operations/s, one thread")
    axes.legend()
    return figure
