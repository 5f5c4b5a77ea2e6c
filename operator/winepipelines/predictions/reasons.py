"""Reasons of a `WinePrediction`'s conditions, beside those of runs in `lifecycle.reasons`; see `docs/reasons.md`."""

PIPELINE_MISSING = "PipelineMissing"
NOTHING_SERVED = "NothingServed"
RESULT_PENDING = "ResultPending"
RESULT_NOT_RECORDED = "ResultNotRecorded"
RESULT_REFUSED = "ResultRefused"
SCORED = "Scored"
