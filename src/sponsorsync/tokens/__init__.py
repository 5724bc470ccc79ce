"""Tokens that other services check offline: the keys that sign them, and what stands in them."""
