"""Plot predicted against actual values of the held-out rows."""

import base64
import html
import io
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MAX_DOTS = 5000
"""Most rows that are drawn; of more rows, evenly spaced ones."""


def scatter_png(actual: np.ndarray, predicted: np.ndarray, target: str, metrics: Mapping[str, float]) -> bytes:
    """Draw a PNG of 640 x 640 pixels: one dot per row, the diagonal of perfect predictions, r2 and rmse in the title.

    Args:
        actual: actual values of the target, one per row.
        predicted: the model's values for the same rows.
        target: the target's name; both axes are in its unit.
        metrics: r2 and rmse of these rows.

    """
    figure = Figure(figsize=(6.4, 6.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    chosen = np.linspace(0, len(actual) - 1, min(len(actual), MAX_DOTS)).astype(int)
    low, high = float(min(actual.min(), predicted.min())), float(max(actual.max(), predicted.max()))
    margin = (high - low) * 0.05
    limits = low - margin, high + margin
    axes.plot(limits, limits, color="0.6", linewidth=1, zorder=1, label="predicted = actual")
    axes.scatter(
        actual[chosen], predicted[chosen], s=18, alpha=0.35, linewidths=0, color="tab:red", zorder=2, label="held-out row"
    )
    axes.set(
        xlim=limits,
        ylim=limits,
        aspect="equal",
        xlabel=f"actual {target}",
        ylabel=f"predicted {target}",
        title=f"{target}: r² = {metrics['r2']:.3f}, rmse = {metrics['rmse']:.3f} ({len(actual):,} held-out rows)",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def as_html(png: bytes | None, title: str, facts: Mapping[str, str]) -> str:
    """Return a self-contained page for Kubeflow: a table of facts, and the picture if there is one."""
    picture = (
        f'<img alt="Predicted against actual values" src="data:image/png;base64,{base64.b64encode(png).decode()}">' if png else ""
    )
    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in facts.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>'
        "body{font:14px sans-serif;margin:1.5em}th{text-align:left;padding-right:1.5em;font-weight:normal;color:#555}"
        f"</style></head><body><h1>{html.escape(title)}</h1><table>{rows}</table>"
        f"{picture}</body></html>"
    )
