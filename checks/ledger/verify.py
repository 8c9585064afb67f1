#!/usr/bin/env python3
"""Holds the trail in a database against its ledger, by docs/ledger-format.md: a second verifier, which shares no code
with the library, the program and the functions in the database.

    checks/ledger/verify.py --url postgres://alice@db/app [--checkpoint FILE --key VKEY] [--tiles FOLDER]

It reads with psql, in one transaction that changes nothing, as a login that may read everything (a member of
audit_auditor, or a superuser). With a checkpoint it says whether the log is what the holder of the key has signed;
without one, only whether the database agrees with itself. --tiles names a folder with the published files.

It prints each finding on a line, then notes, and last `OK: ROWS rows, BATCHES batches, root ROOT` or how many findings
there were. The exit status is 0 if there are none, 1 if there are some, 2 if it could not look.

It keeps 56 bytes for each row, 56 for each batch and 73 for each entry in memory.
"""

import argparse
import array
import base64
import bisect
import itertools
import datetime
import hashlib
import os
import pathlib
import re
import struct
import subprocess
import sys
import uuid

import note

NULL_LENGTH = 0xFFFFFFFF
NULL_IMAGE = b"\xff\xff\xff\xff"
EMPTY_LIST = b"\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\x19"

EVERY_CORE = "id writer_id seq tenant_id parent_id agent_id llm_session_id request_id trace_id span_id service_name status "
EVERY_CONTENT = "salt user_id user_role conversation_id error_code error_message "
OF_EVENTS = (
    EVERY_CORE + "created_at latency_ms action_type",
    EVERY_CONTENT + "target_type target_id input_summary output_summary metadata problems redactions",
)
# In the order of the leaves of a batch.
TABLES = {
    "query_runs": (
        EVERY_CORE + "started_at finished_at duration_ms datasource_id row_count rows_affected",
        EVERY_CONTENT + "question_text sql_text sql_summary metadata problems redactions",
    ),
    "prompt_runs": (
        EVERY_CORE + "created_at finished_at duration_ms model_name provider prompt_template_version input_token_count output_token_count",
        EVERY_CONTENT + "prompt_template_name rendered_prompt response_text role metadata problems redactions",
    ),
    "events": OF_EVENTS,
    "activities": OF_EVENTS,
    "dead_letters": ("writer_id seq record_id kind sqlstate", "salt reason frame"),
}
DEAD_LETTERS = "dead_letters"

READING_RIGHTS = """SELECT s.rolsuper OR s.rolbypassrls OR pg_has_role('audit_auditor', 'USAGE') FROM pg_roles s WHERE s.rolname = current_user"""
SPANS = "SELECT writer_id, first_seq, last_seq, committed_at FROM audit.batches ORDER BY writer_id, first_seq"
REMOVALS = "SELECT writer_id, batch, from_leaf, rows, hashes FROM audit.removals WHERE batch IS NOT NULL ORDER BY from_leaf"
ERASURES = "SELECT table_name, id, writer_id, seq, content_hash, remaining_hash, cardinality(fields) = 0 FROM audit.erasures ORDER BY number"
ENTRY_COLUMNS = """b.writer_id, b.first_seq, b.last_seq, b.records, b.dead_letters, b.first_id, b.last_id, b.mark,
    b.service_name, b.library_version, b.committed_at, b.added_by, l.root, l.previous""".split(",")
REGISTRATION_COLUMNS = "w.writer_id, w.login, w.secret_sha256, w.service_name, w.registered_at".split(",")
OTHER_COLUMNS = "l.index, l.entry_hash, l.fingerprints, b.root, b.fingerprints".split(",")
BATCHES = f"""SELECT {', '.join(ENTRY_COLUMNS + REGISTRATION_COLUMNS + OTHER_COLUMNS)}
    FROM audit.batches b LEFT JOIN audit.ledger l ON l.writer_id = b.writer_id AND l.first_seq = b.first_seq
    LEFT JOIN audit.writers w ON w.writer_id = b.writer_id ORDER BY b.writer_id, b.first_seq"""
ENTRY_COUNT = "SELECT count(*) FROM audit.ledger"
ENTRY_HASHES = """SELECT l.index, l.entry_hash, l.writer_id, l.first_seq, EXISTS (SELECT FROM audit.batches b WHERE b.writer_id = l.writer_id AND b.first_seq = l.first_seq)
    FROM audit.ledger l ORDER BY l.index"""
