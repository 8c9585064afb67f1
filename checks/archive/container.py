"""Holds an archive in a container of Azure Blob Storage against Microsoft's own emulator, the npm package azurite.

    container.py FOLDER PROGRAM AZURITE

FOLDER is empty, PROGRAM is tracing-audit, AZURITE the server's script for Node.js. DATABASE_URL names an empty database. What the
server holds is looked at with Microsoft's own client. scripts/archive-bucket runs this.
"""

import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

# scripts/archive-bucket has checks/archive in PYTHONPATH.
import azurite
import moves
import trail
from azurite import ACCOUNT, KEY
from faults import Network
from trail import DATABASE, execute

FOLDER, PROGRAM, AZURITE = sys.argv[1:]
FOLDER = pathlib.Path(FOLDER)
PLACE = "az://audit/trail"
# Whether what takes long, and is shown at S3 as well, is left out.
BRIEF = "ARCHIVE_BRIEF" in os.environ
REFUSED = "it does not accept the credentials, or not from here: check AZURE_STORAGE_ACCOUNT_NAME"
ALONE = {"AUDIT_DATABASE_URL": "", "DATABASE_URL": ""}


def say(text):
    print(f"archive in Azure: {text}", file=sys.stderr, flush=True)


def program(server, *arguments, expect=0, credentials=None, **more):
    """Runs the program to its end; returns what it printed. With `expect=None`, also how it ended."""
    endpoint = server if isinstance(server, str) else server.endpoint
    variables = azurite.environment(endpoint, **credentials or {}) | {"AUDIT_DATABASE_URL": DATABASE} | more
    done = subprocess.run([PROGRAM, *map(str, arguments)], env=variables, capture_output=True, text=True, timeout=azurite.PATIENCE)
    text = done.stdout + done.stderr
    assert expect in (None, done.returncode), f"{arguments} ended with {done.returncode}: {text}"
    for name in ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"]:
        secret = variables.get(name)
        if secret:
            signature = urllib.parse.parse_qs(secret).get("sig", [secret])[0]
            assert secret not in text and signature not in text and urllib.parse.quote(signature, "") not in text, f"{name} was printed"
    return text if expect is not None else (done.returncode, text)


def archive(server, place, *more, **options):
    return program(server, "archive", "--copy", "--key", FOLDER / "key", "--to", place, *more, **options)


def verify(server, place, vkey, **options):
    return program(server, "archive", "verify", place, "--key", vkey, **(ALONE | options))


def blobs(server, prefix, container="audit"):
    """The content of each blob, by its name in the archive."""
    client = server.client().get_container_client(container)
    names = [blob.name for blob in client.list_blobs(name_starts_with=prefix)]
    return {name.removeprefix(prefix): client.download_blob(name).readall() for name in names}


def main():
    server = azurite.Server(FOLDER, AZURITE)
    server.start()
    try:
        client = server.client()
        for container in ["audit", "other"]:
            client.create_container(container)
        program(server, "migrate")
        vkey = fill(server)
        nothing_is_archived_without_a_policy(server)
        archive_is_that_of_a_folder_and_verified(server, vkey)
        archive_is_read(server, vkey)
        blob_that_was_changed_or_removed_is_named(server, vkey)
        many_blobs_are_listed(server, vkey)
        credentials_are_those_of_azure_and_never_printed(server)
        policy_of_the_container_is_seen(server)
        network_that_loses_answers_doubles_nothing(server, vkey)
        records_are_in_one_place_whatever_is_killed(server, vkey)
        server_with_tls_is_reached(server, vkey)
    finally:
        server.stop()
    say("what is archived in a container is read and verified.")


def fill(server):
    """Seals days of the past with values that go wrong where somebody was careless; returns the log's verifier key."""
    trail.fill(("2026-03-14 10:00+00", 800), ("2026-03-15 23:59+00", 1000))
    vkey = program(server, "key", "new", "--name", "example.com/trail", FOLDER / "key").strip()
    program(server, "seal", "--once", "--key", FOLDER / "key")
    return vkey


def nothing_is_archived_without_a_policy(server):
    say("nothing is archived in a container without a policy, unless somebody says so")
    text = archive(server, PLACE, expect=2)
    assert f"{PLACE} has no immutability policy" in text and "--unlocked" in text, text
    for arguments in [["archive", "--copy", "--key", FOLDER / "key", "--to", PLACE, "--unlocked", "--retain-until", "2099-01-01"],
                      ["archive", "extend", PLACE, "--until", "2099-01-01"], ["archive", "holds", PLACE]]:
        text = program(server, *arguments, expect=2)
        assert f"{PLACE} is in Azure" in text and "docs/archive.md" in text, text
    assert not blobs(server, "")
    [finding] = json.loads(program(server, "doctor", "--check", "archive", "--json", "--archive", PLACE, expect=1))
    assert finding["severity"] == "problem" and finding["found"] == "the container has no immutability policy", finding
    text = archive(server, "gs://audit/trail", expect=2)
    assert "an archive is in a folder, in s3://BUCKET/PREFIX or in az://CONTAINER/PREFIX" in text, text


