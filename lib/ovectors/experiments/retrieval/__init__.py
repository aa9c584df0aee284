"""Retrieval from memory or from context: what is still answered as FFNs are removed (section 5)."""
