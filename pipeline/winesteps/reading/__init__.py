"""Reads tables: one reader for training and for scoring, so that both accept and refuse the same files in the same words.

`open_csv` and `open_parquet` return a `Source`, whose chunks are of bounded size. `formats` names what a file is, `expand`
unpacks a compressed one, `text` decodes it, `records` splits it, `header` chooses its columns, `values` reads its numbers,
and `explain` turns what is wrong into a message with advice that was checked against the file.
"""

from winesteps.reading.csvfile import open_csv
from winesteps.reading.expand import expanded
from winesteps.reading.header import Wanted
from winesteps.reading.options import Columns, Options
from winesteps.reading.parquetfile import is_parquet, open_parquet
from winesteps.reading.source import Chunk, Problem, Source
from winesteps.reading.values import Rejection

__all__ = [
    "Chunk",
    "Columns",
    "Options",
    "Problem",
    "Rejection",
    "Source",
    "Wanted",
    "expanded",
    "is_parquet",
    "open_csv",
    "open_parquet",
]
