"""Scoring a file with a model of MLflow's, on a real MLflow and a real object store: what is written, reported and refused."""

import gzip
import hashlib
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from mlflow import MlflowClient
from pipeline.scored import OWNER, body, newest, refused
from support.website import Answer, Site

from sandbox.plan import Info
from winecontract.reasons import Reason
from winecontract.tags import PREFIX, Tag
from winesteps import model, outputs, scoring, tracking
from winesteps.failures import Attempt
from winesteps.predict import Predicted
from winesteps.preprocess import preprocess
from winesteps.reading import text
from winesteps.train import Task as Training
from winesteps.train import Trained, train

pytest_plugins = ("pipeline.prediction",)


def test_every_row_is_scored_and_reported(
    score: Callable[..., Predicted], s3: Any, wine: str, expected: np.ndarray, red_wine: Path, info: Info, trained: Trained
) -> None:
    scored = score(wine)
    frame = pq.read_table(io.BytesIO(body(s3, scored.output))).to_pandas()
    assert frame["row"].tolist() == list(range(1, 1600))
    assert frame["prediction"].to_numpy() == pytest.approx(expected)
    assert list(frame.columns)[1:3] == ["fixed_acidity", "volatile_acidity"]
    assert (frame["quality"].iloc[0], frame["quality"].dtype) == (5, np.int64), "a column of numbers comes along as numbers"

    report = json.loads(body(s3, scored.report))
    assert scored.report == "s3://scores/a folder/red.parquet.report.json"
    assert (report["rows"], report["scored"], report["rejected"]) == (1599, 1599, [])
    assert report["input"]["sha256"] == hashlib.sha256(red_wine.read_bytes()).hexdigest()
    assert report["model"] == {"mlflowRun": trained.run_id, "version": trained.version}
    assert report["rowsPerSecond"] > 0

    run = newest(info)
    assert run.info.status == "FINISHED"
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items()}
    assert (tags["uid"], tags["kfp-run"]) == ("2b77", "run-2")
    assert (tags["prediction-rows"], tags["prediction-scored"], tags["prediction-rejected"]) == ("1599", "1599", "[]")
    assert (tags["prediction-output"], tags["prediction-report"]) == (scored.output, scored.report)
    assert tags["prediction-model"] == trained.run_id


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_columns_that_come_along_have_the_type_of_all_their_values(
    score: Callable[..., Predicted], s3: Any, site: Site, red_wine: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """What a column is may show late in the file: the output is then written once more."""
    monkeypatch.setattr(text, "BLOCK_BYTES", 8192)
    header, *lines = red_wine.read_text().splitlines()
    mixed = [str(number) if number < 1500 else "x" for number in range(1599)]
    decimal = [f"{number}.5" if number == 1500 else str(number) for number in range(1599)]
    late = [";".join([line, mixed[number], decimal[number], f"0{number}"]) for number, line in enumerate(lines)]
    url = site.give("/late.csv", Answer("\n".join([f"{header};mixed;decimal;code", *late]).encode()))
    scored = score(url, f"s3://scores/late.{suffix}")
    content = io.BytesIO(body(s3, scored.output))
    kept = {"mixed": str, "code": str}
    frame = pq.read_table(content).to_pandas() if suffix == "parquet" else pd.read_csv(content, sep=";", dtype=kept)
    assert frame["mixed"].tolist() == mixed
    assert frame["decimal"].tolist() == [number + 0.5 * (number == 1500) for number in range(1599)]
    assert frame["code"].tolist() == [f"0{number}" for number in range(1599)]
    assert frame["row"].tolist() == list(range(1, 1600)), "no row is written twice"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="scores", Prefix="late")


