"""Executable companion to "Language Models Implement Simple Word2Vec-style Vector Arithmetic"."""
