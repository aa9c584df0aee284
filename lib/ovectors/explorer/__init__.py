"""The explorer of the residual stream: data computed beforehand, for a page without a server."""
