"""Reconcile: the comparison of stored entitlements with GitHub's list, and its schedule."""
