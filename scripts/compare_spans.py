#!/usr/bin/env python3
"""Holds the spans that a collector got against the rows in Postgres: each row has its span, each column its attribute,
and there is nothing else.

    scripts/compare_spans.py rows.jsonl spans.jsonl

The rows are as scripts/spans reads them: an object with the columns of each, its table, and its times in microseconds
since 1970. The spans are as scripts/spans_of_log.py writes them. The export had its default settings, so that no
content went out.

Prints how much was compared, and the first differences by ids and names, never by content. The exit status is 1 if
there are any.

The names are written out here once more, from the semantic conventions, so that src/sink/otlp/conventions.rs is held
against those and not against itself.
"""

import collections
import hashlib
import json
import re
import sys
import uuid

SHOWN = 20

# Shorter pieces of content are in ids by chance. Each attribute is held against its column anyway.
SHORTEST = 8

MADE_OF_SQL = ("db.query.text", "db.query.summary")


# The attribute of each column, and what makes its value of the column's. An empty column has no attribute.
EVERY_KIND = {
    "id": ("audit.record.id", str),
    "parent_id": ("audit.record.parent_id", str),
    "seq": ("audit.record.seq", int),
    "status": ("audit.status", str),
    "tenant_id": ("audit.tenant.id", str),
    "request_id": ("audit.request.id", str),
    "user_id": ("user.id", str),
    "user_role": ("user.roles", lambda role: [role]),
    "agent_id": ("gen_ai.agent.id", str),
    "llm_session_id": ("audit.llm_session.id", str),
    "conversation_id": ("gen_ai.conversation.id", str),
    "problems": ("audit.problems", list),
    "redactions": ("audit.redactions", list),
}
OF_TABLE = {
    "query_runs": {
        "datasource_id": ("audit.datasource.id", str),
        "row_count": ("db.response.returned_rows", int),
        "rows_affected": ("audit.rows_affected", int),
    },
    "prompt_runs": {
        "model_name": ("gen_ai.request.model", str),
        "provider": ("gen_ai.provider.name", str),
        "prompt_template_name": ("gen_ai.prompt.name", str),
        "prompt_template_version": ("gen_ai.prompt.version", str),
        "role": ("audit.prompt.role", str),
        "input_token_count": ("gen_ai.usage.input_tokens", int),
        "output_token_count": ("gen_ai.usage.output_tokens", int),
    },
    "events": {
        "action_type": ("audit.action.type", str),
        "target_type": ("audit.target.type", str),
        "target_id": ("audit.target.id", str),
    },
}
# Content, which goes out only when asked for.
CONTENT = {
    "question_text",
    "rendered_prompt",
    "response_text",
    "input_summary",
    "output_summary",
    "error_message",
}
# Columns that are elsewhere in the span, or looked at below.
ELSEWHERE = {
    *("trace_id", "span_id", "service_name", "writer_id"),
    *("started_at", "created_at", "finished_at", "duration_ms", "latency_ms"),
    *("sql_text", "sql_summary", "error_code", "metadata"),
    # What keeps a hash of the row from being guessed goes nowhere.
    "salt",
    # What scripts/spans adds.
    *("table", "start_us", "end_us"),
}
KINDS = {"query_runs": "query_run", "prompt_runs": "prompt_run", "events": "event"}
# Fields without a column have the conventions' name already, or one of ours.
CONVENTIONAL = ("db.", "gen_ai.", "server.", "network.")
PLAIN_TEXT = ("tenant_key", "db.system.name", "gen_ai.operation.name", "gen_ai.request.", "gen_ai.response.", "server.")
SDK = {"telemetry.sdk.name": "tracing-audit", "telemetry.sdk.language": "rust"}
# The GenAI conventions have a schema of their own, or none yet.
SCHEMA = re.compile(r"https://opentelemetry\.io/schemas/1\.\d+\.\d+")
GEN_AI_SCHEMA = re.compile(r"(https://opentelemetry\.io/schemas/gen-ai\S*)?")

