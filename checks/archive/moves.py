"""Moves a trail from the database into a bucket while the program, the bucket's server and Postgres are killed."""

import json
import os
import random
import signal
import subprocess
import time

import seaweed
import trail

# How often something is killed.
ROUNDS = int(os.environ.get("ARCHIVE_KILL_ROUNDS", "6"))
REQUESTS = [f"request {number}" for number in range(8)]


class Move:
    """What is asked for: the bucket's server, the program, the database, the log's keys, where to, and what is killed."""

    def __init__(self, server, binary, variables, key, vkey, place, more, victims):
        self.server, self.binary, self.variables, self.key, self.vkey = server, binary, variables, key, vkey
        self.place, self.more = place, more
        self.random = random.Random()
        self.killed = dict.fromkeys(victims, 0)

    def command(self):
        return [self.binary, "archive", "--after", "90 days", "--yes", "--key", self.key, "--to", self.place, *self.more]

    def show(self, request):
        """The ids of a request's records, by their kinds; each once."""
        arguments = ["show", request, "--json", "--key", self.vkey, "--archive", self.place]

        def ask():
            done = subprocess.run(
                [self.binary, *arguments], env=self.variables, capture_output=True, text=True, timeout=seaweed.PATIENCE
            )
            # A server that has just been started does not have all of its volumes yet.
            return None if " answered 500 " in done.stderr else done

        done = seaweed.wait_until("the server has its objects", ask)
        assert done.returncode == 0, f"{request}: {done.returncode}: {done.stderr}"
        shown = [(record["kind"], record["id"]) for record in json.loads(done.stdout)]
        assert len(shown) == len(set(shown)), f"a record of {request} is shown twice"
        return set(shown)

    def expect_all(self, all_records):
        for request in REQUESTS:
            shown = self.show(request)
            assert shown == all_records[request], f"{request}: {all_records[request] ^ shown} are lost, or more than there were"

    def kill_something(self, running):
        victim = self.random.choice(list(self.killed))
        self.killed[victim] += 1
        if victim == "program":
            running.kill()
        elif victim == "storage":
            self.server.stop()
            time.sleep(self.random.random() / 2)
            self.server.start()
        else:
            kill_postgres()
        running.wait()


def kill_postgres():
    """Kills a session. The server ends all others once it knows of it, and reads its log again."""
    victim, other = trail.connect(), trail.connect()
    [[session]] = victim.execute_simple("SELECT pg_backend_pid()").rows
    os.kill(session, signal.SIGKILL)
    seaweed.wait_until("Postgres ends its sessions", lambda: not trail.answers(other))
    seaweed.wait_until("Postgres answers", trail.answers)


def records_are_in_one_place(move):
    for at in ["2026-01-05 12:00+00", "2026-01-31 23:59:58+00", "2026-02-20 08:00+00"]:
        trail.execute(f"CALL fill('{at}', 300)")
    # What other checks have held.
    trail.execute("SELECT audit.lift_hold(h.id, 'over') FROM audit.legal_holds h WHERE h.id NOT IN (SELECT hold_id FROM audit.legal_hold_lifts)")
    subprocess.run([move.binary, "seal", "--once", "--key", move.key], env=move.variables, check=True, capture_output=True)
    tables = [("query_run", "query_runs"), ("prompt_run", "prompt_runs"), ("event", "events"), ("event", "activities")]
    every = " UNION ALL ".join(f"SELECT '{kind}', id::text, request_id FROM audit.{table}" for kind, table in tables)
    all_records = {request: set() for request in REQUESTS}
    for kind, record, request in trail.execute(every):
        if request in all_records:
            all_records[request].add((kind, record))
    assert all(len(records) > 8 for records in all_records.values()), all_records
    for _ in range(ROUNDS):
        running = subprocess.Popen(move.command(), env=move.variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(move.random.random() * 3)
        move.kill_something(running)
        move.expect_all(all_records)
    done = subprocess.run(move.command(), env=move.variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    move.expect_all(all_records)
    left = trail.execute("SELECT count(*) FROM audit.query_runs WHERE started_at < '2026-04-01Z'")
    assert left == [(0,)], left
    subprocess.run([move.binary, "seal", "--once", "--key", move.key], env=move.variables, check=True, capture_output=True)
    for command in [["verify", "--key", move.vkey], ["archive", "verify", move.place, "--key", move.vkey]]:
        done = subprocess.run([move.binary, *command], env=move.variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return move.killed
