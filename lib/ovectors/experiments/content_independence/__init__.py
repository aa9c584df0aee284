"""Content independence: one example's o vector on arguments that it never met (section 4).

The vector is what an FFN added at the last token of a one-shot prompt. It takes the place of the
outputs of the FFNs from a start layer to the last, while the model reads a nonsense pattern that
ends where the argument would come next: `table mug free China table mug free China table mug free`.
"""