@pytest.mark.parametrize("separator", ["¦", "\t"])
def test_a_file_is_read_as_in_the_training(
    score: Callable[..., Predicted], s3: Any, site: Site, red_wine: Path, expected: np.ndarray, separator: str
) -> None:
    """Compressed, in UTF-16, with CR for line ends, decimal commas, an unnamed column and one that is dropped."""
    header, *lines = red_wine.read_text().replace('"', "").replace(".", ",").splitlines()
    written = "\r".join([f";{header};note", *(f"{number};{line};x" for number, line in enumerate(lines))]).replace(";", separator)
    url = site.give("/written.gz", Answer(gzip.compress(written.encode("utf-16"))))
    scored = score(url, "s3://scores/written.csv", separator=separator, decimal=",", columns={"drop": [1.0, "note"]})
    frame = pd.read_csv(io.BytesIO(body(s3, scored.output)), sep=separator, engine="python", encoding="utf-8")
    assert frame["prediction"].to_numpy() == pytest.approx(expected)
    assert "note" not in frame.columns
    assert frame["quality"].iloc[0] == 5


def test_parquet_is_known_by_its_content(
    score: Callable[..., Predicted], s3: Any, site: Site, red_wine: Path, expected: np.ndarray
) -> None:
    frame = pd.read_csv(red_wine, sep=";")
    frame.to_parquet(buffer := io.BytesIO())
    scored = score(site.give("/without-a-suffix", Answer(gzip.compress(buffer.getvalue()))), "s3://scores/known.parquet")
    assert pq.read_table(io.BytesIO(body(s3, scored.output)))["prediction"].to_numpy() == pytest.approx(expected)


def test_csv_comes_out_with_the_separator_that_it_came_with(
    score: Callable[..., Predicted], s3: Any, wine: str, expected: np.ndarray
) -> None:
    scored = score(wine, "s3://scores/red.csv")
    frame = pd.read_csv(io.BytesIO(body(s3, scored.output)), sep=";")
    assert frame["prediction"].to_numpy() == pytest.approx(expected)
    assert frame["row"].tolist() == list(range(1, 1600))


def test_what_was_scored_can_be_scored_again_from_the_store(
    score: Callable[..., Predicted], s3: Any, wine: str, expected: np.ndarray
) -> None:
    first = score(wine, "s3://scores/first.parquet")
    frame = pq.read_table(io.BytesIO(body(s3, first.output))).drop_columns(["row", "prediction"])
    pq.write_table(frame, buffer := io.BytesIO())
    s3.put_object(Bucket="scores", Key="in put.parquet", Body=buffer.getvalue())
    again = score("s3://scores/in put.parquet", "s3://scores/again.csv")
    assert pd.read_csv(io.BytesIO(body(s3, again.output)), sep=";")["prediction"].to_numpy() == pytest.approx(expected)


def test_rejected_rows_are_counted_and_left_out(
    score: Callable[..., Predicted], s3: Any, site: Site, red_wine: Path, expected: np.ndarray, info: Info
) -> None:
    lines = red_wine.read_bytes().splitlines()
    lines[3] = lines[3].replace(b";", b";;", 1)
    for number in range(10, 30):
        lines[number] = b"x" + lines[number][3:]
    scored = score(site.give("/bad.csv", Answer(b"\n".join(lines))), "s3://scores/bad.parquet")
    frame = pq.read_table(io.BytesIO(body(s3, scored.output))).to_pandas()
    kept = [number for number in range(1, 1600) if number != 3 and not 10 <= number < 30]
    assert frame["row"].tolist() == kept
    assert frame["prediction"].to_numpy() == pytest.approx(expected[np.array(kept) - 1])
    report = json.loads(body(s3, scored.report))
    assert report["rejected"] == [
        {"reason": "NotANumber", "rows": 20, "firstRows": list(range(10, 20))},
        {"reason": "FieldCount", "rows": 1, "firstRows": [3]},
    ]
    rejected = newest(info).data.tags["winepipelines.io/prediction-rejected"]
    assert json.loads(rejected) == [{"reason": "NotANumber", "rows": 20}, {"reason": "FieldCount", "rows": 1}]


def test_where_every_row_is_rejected_nothing_is_written(
    score: Callable[..., Predicted], s3: Any, site: Site, red_wine: Path, info: Info
) -> None:
    header = red_wine.read_bytes().splitlines()[0]
    url = site.give("/none.csv", Answer(header + b"\n" + b"x;" * 11 + b"1\n" + b"1\n" * 2))
    message = refused(Reason.ALL_ROWS_REJECTED, score, url, "s3://scores/none.parquet")
    assert message == (
        "None of the 3 rows can be scored, most for the reason FieldCount, such as row 2, 3. "
        "Line 3 has 1 value, the header has 12 columns."
    )
    tags = newest(info).data.tags
    assert tags["winepipelines.io/failure-reason"] == "AllRowsRejected"
    assert tags["winepipelines.io/failed-step"] == "predict"
    assert "winepipelines.io/prediction-output" not in tags
    with pytest.raises(ClientError):
        body(s3, "s3://scores/none.parquet")


