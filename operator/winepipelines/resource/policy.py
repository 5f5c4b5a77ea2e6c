"""How patient the operator is. Made by `settings`, followed by `lifecycle`."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Policy:
    """How patient the operator is. All durations; `settings` makes it from the environment."""

    submit_grace: timedelta = timedelta(seconds=30)  # a submission without an answer may still be carried out
    attempt_backoff: timedelta = timedelta(seconds=30)  # before the second attempt; twice that before the third, ...
    attempt_backoff_limit: timedelta = timedelta(minutes=10)  # nor longer than this
    start_backoff_limit: timedelta = timedelta(hours=1)  # the same where no step could start, which only a person can change
    terminate_grace: timedelta = timedelta(minutes=2)  # 17 s were measured from the request to the end
    explain_grace: timedelta = timedelta(seconds=15)  # a failed run's step is known
    records_grace: timedelta = timedelta(minutes=1)  # a run that succeeded has logged its model
    progress_deadline: timedelta = timedelta(minutes=15)  # image pull, model copy, start
    slow_progress_deadline: timedelta = timedelta(minutes=30)  # the same, with a runtime that installs packages at its start
    rollout_interval: timedelta = timedelta(seconds=2)  # while pods start: their own moves are not watched
    verify_window: timedelta = timedelta(seconds=30)  # a new model's first wrong answer to its last chance
    probation: timedelta = timedelta(minutes=10)  # after a promotion: who stops answering now is rolled back
    probation_interval: timedelta = timedelta(seconds=30)  # between two predictions in that time
    trial_interval: timedelta = timedelta(seconds=10)  # between two looks at a candidate that has a share of the traffic
    data_check_timeout: timedelta = timedelta(minutes=30)
    check_interval: timedelta = timedelta(minutes=5)  # between two predictions of a settled model
    retry_interval: timedelta = timedelta(seconds=10)  # what is not as it should be is looked at again
    delete_bound: timedelta = timedelta(minutes=2)  # a deletion waits no longer for an unreachable platform
