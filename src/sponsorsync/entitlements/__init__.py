"""Use cases that grant, update, list and end people's entitlements."""
