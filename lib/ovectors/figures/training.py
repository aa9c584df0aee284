"""The figure of a model card: the loss over training."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ovectors.figures.style import BLUE, apply_style


def loss_curve(log: pd.DataFrame) -> Figure:
    """Training loss over tokens, one point per step and its running median."""
    apply_style()
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    millions = log["tokens"] / 1e6
    axis.plot(millions, log["loss"], color=BLUE, alpha=0.25, linewidth=0.8)
    window = max(1, len(log) // 60)
    smooth = log["loss"].rolling(window, center=True, min_periods=1).median()
    axis.plot(millions, smooth, color=BLUE, linewidth=2)
    axis.set(xlabel="tokens seen (millions)", ylabel="loss (nats)")
    axis.set(ylim=(0, float(np.nanmax(smooth)) * 1.05))
    return figure
