"""The figure of a model card: the loss over training, and what held-out items come to."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ovectors.figures.style import BLUE, ORANGE, apply_style

ACCURACY = "held_out_accuracy"


def loss_curve(log: pd.DataFrame) -> Figure:
    """Training loss over tokens, one point per step and its running median.

    Below it the accuracy on held-out items, where the log has it (at checkpoints).
    """
    apply_style()
    measured = log[log[ACCURACY].notna()] if ACCURACY in log else log[:0]
    panels = 1 + (not measured.empty)
    figure, axes = plt.subplots(
        panels, figsize=(6, 2 + 1.5 * panels), sharex=True, squeeze=False, layout="constrained"
    )
    _draw_loss(axes[0, 0], log)
    if panels > 1:
        axes[1, 0].plot(measured["tokens"] / 1e6, measured[ACCURACY], color=ORANGE)
        axes[1, 0].set(ylabel="held-out accuracy", ylim=(0, 1.02))
    axes[-1, 0].set(xlabel="tokens seen (millions)")
    return figure


def _draw_loss(axis: Axes, log: pd.DataFrame) -> None:
    millions = log["tokens"] / 1e6
    axis.plot(millions, log["loss"], color=BLUE, alpha=0.25, linewidth=0.8)
    window = max(1, len(log) // 60)
    smooth = log["loss"].rolling(window, center=True, min_periods=1).median()
    axis.plot(millions, smooth, color=BLUE, linewidth=2)
    axis.set(ylabel="loss (nats)", ylim=(0, float(np.nanmax(smooth)) * 1.05))