def test_without_rows_there_is_nothing_to_score(score: Callable[..., Predicted], site: Site, red_wine: Path) -> None:
    header = red_wine.read_bytes().splitlines()[0]
    refused(Reason.TOO_FEW_ROWS, score, site.give("/empty.csv", Answer(header + b"\n\n")))


def test_the_object_appears_only_when_it_is_complete(
    score: Callable[..., Predicted], s3: Any, wine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails half way leaves what was there before, and no parts."""
    score(wine, "s3://scores/kept.csv")
    before = body(s3, "s3://scores/kept.csv")
    monkeypatch.setattr(text, "BLOCK_BYTES", 8192)
    monkeypatch.setattr(outputs, "PART_BYTES", 5 * 1024 * 1024)
    sent: list[int] = []

    def breaks(self: scoring.Sink, table: Any) -> None:
        sent.append(table.num_rows)
        if len(sent) == 3:
            raise OSError("the disk is gone")
        write(self, table)

    write = scoring.Sink.write
    monkeypatch.setattr(scoring.Sink, "write", breaks)
    refused(Reason.UNEXPECTED_ERROR, score, wine, "s3://scores/kept.csv")
    assert body(s3, "s3://scores/kept.csv") == before
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="scores", Prefix="kept.csv")


def test_an_output_of_many_parts_is_whole(
    score: Callable[..., Predicted], s3: Any, site: Site, red_wine: Path, expected: np.ndarray
) -> None:
    header, *lines = red_wine.read_bytes().splitlines()
    times = 80
    url = site.give("/long.csv", Answer(b"\n".join([header, *lines * times])))
    scored = score(url, "s3://scores/long.csv")
    head = s3.head_object(Bucket="scores", Key="long.csv")
    assert head["ETag"].strip('"').endswith("-2"), "it took two parts"
    frame = pd.read_csv(io.BytesIO(body(s3, scored.output)), sep=";")
    assert frame["prediction"].to_numpy() == pytest.approx(np.tile(expected, times))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "spelling", ["s3://scores/{}", "{endpoint}/scores/{}", "s3://scores//{}", "{endpoint}/scores/%6fwn.csv?x=1"]
)
def test_the_input_is_never_the_output(
    score: Callable[..., Predicted], s3: Any, info: Info, red_wine: Path, spelling: str, overwrite: bool
) -> None:
    s3.put_object(Bucket="scores", Key="own.csv", Body=red_wine.read_bytes())
    url = spelling.format("own.csv", endpoint=info.s3_endpoint)
    message = refused(Reason.OUTPUT_IS_SOURCE, score, url, "s3://scores/own.csv", overwrite=overwrite)
    assert message.startswith("The output s3://scores/own.csv is the input itself")
    assert body(s3, "s3://scores/own.csv") == red_wine.read_bytes()


def test_the_report_is_never_written_over_the_input(score: Callable[..., Predicted], s3: Any) -> None:
    message = refused(Reason.OUTPUT_IS_SOURCE, score, "s3://scores/in.csv.report.json", "s3://scores/in.csv", overwrite=True)
    assert message.startswith("The report s3://scores/in.csv.report.json is the input itself")


@pytest.mark.parametrize("way", ["redirect", "entity tag"])
def test_the_input_behind_another_address_is_never_the_output(
    score: Callable[..., Predicted], s3: Any, site: Site, info: Info, red_wine: Path, way: str
) -> None:
    etag = s3.put_object(Bucket="scores", Key="own.csv", Body=red_wine.read_bytes())["ETag"]
    there = s3.generate_presigned_url("get_object", {"Bucket": "scores", "Key": "own.csv"})
    answers = {
        "redirect": Answer(status=302, headers={"Location": there}),
        "entity tag": Answer(red_wine.read_bytes(), headers={"ETag": etag}),
    }
    refused(Reason.OUTPUT_IS_SOURCE, score, site.give("/wine.csv", answers[way]), "s3://scores/own.csv", overwrite=True)
    assert body(s3, "s3://scores/own.csv") == red_wine.read_bytes()


def test_the_models_training_data_is_never_the_output(
    score: Callable[..., Predicted], s3: Any, wine: str, red_wine: Path, info: Info, tmp_path: Path
) -> None:
    s3.put_object(Bucket="scores", Key="train.csv", Body=red_wine.read_bytes())
    preprocess(red_wine, tmp_path / "table")
    record = tracking.Record(info.mlflow_url, "wine", info.s3_endpoint, OWNER, "run-1")
    source = {"data_url": "s3://scores/train.csv", "data_sha256": ""}
    other = train(tmp_path / "table", Training(source=source, seed=7), record, Attempt())
    change = {"mlflow_run": other.run_id, "model_version": other.version, "overwrite": True}
    assert "the model's training data" in refused(Reason.OUTPUT_IS_SOURCE, score, wine, "s3://scores/train.csv", **change)
    assert body(s3, "s3://scores/train.csv") == red_wine.read_bytes()


def test_what_is_there_already_is_kept_unless_it_may_be_overwritten(
    score: Callable[..., Predicted], s3: Any, wine: str, red_wine: Path
) -> None:
    s3.put_object(Bucket="scores", Key="there.csv", Body=b"precious")
    refused(Reason.OUTPUT_EXISTS, score, wine, "s3://scores/there.csv")
    assert body(s3, "s3://scores/there.csv") == b"precious"
    scored = score(wine, "s3://scores/there.csv", overwrite=True)
    assert len(body(s3, scored.output).splitlines()) == 1600
    again = score(wine, "s3://scores/there.csv")
    assert again.output == scored.output, "another attempt of the same prediction"


def test_a_version_of_an_object_is_scored(score: Callable[..., Predicted], s3: Any, red_wine: Path, expected: np.ndarray) -> None:
    s3.create_bucket(Bucket="versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    lines = red_wine.read_bytes().splitlines(keepends=True)
    first = s3.put_object(Bucket="versioned", Key="wine.csv", Body=b"".join(lines))["VersionId"]
    s3.put_object(Bucket="versioned", Key="wine.csv", Body=b"".join(lines[:60]))
    scored = score(f"s3://versioned/wine.csv?versionId={first}", "s3://scores/version.csv")
    assert (scored.content["rows"], scored.content["input"]["url"]) == (1599, f"s3://versioned/wine.csv?versionId={first}")
    gone = f"s3://versioned/wine.csv?versionId={'0' * 8}-{first[9:]}"
    refused(Reason.DATA_NOT_FOUND, score, gone, "s3://scores/version.csv")


def test_what_a_killed_attempt_left_is_removed_by_the_next(
    score: Callable[..., Predicted], s3: Any, wine: str, info: Info, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, nothing of its code runs any more: the next attempt knows of the upload by MLflow."""
    monkeypatch.setattr(outputs.Upload, "abandon", lambda _: None)
    monkeypatch.setattr(outputs.Upload, "complete", lambda _: 1 / 0)
    refused(Reason.UNEXPECTED_ERROR, score, wine, "s3://scores/killed.csv")
    assert len(s3.list_multipart_uploads(Bucket="scores", Prefix="killed.csv")["Uploads"]) == 1
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", info.s3_access_key)
    score(wine, "s3://scores/killed.csv")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="scores", Prefix="killed.csv")


