"""What a step read of the data: part of a model's status."""

from winepipelines.resource.model import StatusModel


class TableRead(StatusModel):
    """Rows that were learned from, rows left out for a missing value, columns left out, and how the file was written."""

    rows: int = 0
    rows_dropped: int = 0
    columns_dropped: tuple[str, ...] = ()
    format: str = ""
