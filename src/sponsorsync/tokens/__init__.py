"""Signed tokens that other services check offline, and their keys."""