def test_terminated_step_leaves_nothing(
    score: Callable[..., Predicted], s3: Any, wine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs.Upload, "complete", lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        score(wine, "s3://scores/ended.csv")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="scores", Prefix="ended.csv")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"pipeline_uid": "other"}, "its uid is not other"),
        ({"model_version": "999"}, "its model-version is not 999"),
        ({"mlflow_run": "0" * 32}, "no longer in MLflow"),
    ],
)
def test_only_the_model_that_serves_is_used(score: Callable[..., Predicted], wine: str, change: Any, expected: str) -> None:
    assert expected in refused(Reason.MODEL_UNUSABLE, score, wine, **change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"model_digest": "sha256:" + "0" * 64}, Reason.MODEL_TAMPERED), ({"model_digest": ""}, Reason.MODEL_UNSIGNED)],
)
def test_only_the_model_that_was_signed_is_used(
    score: Callable[..., Predicted], wine: str, change: dict[str, str], reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "load", None)
    assert "was not loaded" in refused(reason, score, wine, **change)


def test_message_names_missing_columns(score: Callable[..., Predicted], site: Site) -> None:
    message = refused(Reason.COLUMN_MISSING, score, site.give("/few.csv", Answer(b"alcohol;ph\n1;2\n")))
    assert "There is no column 'fixed_acidity', 'volatile_acidity'" in message
    assert "which the model needs; the header has alcohol, ph." in message


