"""Base classes of reports: results of long work, for the command line and the API alike."""

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Result of long work or of a part of the work; it may be updated during the work.

    Its JSON contains every field, including fields that have their default.
    """

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class FrozenReport(Report):
    """A report that is complete when it is created, and does not change."""

    model_config = ConfigDict(frozen=True)