SQL = re.compile(
    r"""
      (?P<space> \s+ )
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<literal>
          E'(?: [^'\\] | '' | \\. )*'
        | (?: [NBX] | U& )? '(?: [^'] | '' )*'
        | \$(?P<tag> \w* )\$ .*? \$(?P=tag)\$
        | (?: \d+ \.? \d* | \. \d+ ) (?: e [+-]? \d+ )? \w*
        | \b (?: true | false ) \b )
    | (?P<quoted> "(?: [^"] | "" )*" )
    | (?P<word> [^\W\d] [\w$]* )
    | (?P<other> \$\d+ | . )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def tokens(sql):
    """The kind and the text of each token, but for white space."""
    return [(found.lastgroup, found[0]) for found in SQL.finditer(sql) if found.lastgroup != "space"]


def unsigned(texts, number):
    """Without the signs before a number, since a sign may be a part of it."""
    return [text for text, after in zip(texts, texts[1:] + [""]) if not (text in "+-" and after == number)]


def is_sanitized(shown, sql):
    """Whether `shown` is the statement with `?` for each literal and without comments, and otherwise as it was."""
    whole = [("?" if kind == "literal" else text, kind) for kind, text in tokens(sql) if kind != "comment"]
    wanted = unsigned([text for text, _ in whole], "?")
    given = unsigned([text for _, text in tokens(shown)], "?")
    # Not every database takes what is in double quotes for a name.
    quoted = {text for text, kind in whole if kind == "quoted"}
    return len(wanted) == len(given) and all(w == g or (w in quoted and g == "?") for w, g in zip(wanted, given))


def is_summary(summary, sql):
    """Whether `summary` has the operations and names of the statement in its order, and nothing else."""
    said = [text for _, text in tokens(summary) if text != "."]
    words = [text for kind, text in tokens(sql) if kind in ("word", "quoted")]
    rest = iter(words)
    selects = [sum(text.upper() == "SELECT" for text in texts) for texts in (said, words)]
    return 0 < len(summary.encode()) <= 255 and all(text in rest for text in said) and selects[0] == selects[1]


def is_present(value):
    return value not in (None, "", [])


def of_columns(row):
    """The attributes that the row's columns ask for."""
    asked = {}
    for column, (name, form) in {**EVERY_KIND, **OF_TABLE[row["table"]]}.items():
        if is_present(row[column]):
            asked[name] = form(row[column])
    for name, value in row["metadata"].items():
        # Text goes out by the conventions' names alone.
        if is_present(value) and (not isinstance(value, str) or name.startswith(PLAIN_TEXT)):
            asked[name if name.startswith(CONVENTIONAL) else f"audit.metadata.{name}"] = value
    asked["audit.record.kind"] = KINDS[row["table"]]
    if row["table"] == "query_runs":
        asked.setdefault("db.system.name", "other_sql")
    if row["table"] == "prompt_runs":
        asked.setdefault("gen_ai.operation.name", "chat")
    if row["status"] != "failed" and row["error_code"]:
        asked["audit.error.code"] = row["error_code"]
    if row["status"] == "failed":
        asked["error.type"] = row["error_code"] or "_OTHER"
        if row["table"] == "query_runs" and row["error_code"]:
            asked["db.response.status_code"] = row["error_code"]
    return asked


def name_of(row, attributes):
    if row["table"] == "query_runs":
        system = attributes.get("db.system.name")
        return attributes.get("db.query.summary") or ("audit.query_run" if system == "other_sql" else system)
    if row["table"] == "prompt_runs":
        return f"{attributes.get('gen_ai.operation.name')} {row['model_name']}"
    return row["action_type"]


def trace_of(request_id):
    """The trace of a request, as it is promised to every process."""
    try:
        return uuid.UUID(request_id).hex
    except ValueError:
        return hashlib.sha256(f"request:{request_id}".encode()).hexdigest()[:32]


def is_same(found, wanted):
    # As JSON, where 1, 1.0, true and "1" are four values.
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


class Comparison:
    def __init__(self, rows, spans):
        self.rows = rows
        self.by_id = {row["id"]: row for row in rows}
        self.spans = collections.defaultdict(list)
        for span in spans:
            self.spans[span["span_id"]].append(span)
        self.attributes = 0
        self.differences = []

    def run(self):
        for table in sorted(KINDS.keys() - {row["table"] for row in self.rows}):
            self.differences.append(f"audit.{table}: there are no rows to compare")
        for row in self.rows:
            copies = self.spans.pop(row["span_id"], [])
            if not copies:
                self.differ(row, "has no span")
                continue
            for copy in copies:
                self.compare(row, copy)
        for span_id in self.spans:
            self.differences.append(f"span {span_id}: has no row")

    def differ(self, row, how):
        self.differences.append(f"audit.{row['table']} {row['id']}: {how}")

    def hold(self, row, what, found, wanted):
        if not is_same(found, wanted):
            self.differ(row, f"{what} is not as in the row")

    def compare(self, row, span):
        self.hold(row, "the trace id", span["trace_id"], row["trace_id"])
        if row["request_id"]:
            self.hold(row, "the trace id by the request", span["trace_id"], trace_of(row["request_id"]))
        self.hold(row, "the span id by the record", span["span_id"], row["id"].replace("-", "")[16:])
        self.compare_parent(row, span)
        self.hold(row, "the start", span["start_ns"], row["start_us"] * 1000)
        if row["end_us"] is not None:
            self.hold(row, "the end", span["end_ns"], row["end_us"] * 1000)
        # All that the row of an event says of its end. No time is finer than Postgres has it.
        self.hold(row, "the part of the end below a microsecond", span["end_ns"] % 1000, 0)
        took = row["latency_ms"] if row["table"] == "events" else row["duration_ms"]
        self.hold(row, "the duration", (span["end_ns"] - span["start_ns"]) // 1_000_000, took)
        self.hold(row, "the kind", span["kind"], "INTERNAL" if row["table"] == "events" else "CLIENT")
        self.hold(row, "the status", span["status"], "ERROR" if row["status"] == "failed" else "UNSET")
        message = row["error_code"] or "" if row["status"] == "failed" else ""
        self.hold(row, "the status message", span["status_message"], message)
        self.hold(row, "the name", span["name"], name_of(row, span["attributes"]))
        self.hold(row, "the list of events", span["events"], [])
        self.hold(row, "the list of links", span["links"], [])
        self.compare_origin(row, span)
        self.compare_attributes(row, span["attributes"])

    def compare_parent(self, row, span):
        if row["parent_id"] is None:
            self.hold(row, "the parent", span["parent_span_id"], None)
            return
        parent = self.by_id.get(row["parent_id"])
        if parent is None:
            self.differ(row, "the enclosing record is not there")
            return
        self.hold(row, "the parent", span["parent_span_id"], parent["span_id"])
        # Its own comparison says if it has no span.
        self.hold(row, "the trace of the parent", span["trace_id"], parent["trace_id"])

    def compare_origin(self, row, span):
        scope = span["scope"]
        resource = {
            "service.name": row["service_name"],
            "service.instance.id": row["writer_id"],
            "telemetry.sdk.version": scope["version"],
            **SDK,
        }
        self.hold(row, "the resource", span["resource"], resource)
        self.hold(row, "the scope", [scope["name"], scope["attributes"]], ["tracing-audit", {}])
        schema = GEN_AI_SCHEMA if row["table"] == "prompt_runs" else SCHEMA
        if not schema.fullmatch(scope["schema_url"]):
            self.differ(row, "the schema is not that of its conventions")

    def compare_attributes(self, row, found):
        for column in sorted(row.keys() - EVERY_KIND.keys() - OF_TABLE[row["table"]].keys() - CONTENT - ELSEWHERE):
            self.differ(row, f"nothing says what becomes of the column {column}")
        wanted = of_columns(row)
        if row.get("sql_summary"):
            wanted["db.query.summary"] = row["sql_summary"]
        # What is made of the statement is held against it, rather than made once more.
        # A text that no parser takes for SQL goes out in no form; here, what the database could not parse either.
        is_unreadable = row["error_code"] == "42601" and not set(MADE_OF_SQL) & found.keys()
        is_told = row.get("sql_text") and not is_unreadable
        made = {"db.query.text": is_sanitized, "db.query.summary": is_summary} if is_told else {}
        self.attributes += len(wanted | made)
        for name in sorted(wanted.keys() | made.keys() | found.keys()):
            if name not in found:
                self.differ(row, f"{name} is missing")
            elif name in wanted:
                self.hold(row, name, found[name], wanted[name])
            elif name not in made:
                self.differ(row, f"{name} should not be there")
            elif not (isinstance(found[name], str) and made[name](found[name], row["sql_text"])):
                self.differ(row, f"{name} is not made of the row's statement")

    def compare_content(self, spans):
        """Looks for content in all of the spans, wherever it may have got to."""
        texts, statements = set(), set()
        for span in spans:
            attributes = {**span["attributes"]}
            statements.update(strings([attributes.pop(name, "") for name in MADE_OF_SQL]))
            # A query's name is its summary.
            name = "" if span["name"] in statements else span["name"]
            texts.update(strings({**span, "attributes": attributes, "name": name}))
        texts, statements = "\n".join(texts), "\n".join(statements)
        looked_for = set()
        for row in self.rows:
            for column, text in content(row):
                if len(text) < SHORTEST or (column, text) in looked_for:
                    continue
                looked_for.add((column, text))
                # The answer is a statement itself.
                if text in texts or (text in statements and column not in ("response_text", "sql_text")):
                    self.differ(row, f"its {column} is in a span")


def strings(value):
    """Every text within a span."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for element in value:
            yield from strings(element)


def content(row):
    """What no span may hold, line by line, with the column that it is of."""
    for column in sorted(CONTENT & row.keys()):
        for line in (row[column] or "").splitlines():
            yield column, line.strip()
    for kind, text in tokens(row.get("sql_text") or ""):
        if kind in ("literal", "comment"):
            yield "sql_text", text.strip("'")


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: scripts/compare_spans.py ROWS SPANS")
    rows, spans = lines(sys.argv[1]), lines(sys.argv[2])
    comparison = Comparison(rows, spans)
    comparison.run()
    comparison.compare_content(spans)
    found = comparison.differences
    ids = {span["span_id"] for span in spans}
    within = sum(row["parent_id"] is not None for row in rows)
    print(
        f"{len(rows)} rows ({within} within another), {len(spans)} spans ({len(spans) - len(ids)} copies), "
        f"{comparison.attributes} attributes compared, differences {len(found)}"
    )
    for difference in found[:SHOWN]:
        print(f"DIFFERENCE     {difference}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
