"""The engine for a plain Redis or Valkey: it brings changes from local to durable, and back.

Versions decide, not locks: any number of engines may run at once, and each may be killed between
any two steps (docs/adr/0006-sync.md).
"""