NODES = "SELECT level, index, hash FROM audit.ledger_nodes ORDER BY level, index"


class CannotLook(Exception):
    """The database, or a file, cannot be read."""


def sha256(data):
    return hashlib.sha256(data).digest()


def number(field):
    return int.from_bytes(field[4:], "big", signed=True)


def value(field):
    return None if field == NULL_IMAGE else field[4:]


class Database:
    """The answers to queries that one psql runs in one transaction, in their order."""

    def __init__(self, url, queries):
        command = ["psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", url,
                   "-c", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "-c", "SET LOCAL search_path = pg_catalog"]
        for query in queries:
            command += ["-c", f"COPY ({query}) TO STDOUT (FORMAT binary)"]
        command += ["-c", "COMMIT"]
        environment = dict(os.environ, PGCLIENTENCODING="UTF8")
        try:
            self.psql = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=1 << 20)
        except OSError as error:
            raise CannotLook(f"psql: {error}") from None

    def take(self, count):
        data = self.psql.stdout.read(count)
        if len(data) != count:
            raise CannotLook("psql ended before the last row")
        return data

    def rows(self):
        """Yields the rows of the next query, each a list of field images."""
        take = self.take
        if take(11) != b"PGCOPY\n\xff\r\n\0":
            raise CannotLook("psql printed something else than rows")
        take(4)
        take(int.from_bytes(take(4), "big"))
        while (count := int.from_bytes(take(2), "big")) != 0xFFFF:
            row = []
            for _ in range(count):
                head = take(4)
                length = int.from_bytes(head, "big")
                row.append(head if length in (0, NULL_LENGTH) else head + take(length))
            yield row

    def end(self):
        if self.psql.stdout.read(1) or self.psql.wait() != 0:
            raise CannotLook("psql failed")


def tree_root(hashes):
    """Returns the root of the Merkle tree (RFC 6962, 2.1) over hashes of leaves."""
    return root_of((1, leaf) for leaf in hashes)


def root_of(parts):
    """Returns the root of a tree of full subtrees: the width and the hash of each, from the left."""
    # Roots of full subtrees, the widest first, with their widths.
    subtrees = []
    for width, node in parts:
        while subtrees and subtrees[-1][0] == width:
            node = sha256(b"\x01" + subtrees.pop()[1] + node)
            width *= 2
        subtrees.append((width, node))
    if not subtrees:
        return sha256(b"")
    root = subtrees.pop()[1]
    while subtrees:
        root = sha256(b"\x01" + subtrees.pop()[1] + root)
    return root


def day_of(record_id):
    """Returns the day of a record's id in UTC, counted from 1970-01-01."""
    return int.from_bytes(record_id[:6], "big") // 86_400_000


def list_image(field):
    """Returns the image of a list of texts. Postgres may still mark a list that has no NULL any more as one that has."""
    if field[8:12] != b"\0\0\0\x01":
        return field
    position = 16 + 8 * int.from_bytes(field[4:8], "big")
    while position < len(field):
        length = int.from_bytes(field[position:position + 4], "big")
        if length == NULL_LENGTH:
            return field
        position += 4 + length
    return field[:8] + b"\0\0\0\0" + field[12:]


def blank(table):
    """Returns the content of a row when all of it was erased."""
    empty = {"salt": bytes(4), "metadata": b"\0\0\0\x03\x01{}", "problems": EMPTY_LIST, "redactions": EMPTY_LIST}
    return [empty.get(column, NULL_IMAGE) for column in TABLES[table][1].split()]


def hash_row(table, core, content, content_hash=None):
    """Returns the hash of a row as a leaf of its batch's tree, and that of its content, which may be known from before an erasure."""
    content_hash = content_hash or sha256(b"".join(content))
    name = table.encode()
    return sha256(b"\x00\x01" + len(name).to_bytes(4, "big") + name + b"".join(core) + content_hash), content_hash


