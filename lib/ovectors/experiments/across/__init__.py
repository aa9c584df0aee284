"""Across models: verdicts, values and depths of whatever was run, side by side. Needs no model."""
