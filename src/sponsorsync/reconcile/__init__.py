"""The comparison of what is stored with what GitHub reports."""
