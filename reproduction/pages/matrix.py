"""A table of numbers as colours, with the numbers in it."""

import pandas as pd
from matplotlib.figure import Figure


def matrix(values: pd.DataFrame, xlabel: str, ylabel: str, label: str, digits: int = 1) -> Figure:
    """Numbers of at least 0, rows from above; `label` says what they are."""
    size = (1.6 + 0.52 * values.shape[1], 1.1 + 0.38 * values.shape[0])
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    largest = float(values.to_numpy().max())
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=largest, aspect="auto")
    axes.set_xticks(range(values.shape[1]), values.columns, rotation=45, ha="right")
    axes.set_yticks(range(values.shape[0]), values.index)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for row, line in enumerate(values.to_numpy()):
        for column, value in enumerate(line):
            colour = "black" if value > largest / 2 else "white"
            text = f"{value:.{digits}f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label=label)
    return figure
