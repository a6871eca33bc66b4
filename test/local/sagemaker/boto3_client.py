"""AWS's own Python client, unmodified, and its waiter, against the stand-in. Prints one JSON object of what it saw.

argv: stand-in's URL, S3's URL, folder of a training set, metric definitions as JSON.
"""
import io
import json
import sys
import tarfile
import time
from pathlib import Path

import boto3
from botocore.exceptions import ClientError, ParamValidationError, WaiterError

SAGEMAKER, S3, FOLDER, METRICS = sys.argv[1:]
BUCKET = "sagemaker-test"
PROGRESS = {"Name": "trees", "Regex": "\\[progress\\] trees=([0-9]+);"}
WAIT = {"Delay": 1, "MaxAttempts": 120}
session = boto3.Session("test", "test", region_name="us-east-1")
sagemaker = session.client("sagemaker", endpoint_url=SAGEMAKER)
s3 = session.client("s3", endpoint_url=S3)


def create(name, hyperparameters, **changes):
    return sagemaker.create_training_job(
        TrainingJobName=name,
        HyperParameters=hyperparameters,
        AlgorithmSpecification={
            "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/freshet-training:1",
            "TrainingInputMode": "File",
            "MetricDefinitions": [*json.loads(METRICS), PROGRESS],
        },
        RoleArn="arn:aws:iam::123456789012:role/training",
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": changes.pop("uri", f"s3://{BUCKET}/set/")}},
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
        **changes,
    )


def wait(name):
    """(whether the waiter was content, the job's description)"""
    try:
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=WAIT)
        content = True
    except WaiterError:
        content = False
    return content, sagemaker.describe_training_job(TrainingJobName=name)


def refused(call):
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    except ParamValidationError:
        return "ParamValidationError"
    return None


def packed(description):
    bucket, key = description["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").split("/", 1)
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return sorted(tar.getnames()), json.loads(tar.extractfile("manifest.json").read())


s3.create_bucket(Bucket=BUCKET)
for path in Path(FOLDER).iterdir():
    s3.upload_file(str(path), BUCKET, f"set/{path.name}")

QUICK = {"num_trees": "5", "num_threads": "1"}
LONG = {"num_trees": "5000", "early_stopping_rounds": "5000", "num_threads": "1", "learning_rate": "0.001"}
out = {"arn": create("job-done", QUICK)["TrainingJobArn"]}
create("job-refused", {"num_tree": "5"})
create("job-empty", QUICK, uri=f"s3://{BUCKET}/nothing/")
create("job-stopped", LONG, CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints"})
out["refused"] = {
    "int": refused(lambda: create("job-int", {"num_trees": 5})),
    "twice": refused(lambda: create("job-done", QUICK)),
    "unknown": refused(lambda: sagemaker.describe_training_job(TrainingJobName="none")),
    "uri": refused(lambda: create("job-uri", QUICK, uri="set")),
}

content, done = wait("job-done")
names, manifest = packed(done)
out["done"] = {
    "content": content,
    "status": done["TrainingJobStatus"],
    "transitions": [each["Status"] for each in done["SecondaryStatusTransitions"]],
    "metrics": {each["MetricName"]: each["Value"] for each in done["FinalMetricDataList"] if each["MetricName"] != "trees"},
    "hyperparameters": done["HyperParameters"],
    "files": names,
    "manifest_metrics": manifest["metrics"],
}
out["repeated_stop"] = refused(lambda: sagemaker.stop_training_job(TrainingJobName="job-done"))
content, failed = wait("job-refused")
out["failed"] = {"content": content, "status": failed["TrainingJobStatus"], "reason": failed["FailureReason"], "model": "ModelArtifacts" in failed}
_, empty = wait("job-empty")
out["empty"] = {"status": empty["TrainingJobStatus"], "reason": empty["FailureReason"]}

# The first tree is there.
while not sagemaker.describe_training_job(TrainingJobName="job-stopped")["FinalMetricDataList"]:
    time.sleep(0.1)
sagemaker.stop_training_job(TrainingJobName="job-stopped")
out["stopping"] = sagemaker.describe_training_job(TrainingJobName="job-stopped")["TrainingJobStatus"]
content, stopped = wait("job-stopped")
out["stopped"] = {"content": content, "status": stopped["TrainingJobStatus"], "secondary": stopped["SecondaryStatus"]}
out["stopped"]["trees"] = packed(stopped)[1]["fitted"]["trees"]
out["stopped"]["checkpoint"] = s3.list_objects_v2(Bucket=BUCKET, Prefix="checkpoints/")["KeyCount"]
listed = sagemaker.list_training_jobs(NameContains="job-", StatusEquals="Failed")["TrainingJobSummaries"]
out["listed"] = sorted(each["TrainingJobName"] for each in listed)
print(json.dumps(out))