def archive_is_that_of_a_folder_and_verified(server, vkey):
    say("an archive in a container is that of a folder, verified, and archived once")
    archive(server, PLACE, "--unlocked")
    assert "nothing was changed" in verify(server, PLACE, vkey)
    there = blobs(server, "trail/")
    archive(server, PLACE, "--unlocked")
    assert blobs(server, "trail/") == there
    folder = FOLDER / "folder"
    archive(server, folder)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files.keys() == there.keys() and len(files) >= 24, files.keys() ^ there.keys()
    # Manifests tell when they were written.
    assert all(files[name] == there[name] for name in files if not name.endswith(".manifest"))


def archive_is_read(server, vkey):
    say("requests, filters and months are read from a container as from the database")

    def exported(name, *arguments, **more):
        file = FOLDER / name
        program(server, "export", "--format", "jsonl", "--output", file, "--until", "2026-03-17", "--purpose", "test", *arguments, **more)
        return file.read_bytes()

    for at, asked in enumerate(["", "user=NaN", "request=request+2"]):
        expected = exported(f"of-database-{at}", "--where", asked)
        found = exported(f"of-container-{at}", "--where", asked, "--archive", PLACE, "--key", vkey, "--verify", **ALONE)
        assert found == expected and expected, f"{asked}: {len(found)} bytes for {len(expected)}"
    of_database = {record["id"] for record in json.loads(program(server, "show", "request 2", "--json"))}
    shown = json.loads(program(server, "show", "request 2", "--json", "--archive", PLACE, "--key", vkey, **ALONE))
    assert {record["id"] for record in shown} == of_database and of_database, shown
    assert all(record["archived_in"].startswith("kind=") for record in shown), shown[0]
    in_archive = ["--archive", PLACE, "--key", vkey]
    found = []
    for more, variables in [([], {}), (in_archive, {}), (in_archive, ALONE)]:
        text = program(server, "find", "--json", "--since", "2026-03-01", "--until", "2026-04-01", *more, **variables)
        # That there are more is told behind it.
        listed, _ = json.JSONDecoder().raw_decode(text)
        found.append([request["request_id"] for request in listed])
    assert len(found[0]) == 50 and found[0] == found[1] == found[2], found
    program(server, "archive", "restore", PLACE, "--month", "2026-03", "--key", vkey, "--kind", "query_runs")
    missing = "SELECT id FROM audit.query_runs WHERE started_at < '2026-04-01' EXCEPT SELECT id FROM audit_restored.query_runs_2026_03"
    assert execute(missing) == []


def blob_that_was_changed_or_removed_is_named(server, vkey):
    say("a blob that was changed or removed is named")
    client = server.client().get_container_client("other")
    archive(server, "az://other", "--unlocked", "--kind", "events")
    there = blobs(server, "", "other")
    name = next(name for name in there if name.endswith(".parquet"))
    client.upload_blob(name, there[name][:-1] + b"x", overwrite=True)
    assert name in verify(server, "az://other", vkey, expect=1)
    # It is not put right either: nothing is overwritten.
    archive(server, "az://other", "--unlocked", "--kind", "events", expect=None)
    assert blobs(server, "", "other")[name] == there[name][:-1] + b"x"
    client.upload_blob(name, there[name], overwrite=True)
    other = next(name for name in there if name.endswith(".batches"))
    client.delete_blob(other)
    assert other in verify(server, "az://other", vkey, expect=1)


def many_blobs_are_listed(server, vkey):
    # Azure lists up to 5,000 at once.
    if BRIEF:
        return
    say("more blobs than a page has are listed")
    client = server.client().get_container_client("other")
    for number in range(5100):
        client.upload_blob(f"many/kind=events/month=2026-09/day=2026-09-01/{number:05}", b"")
    code, text = verify(server, "az://other/many", vkey, expect=None)
    assert code != 0 and all(f"{number:05}" in text for number in range(5100)), text[-500:]