class Rows:
    """The hashes of all rows, those of a batch chained to each other."""

    RECORD = struct.Struct(">32s4sIqq")

    def __init__(self):
        self.records = bytearray()

    def __len__(self):
        return len(self.records) // self.RECORD.size

    def append(self, leaf, content_hash, order, seq, before):
        """Adds a row and returns its place; `before` is that of another row of its batch, or -1."""
        self.records += self.RECORD.pack(leaf, content_hash[:4], order, seq, before)
        return len(self) - 1

    def of_batch(self, place):
        """Returns the rows of a batch as (order, seq, leaf, start of the content's hash), in the order of its tree."""
        rows = []
        while place >= 0:
            leaf, content, order, seq, place = self.RECORD.unpack_from(self.records, place * self.RECORD.size)
            rows.append((order, seq, leaf, content))
        rows.sort()
        return rows


class Batches:
    """Where the batches are in the sequences of their writers, in the order of writer and first_seq."""

    def __init__(self, rows):
        self.writers = bytearray()
        self.first, self.last, self.committed = array.array("q"), array.array("q"), array.array("q")
        for writer, first, last, committed in rows:
            self.writers += writer[4:]
            self.first.append(number(first))
            self.last.append(number(last))
            self.committed.append(number(committed))
        # The newest row that was found of each, and how many retention has removed.
        self.newest_row = array.array("q", [-1]) * len(self.first)
        self.removed = array.array("q", [0]) * len(self.first)
        self.latest = 0

    def __len__(self):
        return len(self.first)

    def writer(self, batch):
        return bytes(self.writers[16 * batch:16 * batch + 16])

    def name(self, batch):
        return name_batch(self.writer(batch), self.first[batch])

    def has(self, batch, writer, seq):
        return self.first[batch] <= seq <= self.last[batch] and self.writer(batch) == writer

    def find(self, writer, seq):
        """Returns the batch that a seq of a writer is of; None if there is none."""
        if len(self) and not self.has(self.latest, writer, seq):
            above = bisect.bisect_right(range(len(self)), (writer, seq), key=lambda b: (self.writer(b), self.first[b]))
            self.latest = max(above - 1, 0)
        return self.latest if len(self) and self.has(self.latest, writer, seq) else None


def name_batch(writer, first):
    return f"batch {uuid.UUID(bytes=writer)}/{first}"


