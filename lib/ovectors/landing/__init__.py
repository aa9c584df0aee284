"""The book's first page, made from results: claim cards, and a picture of one prompt."""
