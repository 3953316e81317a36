"""Rows of small images with titles: what pictures of images are made of."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from bench.data.split import Pixels
from bench.report.style import plain

SHOWN = 64
"""Side of an image on the sheet, in pixels, at least: smaller images are enlarged by whole numbers, pixel by pixel."""
GAP = 4


@dataclass(frozen=True)
class Panel:
    """A block of images with a title, and one over each column."""

    title: str
    images: Tensor
    """uint8 [rows, columns, C, S, S]: of more than three channels the first three are shown, of two the first."""
    columns: Sequence[str]


def draw(panels: Sequence[Panel], across: int = 1) -> Figure:
    """All panels, `across` of them (of fewer, all) beside each other."""
    across = min(across, len(panels))
    lines = [panels[i : i + across] for i in range(0, len(panels), across)]
    columns = max(panel.images.shape[1] for panel in panels)
    width = max(4.0, 0.62 * columns + 0.3)
    heights = [width / columns * max(len(panel.images) for panel in line) + 0.75 for line in lines]
    figure = Figure(figsize=(width * across, sum(heights)), layout="constrained")
    grid = figure.subplots(len(lines), across, squeeze=False, height_ratios=heights).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid, panels, strict=False):
        sheet, step = _sheet(panel.images.numpy())
        axes.imshow(sheet, interpolation="nearest")
        axes.set_xticks([step * (i + 0.5) - GAP / 2 for i in range(len(panel.columns))], panel.columns)
        axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8)
        axes.set_yticks([])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        n = panel.images.shape[2]
        left_out = "" if n in (1, 3) else f" (the first{' 3' * (n > 3)} of {n} channels)"
        title = textwrap.wrap(plain(panel.title + left_out, 300), int(12 * width))
        axes.set_title("\n".join(title), loc="left", fontsize=9)
    return figure


def _sheet(images: Pixels) -> tuple[Pixels, int]:
    """[rows, columns, C, S, S] -> one picture [H, W, 3] on white, and how many of its pixels a column takes."""
    images = images[:, :, :3] if images.shape[2] >= 3 else images[:, :, :1].repeat(3, axis=2)
    times = -(-SHOWN // images.shape[-1])
    large = images.repeat(times, axis=3).repeat(times, axis=4)
    large = np.pad(large, [(0, 0), (0, 0), (0, 0), (0, GAP), (0, GAP)], constant_values=255)
    rows, columns, _, side, _ = large.shape
    return large.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, 3), side
