"""Figures, a module for each chapter; nothing is computed here but positions and colours."""
