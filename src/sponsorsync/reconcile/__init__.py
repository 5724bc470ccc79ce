"""Reconcile: the comparison of stored entitlements with GitHub, and its schedule."""
