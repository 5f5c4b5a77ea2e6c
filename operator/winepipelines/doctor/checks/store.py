"""Access to the object store: what some keys may do below a prefix, and the policy that allows it."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winepipelines.api.sourcesecret import StoreOperation
from winepipelines.doctor.finding import Finding, failed, warning
from winepipelines.doctor.observations import BucketView

UNKNOWN_BUCKET = "NoSuchBucket"
UNKNOWN_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "HTTP 403"}
S3_ACTIONS = {StoreOperation.READ: "s3:GetObject", StoreOperation.WRITE: "s3:PutObject"}
SEAWEEDFS_ACTIONS = {StoreOperation.LIST: "List", StoreOperation.READ: "Read", StoreOperation.WRITE: "Write"}


def access_problem(view: BucketView, secret: str, otherwise: str = "") -> Finding | None:
    """Evaluate attempts to use a prefix with the keys of a Secret, which `secret` names; None if all succeeded.

    `otherwise` says what else than a policy helps where the keys are denied an operation.
    """
    if not view.codes:
        return None
    bucket, where = urlsplit(view.uri).netloc, f"{view.uri}/"
    denied = {operation: code for operation, code in view.codes.items() if code in DENIED}
    codes = ", ".join(dict.fromkeys((denied or view.codes).values()))
    if UNKNOWN_BUCKET in view.codes.values():
        return failed(Reason.BUCKET_MISSING, f"{view.endpoint} has no bucket {bucket}", f"mc mb <alias>/{bucket}")
    if not UNKNOWN_KEYS.isdisjoint(view.codes.values()):
        message = f"{view.endpoint} does not accept the keys of {secret} ({codes})"
        return failed(Reason.OBJECT_STORE_ACCESS_DENIED, message, f"Put valid keys into {secret}")
    if denied:
        message = f"{view.endpoint} denies the keys of {secret} to {_named(denied)} below {where} ({codes})"
        remedy = f"Allow these keys {policy(view.uri, denied)}"
        return failed(Reason.OBJECT_STORE_ACCESS_DENIED, message, f"{remedy}; or {otherwise}" if otherwise else remedy)
    message = (
        f"It is unknown whether the keys of {secret} may {_named(view.codes)} below {where}: {view.endpoint} answered {codes}"
    )
    return warning(message, "Check the object store's log")


def policy(uri: str, operations: Iterable[StoreOperation]) -> str:
    """Describe the policy that allows operations below an address: actions and resources of S3, and those of SeaweedFS.

    S3 answers 403 to a read of an object that does not exist unless the bucket may be listed, so reading needs both.
    """
    bucket, _, folder = uri.removeprefix("s3://").partition("/")
    objects = f"{bucket}/{folder}/*" if folder else f"{bucket}/*"
    tried = tuple(operations)
    actions = [S3_ACTIONS[operation] for operation in tried if operation in S3_ACTIONS]
    parts = [f"{' and '.join(actions)} on arn:aws:s3:::{objects}"] if actions else []
    if StoreOperation.LIST in tried or StoreOperation.READ in tried:
        parts.append(f"s3:ListBucket on arn:aws:s3:::{bucket}")
    other = ", ".join(f"{SEAWEEDFS_ACTIONS[operation]}:{objects}" for operation in tried)
    return f"{' and '.join(parts)} (SeaweedFS: {other})"


def _named(operations: Iterable[StoreOperation]) -> str:
    *others, last = operations
    return f"{', '.join(others)} and {last}" if others else str(last)