def credentials_are_those_of_azure_and_never_printed(server):
    say("keys and SAS tokens are accepted, refused, and never printed")

    def reached(credentials, *more, place="az://audit/sas", expect=0, endpoint=server, **variables):
        arguments = ["archive", "--copy", "--kind", "events", "--key", FOLDER / "key", "--to", place]
        return program(endpoint, *arguments, *more, credentials=credentials, expect=expect, **variables)

    def token(token):
        return {"AZURE_STORAGE_SAS_TOKEN": token}

    reached(token(azurite.sas()), "--unlocked")
    reached(token("?" + azurite.sas()), "--unlocked")
    reached(token(azurite.sas_of("audit")), "--unlocked")
    reached({"AZURE_STORAGE_KEY": KEY}, "--unlocked", AZURE_STORAGE_ACCOUNT_NAME="", AZURE_STORAGE_ACCOUNT=ACCOUNT)
    wrong = azurite.base64.b64encode(b"wrong" * 8).decode()
    for credentials, place, expected in [
        ({"AZURE_STORAGE_ACCOUNT_KEY": wrong}, "az://audit/sas", REFUSED),
        (token(azurite.sas(days=-1)), "az://audit/sas", REFUSED),
        (token(azurite.sas(read=True, list=True)), "az://audit/more", "the credentials need the role Storage Blob Data Contributor"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "no base64 of anything"}, "az://audit/sas", "do not say how to reach it: object_store refuses"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": KEY}, "az://none-such/sas", "404 ContainerNotFound: create the container"),
    ]:
        for more in [["--unlocked"], []]:
            text = reached(credentials, *more, place=place, expect=2)
            if more or "Contributor" not in expected:
                assert expected in text, text
    text = reached(token(azurite.sas_of("audit")), expect=2)
    assert "the credentials need the right" in text and "SAS token of a container" in text, text
    text = reached(None, "--unlocked", expect=2, AZURE_ALLOW_HTTP="")
    assert "is reached without TLS: set AZURE_ALLOW_HTTP=true" in text, text
    text = reached(None, "--unlocked", expect=2, AZURE_STORAGE_ACCOUNT_NAME="")
    assert "AZURE_STORAGE_ACCOUNT_NAME is not set" in text, text
    text = reached(None, "--unlocked", expect=2, endpoint="http://127.0.0.1:1/audited")
    assert "cannot reach 127.0.0.1:1: " in text, text
    text = program(server, "doctor", "--check", "archive", "--archive", "az://none-such", expect=2)
    assert "ContainerNotFound" in text, text


def network_that_loses_answers_doubles_nothing(server, vkey):
    say("a network that loses answers, cuts uploads and is slow costs time, and nothing else")
    expected = blobs(server, "trail/").keys()
    faults, runs = {}, 0
    networks = 1 if BRIEF else 6
    for seed in range(networks):
        network = Network(server.port, seed)
        endpoint = f"{network.endpoint}/{ACCOUNT}"
        place = f"az://audit/network-{seed}"
        for _ in range(20):
            runs += 1
            code, text = archive(endpoint, place, "--unlocked", expect=None)
            if code == 0:
                break
            assert code == 2 and place in text, text
        else:
            raise AssertionError(f"the archive was not whole after 20 runs: {text}")
        network.server.shutdown()
        for fault, count in network.faults.items():
            faults[fault] = faults.get(fault, 0) + count
        assert blobs(server, f"network-{seed}/").keys() == expected
        assert "nothing was changed" in verify(server, place, vkey)
    say(f"{networks} archives in {runs} runs: {faults}")
    assert sum(faults.values()) if BRIEF else all(faults.values()), faults


def records_are_in_one_place_whatever_is_killed(server, vkey):
    if BRIEF:
        return
    say("each record is in the database or the container, whatever is killed")
    variables = azurite.environment(server.endpoint) | {"AUDIT_DATABASE_URL": DATABASE}
    # Azurite writes what it knows to its disk every few seconds: killed, it has lost what it said it has.
    move = moves.Move(server, PROGRAM, variables, FOLDER / "key", vkey, "az://audit/moved", ["--unlocked"], ["program", "database"])
    killed = moves.records_are_in_one_place(move)
    say(f"{sum(killed.values())} kills: {killed}")


def policy_of_the_container_is_seen(server):
    say("a policy of the container is seen")
    server.give_policies()
    archive(server, "az://audit/kept", "--kind", "events")
    assert blobs(server, "kept/")
    [finding] = json.loads(program(server, "doctor", "--check", "archive", "--json", "--archive", PLACE))
    assert finding["severity"] == "ok" and finding["found"].startswith("kept by an immutability policy"), finding


def server_with_tls_is_reached(server, vkey):
    if not azurite.has_openssl():
        say("There is no openssl here to make a certificate with.")
        return
    say("a server with TLS is reached if its certificate is trusted")
    server.stop()
    server.start(is_tls=True)
    endpoint = f"https://localhost:{server.port}/{ACCOUNT}"
    trusted = {"SSL_CERT_FILE": str(server.certificate), "AZURE_ALLOW_HTTP": ""}
    assert "nothing was changed" in verify(endpoint, PLACE, vkey, **trusted)
    text = verify(endpoint, PLACE, vkey, expect=2, AZURE_ALLOW_HTTP="")
    assert "cannot reach localhost" in text and "certificate" in text, text


main()
