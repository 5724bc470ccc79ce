"""The base of all reports: one declaration serves the work, the command line and the API."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Result of a long work, or a part of it; it may be counted up while the work goes on.

    In a report that is sent each field is there, also one that still has its default.
    """

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class FrozenReport(Report):
    """A report that is complete when it is made."""

    model_config = ConfigDict(frozen=True)
