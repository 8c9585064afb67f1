"""A server of Azure Blob Storage for the checks of this repository: Microsoft's own emulator, the npm package azurite, looked at
with Microsoft's own client."""

import base64
import datetime
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time

from azure.core.exceptions import AzureError
from azure.storage.blob import (AccountSasPermissions, BlobServiceClient, ContainerSasPermissions, ResourceTypes, generate_account_sas,
                                generate_container_sas)

PATIENCE = 60
ACCOUNT = "audited"
KEY = base64.b64encode(secrets.token_bytes(64)).decode()

# Of what the shell that runs this has nothing is meant for these programs.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "AUDIT_", "OTEL_"))}


class Server:
    """A server on this machine, with the same data each time it is started."""

    def __init__(self, folder, program):
        self.folder, self.program = folder, program
        self.data = folder / "azurite"
        self.data.mkdir()
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.process = self.port = None
        self.tls = []

    def start(self, is_tls=False):
        """Starts it; with TLS, if there is openssl to make a certificate."""
        if is_tls:
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                 "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
                 "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True,
            )
        tls = ["--cert", self.certificate, "--key", self.key] if is_tls else []
        for _ in range(5):
            port = random.randrange(15_000, 30_000)
            with open(self.folder / "azurite.log", "a") as log:
                self.process = subprocess.Popen(
                    ["node", self.program, "--blobPort", str(port), "--location", self.data, "--silent", "--disableTelemetry",
                     "--skipApiVersionCheck", *tls],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                    env=CLEAN | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
                )
            self.port = port
            deadline = time.monotonic() + 20
            while self.process.poll() is None and time.monotonic() < deadline:
                if self.accepts() if is_tls else self.answers():
                    return
                time.sleep(0.1)
            self.process.kill()
        raise AssertionError(f"Azurite did not start: {(self.folder / 'azurite.log').read_text()[-2000:]}")

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            return True
        except OSError:
            return False

    def answers(self):
        try:
            list(self.client(retry_total=0).list_containers())
            return True
        except AzureError:
            return False

    def stop(self):
        """It writes what it knows to its disk when it is asked to end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def give_policies(self):
        """Gives all containers a policy, as Azure's management API does, which Azurite has not; it is restarted."""
        self.stop()
        path = self.data / "__azurite_db_blob__.json"
        database = json.loads(path.read_text())
        [containers] = [collection for collection in database["collections"] if "CONTAINERS" in collection["name"]]
        for container in containers["data"]:
            container["properties"]["hasImmutabilityPolicy"] = True
        path.write_text(json.dumps(database))
        self.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def client(self, **more):
        return BlobServiceClient(self.endpoint, credential=KEY, connection_timeout=5, read_timeout=20, **more)


def sas(days=1, **rights):
    """A SAS token of the account; without rights, all that an archive needs."""
    rights = rights or {"read": True, "create": True, "write": True, "list": True}
    return generate_account_sas(
        ACCOUNT, KEY, ResourceTypes(container=True, object=True), AccountSasPermissions(**rights),
        datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days),
    )


def sas_of(container):
    """A SAS token of a container alone."""
    return generate_container_sas(
        ACCOUNT, container, account_key=KEY, permission=ContainerSasPermissions(read=True, create=True, write=True, list=True),
        expiry=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1),
    )


def environment(endpoint, **credentials):
    """The variables by which a program reaches a container; by the account's key unless credentials are given."""
    return CLEAN | {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ENDPOINT": endpoint, "AZURE_ALLOW_HTTP": "true"} | (
        credentials or {"AZURE_STORAGE_ACCOUNT_KEY": KEY}
    )


def has_openssl():
    return shutil.which("openssl") is not None
