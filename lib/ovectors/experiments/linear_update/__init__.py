"""The linear update: who makes the switch to the answer, and what its vector does (section 4.1)."""
