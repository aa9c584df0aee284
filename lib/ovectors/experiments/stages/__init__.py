"""Stages of processing: argument formation, function application, saturation (section 3)."""
