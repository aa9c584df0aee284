"""The examples that the paper itself shows."""

EXAMPLES = {
    "world_capitals": "Poland",
    "past_tense": "abolish",
    "colored_objects": "brown",
    "uppercase": "brown",
}
"""Arguments of the prompts that the paper follows (figure 2, table 1) and takes vectors from."""


def shown_argument(relation: str) -> str:
    """The example's argument as it stands in a prompt, after a space; "" where there is none."""
    example = EXAMPLES.get(relation)
    return f" {example}" if example else ""
