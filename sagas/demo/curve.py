"""The loss of a training as a curve: for the terminal (plotille), and as a picture (matplotlib).

Neither package is needed by anything else: without it there is no drawing, and it is said why.
"""

from collections.abc import Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 62, 9
_DPI = 120


def in_terminal(points: Points, epochs: int) -> str:
    """Return the curve in braille dots, loss over epochs, without colours.

    Raises:
        ModuleNotFoundError: plotille is not installed.
    """
    import plotille

    figure = plotille.Figure()
    figure.width, figure.height = _WIDTH, _HEIGHT
    figure.with_colors, figure.origin = False, False
    figure.x_label, figure.y_label = "epoch", "loss"
    figure.set_x_limits(0, epochs)
    figure.set_y_limits(0, 1.1 * max(y for _, y in points))
    figure.x_ticks_fkt = lambda value, _: f"{value:.0f}"
    figure.y_ticks_fkt = lambda value, _: f"{value:.2f}"
    figure.plot([x for x, _ in points], [y for _, y in points])
    return str(figure.show())


def as_picture(points: Points, marks: Sequence[tuple[float, str]], path: Path) -> None:
    """Write the curve as a PNG; `marks` are epochs at which something happened.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    # Not pyplot: no window, no backend to choose, nothing that outlives the call.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="mean loss of a chunk", yscale="log")
    axes.plot([x for x, _ in points], [y for _, y in points], marker=".")
    for epoch, text in marks:
        axes.axvline(epoch, linestyle="--", linewidth=0.8, color="grey")
        axes.annotate(
            text, (epoch, 0.97), xycoords=("data", "axes fraction"), rotation=90, va="top"
        )
    axes.set_title(path.stem)
    figure.savefig(path, dpi=_DPI)