@pytest.mark.parametrize("name", ["row", "prediction"])
def test_the_outputs_own_columns_are_taken(score: Callable[..., Predicted], site: Site, red_wine: Path, name: str) -> None:
    url = site.give("/taken.csv", Answer(red_wine.read_bytes().replace(b'"quality"', name.encode(), 1)))
    assert f"a column '{name}', which the output adds" in refused(Reason.DATA_INVALID, score, url)


def test_web_page_is_recognized(score: Callable[..., Predicted], site: Site) -> None:
    page = site.give("/page", Answer(b"<!doctype html><p>Sign in", headers={"Content-Type": "text/html"}))
    refused(Reason.DATA_NOT_CSV, score, page)
    refused(Reason.DATA_NOT_CSV, score, page, input_format="parquet")


@pytest.mark.parametrize(
    ("output", "reason", "expected"),
    [
        ("s3://nowhere/red.csv", Reason.OUTPUT_REJECTED, "NoSuchBucket"),
        ("s3://scores/red.txt", Reason.PARAMETERS_INVALID, "or .csv"),
        ("http://scores/red.csv", Reason.PARAMETERS_INVALID, "s3://bucket/folder"),
    ],
)
def test_an_output_that_cannot_be(score: Callable[..., Predicted], wine: str, output: str, reason: Reason, expected: str) -> None:
    assert expected in refused(reason, score, wine, output)


def test_wrong_keys_are_rejected_and_not_shown(
    score: Callable[..., Predicted], wine: str, monkeypatch: pytest.MonkeyPatch, info: Info
) -> None:
    """Only the output's store: MLflow's client has its own connection by now."""
    real = outputs.Store.__init__

    def with_other_keys(self: outputs.Store, endpoint: str, owner: outputs.Owner) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-key")
            real(self, endpoint, owner)

    monkeypatch.setattr(outputs.Store, "__init__", with_other_keys)
    message = refused(Reason.OUTPUT_REJECTED, score, wine)
    assert "SignatureDoesNotMatch" in message
    assert info.s3_secret_key not in message


def test_a_store_that_does_not_answer_may_yet(
    score: Callable[..., Predicted], wine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = outputs.Store.__init__
    monkeypatch.setattr(outputs.Store, "__init__", lambda self, _, owner: real(self, "http://127.0.0.1:9", owner))
    refused(Reason.OUTPUT_UNAVAILABLE, score, wine)
    assert not Reason.OUTPUT_UNAVAILABLE.permanent


def test_a_model_that_was_written_for_seldons_own_server_scores_alike(
    score: Callable[..., Predicted], s3: Any, wine: str, expected: np.ndarray, red_wine: Path, info: Info, tmp_path: Path
) -> None:
    preprocess(red_wine, tmp_path / "table")
    record = tracking.Record(info.mlflow_url, "wine", info.s3_endpoint, OWNER, "run-1")
    other = train(tmp_path / "table", Training(server_version="1.18.2"), record, Attempt())
    signed = MlflowClient(info.mlflow_url).get_run(other.run_id).data.tags[Tag.DIGEST]
    scored = score(wine, "s3://scores/other.csv", mlflow_run=other.run_id, model_version=other.version, model_digest=signed)
    frame = pd.read_csv(io.BytesIO(body(s3, scored.output)), sep=";")
    assert frame["prediction"].to_numpy() == pytest.approx(expected)
