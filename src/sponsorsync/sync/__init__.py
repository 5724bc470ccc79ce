"""The engine for a plain Redis or Valkey: pushes changes to durable, fetches lost data from there.

Each part of a person has a version, and the newer version wins. So any number of engines may run at
once without locks, and each may be killed between any two steps (docs/adr/0006-sync.md).
"""