class Verifier:
    def __init__(self):
        self.findings = 0
        self.rows = Rows()
        self.batches = None
        # The hashes of the entries by their index; those that are missing are None.
        self.log = []
        # The entries of the writer at hand so far, by first_seq: (index, hash).
        self.earlier = []
        self.sealed = self.unsealed = self.thinned = 0
        # What retention removed of batches: (from_leaf, rows, hashes); and of erased rows, by table, id, writer and seq, the first and the last content hash, and whether all was erased.
        self.ranges, self.erased = {}, {}

    def find(self, text):
        self.findings += 1
        print(text)

    # The rows

    def read_rows(self, table, rows):
        core, content = (len(columns.split()) for columns in TABLES[table])
        place = list(TABLES).index(table)
        writer_at = TABLES[table][0].split().index("writer_id")
        for fields in rows:
            writer, seq = fields[writer_at][4:], number(fields[writer_at + 1])
            of_content = fields[core:core + content]
            day = 0
            if table != DEAD_LETTERS:
                day = day_of(fields[0][4:])
                of_content[-2:] = [list_image(of_content[-2]), list_image(of_content[-1])]
            batch = self.batches.find(writer, seq)
            if batch is None:
                self.find(f"row {uuid.UUID(bytes=writer)}/{seq} in {table}: no batch counts it")
                continue
            if table == DEAD_LETTERS and number(fields[-1]) != self.batches.committed[batch]:
                self.find(f"row {uuid.UUID(bytes=writer)}/{seq} in {table}: its created_at is not its batch's committed_at")
            erased = self.erased.get((table, fields[0][4:], writer, seq)) if table != DEAD_LETTERS else None
            if erased and (sha256(b"".join(of_content)) != erased[1] or erased[2] and of_content != blank(table)):
                self.find(f"row {uuid.UUID(bytes=writer)}/{seq} in {table}: its content is not what an erasure left")
            leaf, content_hash = hash_row(table, fields[:core], of_content, erased and erased[0])
            self.batches.newest_row[batch] = self.rows.append(leaf, content_hash, place << 24 | day, seq, self.batches.newest_row[batch])

    def read_removals(self, rows):
        for writer, first, from_leaf, count, hashes in rows:
            batch = self.batches.find(writer[4:], number(first))
            if batch is not None:
                self.batches.removed[batch] += number(count)
                self.ranges.setdefault(batch, []).append((number(from_leaf), number(count), hashes[4:]))

    def read_erasures(self, rows):
        for table, id_, writer, seq, content_hash, remaining_hash, is_whole in rows:
            # Rows of two tables may have one id.
            row = (table[4:].decode(), id_[4:], writer[4:], number(seq))
            first, _, was_whole = self.erased.get(row, (content_hash[4:], None, False))
            self.erased[row] = (first, remaining_hash[4:], was_whole or is_whole[4:] == b"\x01")

    # The entries

    def read_log(self, count, rows):
        self.log = [None] * count
        for index, entry_hash, writer, first, has_batch in rows:
            place = number(index)
            if place >= count:
                self.find(f"entry {place}: the log has only {count} entries")
                continue
            self.log[place] = entry_hash[4:]
            if has_batch[4:] != b"\x01":
                self.find(f"entry {place}: {name_batch(writer[4:], number(first))} is missing")
        for place, entry_hash in enumerate(self.log):
            if entry_hash is None:
                self.find(f"entry {place} is missing")

    def read_batches(self, rows):
        for batch, fields in enumerate(rows):
            entry, fields = fields[:len(ENTRY_COLUMNS)], fields[len(ENTRY_COLUMNS):]
            registration, fields = fields[:len(REGISTRATION_COLUMNS)], fields[len(REGISTRATION_COLUMNS):]
            index, entry_hash, sealed_prints, added_root, added_prints = fields
            is_sealed = index != NULL_IMAGE
            if batch == 0 or self.batches.writer(batch) != self.batches.writer(batch - 1):
                self.earlier = []
                expected = 1
            else:
                expected = self.batches.last[batch - 1] + 1
            if self.batches.first[batch] != expected:
                self.find(f"{self.batches.name(batch)}: the batch that ends with {self.batches.first[batch] - 1} is missing")
            root = entry[-2] if is_sealed else added_root
            if is_sealed and NULL_IMAGE != added_root != root:
                self.find(f"{self.batches.name(batch)}: its root is not the one that was sealed")
            prints = added_prints if sealed_prints == NULL_IMAGE else sealed_prints
            self.check_rows(batch, is_sealed, value(root), value(prints))
            if is_sealed:
                self.sealed += 1
                self.check_entry(batch, entry, registration, number(index), entry_hash[4:])
            else:
                self.unsealed += 1

    def check_entry(self, batch, fields, registration, index, entry_hash):
        previous = next((hash_ for place, hash_ in reversed(self.earlier) if place < index), None)
        if value(fields[-1]) != previous:
            self.find(f"{self.batches.name(batch)}: its entry does not name the one before of its writer")
        is_first = self.batches.first[batch] == 1
        registered = sha256(b"".join(registration)) if is_first and registration[0] != NULL_IMAGE else None
        image = NULL_IMAGE if registered is None else b"\0\0\0\x20" + registered
        if sha256(b"\x00\x01" + b"".join(fields) + image) != entry_hash:
            self.find(f"{self.batches.name(batch)}: it or its writer is not what entry {index} was made of")
        self.earlier.append((index, entry_hash))

    def check_rows(self, batch, is_sealed, root, prints):
        rows = self.rows.of_batch(self.batches.newest_row[batch])
        first, last, name = self.batches.first[batch], self.batches.last[batch], self.batches.name(batch)
        missing = last - first + 1 - len({seq for _, seq, _, _ in rows})
        if len(rows) + missing != last - first + 1:
            self.find(f"{name}: several rows have the same number")
            return
        if missing:
            if missing == self.batches.removed[batch]:
                self.thinned += 1
                if root is not None and root_of(thinned([leaf for _, _, leaf, _ in rows], self.ranges[batch])) != root:
                    self.find(f"{name}: its rows, and what stands for those that were removed, are not those of its root")
            else:
                self.find(f"{name}: {missing} of its {last - first + 1} rows are missing; retention removed {self.batches.removed[batch]}")
            return
        if root is None:
            # Not sealed yet, or sealed when its rows were not all there.
            if is_sealed:
                self.find(f"{name}: it was sealed without its rows, which are there")
            return
        recomputed = b"".join(leaf[:4] + content for _, _, leaf, content in rows)
        if tree_root(leaf for _, _, leaf, _ in rows) != root:
            self.find(f"{name}: its rows are not those of its root" + self.differing(rows, recomputed, prints))
        elif prints is not None and prints != recomputed:
            self.find(f"{name}: its fingerprints are not those of its rows")

    @staticmethod
    def differing(rows, recomputed, prints):
        """Says which rows differ by their fingerprints, which prove nothing."""
        if prints is None or len(prints) != len(recomputed):
            return ""
        told = []
        for at, (_, seq, _, _) in enumerate(rows):
            ours, theirs = recomputed[8 * at:8 * at + 8], prints[8 * at:8 * at + 8]
            if ours != theirs:
                told.append(f"{seq} ({'content' if ours[4:] != theirs[4:] else 'core'})")
        more = f" and {len(told) - 10} more" if len(told) > 10 else ""
        return f"; by the fingerprints, of seq {', '.join(told[:10])}{more}" if told else ""

    # The tree

    def root_at(self, size):
        return tree_root(self.log[:size])

    def check_nodes(self, rows):
        expected = dict(self.full_subtrees())
        for level, index, node in rows:
            if expected.pop((number(level), number(index)), None) != node[4:]:
                self.find(f"node {number(index)} of level {number(level)} is not that of the entries")
        for level, index in expected:
            self.find(f"node {index} of level {level} is missing")

    def full_subtrees(self):
        """Yields ((level, index), hash) of each full subtree of 256^level entries."""
        level, hashes = 1, self.log
        while len(hashes) >= 256:
            hashes = [tree_root(hashes[start:start + 256]) for start in range(0, len(hashes) // 256 * 256, 256)]
            for index, node in enumerate(hashes):
                yield (level, index), node
            level += 1

    def check_checkpoint(self, checkpoint):
        if checkpoint.size > len(self.log):
            self.find(f"the checkpoint is of {checkpoint.size} entries, the log has {len(self.log)}")
        elif self.root_at(checkpoint.size) != checkpoint.root:
            self.find(f"the first {checkpoint.size} entries are not those of the checkpoint")

    # The published files

    def check_tiles(self, folder, size):
        levels = [self.log]
        while len(levels[-1]) >= 256:
            below = levels[-1]
            levels.append([tree_root(below[start:start + 256]) for start in range(0, len(below) // 256 * 256, 256)])
        for path in sorted(p for p in (folder / "tile").rglob("*") if p.is_file()):
            self.check_tile(path, path.relative_to(folder).as_posix(), levels)
        for name in expected_tiles(size):
            if not (folder / name).is_file() and not (folder / name.split(".p/")[0]).is_file():
                self.find(f"{name} is missing")

    def check_tile(self, path, name, levels):
        match = re.fullmatch(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", name)
        index = int(re.sub("[x/]", "", match[2])) if match else 0
        width = int(match[3] or 256) if match else 0
        if not match or match[2] != tile_path(index) or match[3] and width > 255:
            self.find(f"{name} is no file of a log")
            return
        level = 0 if match[1] == "entries" else int(match[1])
        hashes = levels[level][index * 256:index * 256 + width] if level < len(levels) else []
        if len(hashes) < width:
            self.find(f"{name} is of more entries than the log has")
            return
        data = path.read_bytes()
        if match[1] == "entries":
            is_same = [sha256(b"\x00" + entry) for entry in split_bundle(data)] == hashes
        else:
            is_same = data == b"".join(hashes)
        if not is_same:
            self.find(f"{name} is not of the entries in the database")


def thinned(leaves, ranges):
    """Yields the subtrees of a tree of which some ranges of leaves are known by their full subtrees alone, with their widths."""
    rest, at = iter(leaves), 0
    for start, count, hashes in ranges:
        for leaf in itertools.islice(rest, max(0, start - at)):
            yield 1, leaf
        at = start
        for place in range(0, len(hashes), 32):
            width = 1
            while at % (2 * width) == 0 and at + 2 * width <= start + count:
                width *= 2
            yield width, hashes[place:place + 32]
            at += width
    for leaf in rest:
        yield 1, leaf


def split_bundle(data):
    entries = []
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position:position + 2], "big")
        entry = data[position + 2:position + 2 + length]
        # A cut entry is none of the log's.
        entries.append(entry if len(entry) == length else b"")
        position += 2 + length
    return entries


def tile_path(index):
    parts = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        parts.insert(0, f"x{index % 1000:03}")
    return "/".join(parts)


def expected_tiles(size):
    """Yields the names of the files of a log of so many entries."""
    level, width = 0, size
    while width:
        for kind in [str(level)] + (["entries"] if level == 0 else []):
            for index in range(width // 256):
                yield f"tile/{kind}/{tile_path(index)}"
            if width % 256:
                yield f"tile/{kind}/{tile_path(width // 256)}.p/{width % 256}"
        level, width = level + 1, width // 256


def queries():
    yield READING_RIGHTS
    yield SPANS
    yield REMOVALS
    yield ERASURES
    for table, (core, content) in TABLES.items():
        more = " created_at" if table == DEAD_LETTERS else ""
        yield f"SELECT {', '.join((core + ' ' + content + more).split())} FROM audit.{table}"
    yield ENTRY_COUNT
    yield ENTRY_HASHES
    yield BATCHES
    yield NODES


def verify(arguments):
    checkpoint = None
    if arguments.checkpoint:
        checkpoint = note.open_checkpoint(arguments.checkpoint.read_bytes(), arguments.key)
    verifier = Verifier()
    database = Database(arguments.url, queries())
    if [row[0][4:] for row in database.rows()] != [b"\x01"]:
        raise CannotLook("this login may not read everything: use a member of audit_auditor")
    verifier.batches = Batches(database.rows())
    verifier.read_removals(database.rows())
    verifier.read_erasures(database.rows())
    for table in TABLES:
        verifier.read_rows(table, database.rows())
    count = number(next(iter(list(database.rows())))[0])
    verifier.read_log(count, database.rows())
    verifier.read_batches(database.rows())
    if None in verifier.log:
        for _ in database.rows():
            pass
    else:
        verifier.check_nodes(database.rows())
    database.end()
    if None not in verifier.log:
        if checkpoint:
            verifier.check_checkpoint(checkpoint)
        if arguments.tiles:
            verifier.check_tiles(arguments.tiles, checkpoint.size if checkpoint else 0)
    return verifier, checkpoint


def notes(verifier, checkpoint):
    if verifier.unsealed:
        yield f"not sealed yet: {verifier.unsealed} batches"
    if verifier.thinned:
        yield f"without rows that retention has removed: {verifier.thinned} batches"
    if checkpoint is None:
        yield "without a checkpoint from elsewhere, only the database's agreement with itself is known"
    else:
        at = "at an unknown time"
        if checkpoint.signed_at is not None:
            at = f"at {datetime.datetime.fromtimestamp(min(checkpoint.signed_at, 253402300799), datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        yield f"the checkpoint, signed {at}, has {checkpoint.size} of {len(verifier.log)} entries"


def main():
    parser = argparse.ArgumentParser(description="Holds the trail in a database against its ledger (docs/ledger-format.md).")
    parser.add_argument("--url", required=True, help="the database, as psql takes it")
    parser.add_argument("--checkpoint", type=pathlib.Path, metavar="FILE", help="a checkpoint that was published")
    parser.add_argument("--key", metavar="VKEY", help="the verifier key of the log, NAME+ID+BASE64")
    parser.add_argument("--tiles", type=pathlib.Path, metavar="FOLDER", help="the folder with the published files")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.key is None):
        parser.error("--checkpoint and --key go together")
    try:
        verifier, checkpoint = verify(arguments)
    except (CannotLook, OSError, ValueError, OverflowError, struct.error) as error:
        print(f"cannot look: {error}", file=sys.stderr)
        return 2
    except note.KeyFault as error:
        print(f"cannot look: {error}", file=sys.stderr)
        return 2
    except note.NoteError as error:
        print(error)
        return 1
    for text in notes(verifier, checkpoint):
        print(f"note: {text}")
    if verifier.findings:
        print(f"{verifier.findings} {'finding' if verifier.findings == 1 else 'findings'}")
        return 1
    root = base64.b64encode(verifier.root_at(len(verifier.log))).decode()
    print(f"OK: {len(verifier.rows)} rows, {verifier.sealed} batches, root {root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
