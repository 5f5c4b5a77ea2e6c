"""What the doctor says about access to a prefix of the object store."""

import pytest

from winepipelines.api.sourcesecret import StoreOperation
from winepipelines.doctor.checks.store import access_problem, policy
from winepipelines.doctor.finding import Result
from winepipelines.doctor.namespace import artifact_folder
from winepipelines.doctor.observations import BucketView

LIST, READ, WRITE = StoreOperation
SECRET = "the Secret keys in namespace team"


def view(**codes: str) -> BucketView:
    return BucketView("s3://mlflow/a", "http://store", {StoreOperation(name): code for name, code in codes.items()})


def test_access_without_an_error_is_no_problem() -> None:
    assert access_problem(view(), SECRET) is None


@pytest.mark.parametrize(
    ("codes", "reason", "message"),
    [
        ({"list": "NoSuchBucket", "write": "AccessDenied"}, "BucketMissing", "http://store has no bucket mlflow"),
        ({"list": "InvalidAccessKeyId"}, "ObjectStoreAccessDenied", f"http://store does not accept the keys of {SECRET}"),
        ({"list": "AccessDenied"}, "ObjectStoreAccessDenied", f"denies the keys of {SECRET} to list below s3://mlflow/a/"),
        ({"read": "AccessDenied", "write": "HTTP 403"}, "ObjectStoreAccessDenied", "to read and write below s3://mlflow/a/"),
        (
            {"list": "SlowDown", "write": "AccessDenied"},
            "ObjectStoreAccessDenied",
            "to write below s3://mlflow/a/ (Acc",
        ),
    ],
)
def test_refused_access_fails_with_operation_and_prefix(codes: dict[str, str], reason: str, message: str) -> None:
    found = access_problem(view(**codes), SECRET)
    assert found is not None
    assert (found.result, found.reason) == (Result.FAILED, reason)
    assert message in found.message


def test_answer_of_unknown_meaning_is_a_warning() -> None:
    found = access_problem(view(write="NotImplemented"), SECRET)
    assert found is not None
    assert found.result is Result.WARNING
    assert "may write below s3://mlflow/a/: http://store answered NotImplemented" in found.message


@pytest.mark.parametrize(
    ("uri", "operations", "expected"),
    [
        ("s3://b/p", (WRITE,), "s3:PutObject on arn:aws:s3:::b/p/* (SeaweedFS: Write:b/p/*)"),
        ("s3://b", (LIST,), "s3:ListBucket on arn:aws:s3:::b (SeaweedFS: List:b/*)"),
        (
            "s3://b/p/q",
            (LIST, READ, WRITE),
            "s3:GetObject and s3:PutObject on arn:aws:s3:::b/p/q/* and s3:ListBucket on arn:aws:s3:::b "
            "(SeaweedFS: List:b/p/q/*, Read:b/p/q/*, Write:b/p/q/*)",
        ),
    ],
)
def test_policy_names_actions_and_resources(uri: str, operations: tuple[StoreOperation, ...], expected: str) -> None:
    assert policy(uri, operations) == expected


def test_reading_needs_the_right_to_list_in_the_policy_of_s3() -> None:
    assert "s3:ListBucket on arn:aws:s3:::b" in policy("s3://b/p", (READ,))


@pytest.mark.parametrize(
    ("address", "folder"),
    [("s3://mlflow/0", "s3://mlflow"), ("s3://b/shared/mlflow/0", "s3://b/shared/mlflow"), ("s3://b/10", "s3://b/10"), ("", "")],
)
def test_artifact_folder_is_that_of_all_experiments(address: str, folder: str) -> None:
    assert artifact_folder(address) == folder
