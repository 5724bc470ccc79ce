"""Base classes of reports, which the work, the command line and the API share."""

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Result of long work or of a part of it; may be updated during the work.

    Its JSON contains every field, also those that have their default.
    """

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class FrozenReport(Report):
    """A report that is complete when it is made."""

    model_config = ConfigDict(frozen=True)
