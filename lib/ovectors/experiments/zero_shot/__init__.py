"""Zero-shot prompts with an o vector added: does the model answer without a demonstration?

The vector is what an FFN added at the last token of one one-shot prompt. It is added (nothing is
replaced) to what the FFN of the same layer adds at the last token of zero-shot prompts.
"""
