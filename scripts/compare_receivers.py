#!/usr/bin/env python3
"""Holds what a receiver shows of a trail against the rows in Postgres, by the receiver's own interface.

    scripts/compare_receivers.py phoenix URL ROWS ...
    scripts/compare_receivers.py mlflow URL ROWS ...     by a Python that has the package mlflow

The rows are objects with the columns of each and its table, one a line. The export had `capture_messages` on and the
receiver named. Prints how much was compared and the first differences by ids and names, never by content. The exit
status is 1 if there are any.
"""

import collections
import json
import sys
import time
import urllib.parse
import urllib.request

# How long a receiver may take until it shows what it has accepted.
PATIENCE_S = 60
SHOWN = 20

KINDS = {"agent.run": "AGENT", "tool.call": "TOOL"}
STATUSES = {"succeeded": "OK", "failed": "ERROR"}
FINISHED = {"succeeded": "stop", "failed": "error"}


class Shown:
    """What a receiver shows of a span, in one form for all of them; what it does not show is None."""

    def __init__(self, **shown):
        self.__dict__.update(shown)


# ---- Phoenix: its REST interface


def get(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def pages(url):
    cursor = None
    while True:
        query = {"limit": 100, **({"cursor": cursor} if cursor else {})}
        page = get(f"{url}?{urllib.parse.urlencode(query)}")
        yield from page["data"]
        cursor = page.get("next_cursor")
        if not cursor:
            return


def of_phoenix(url):
    project = f"{url}/v1/projects/default"
    sessions = {}
    for session in pages(f"{project}/sessions"):
        for trace in session["traces"]:
            sessions[trace["trace_id"]] = session["session_id"]
    for span in pages(f"{project}/spans"):
        said = span["attributes"]
        is_prompt = span["span_kind"] == "LLM"
        message = lambda side, what: said.get(f"llm.{side}_messages.0.message.{what}")
        yield Shown(
            trace=span["context"]["trace_id"],
            span=span["context"]["span_id"],
            parent=span["parent_id"],
            name=span["name"],
            kind=span["span_kind"],
            status=span["status_code"],
            status_message=span["status_message"],
            input=said.get("input.value"),
            output=said.get("output.value"),
            messages=[message("input", "content"), message("output", "content")],
            finished=message("output", "finish_reason"),
            tokens=[said.get("llm.token_count.prompt"), said.get("llm.token_count.completion")],
            model=said.get("llm.model_name") if is_prompt else None,
            tool=said.get("tool.name"),
            query=said.get("db.query.text"),
            summary=said.get("db.query.summary"),
            user=said.get("user.id"),
            session=sessions.get(span["context"]["trace_id"]),
            own=said.get("feature_flag.key"),
        )


# ---- MLflow: its client


def of_mlflow(url):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=url)
    # By what MLflow calls them. A chat is a kind of its own there, of which we know no more.
    kinds = {"CHAT_MODEL": "LLM"}
    token = None
    while True:
        page = client.search_traces(locations=["0"], max_results=100, include_spans=True, page_token=token)
        for trace in page:
            for span in trace.data.spans:
                usage = span.attributes.get("mlflow.chat.tokenUsage") or {}
                messages = [span.inputs, span.outputs] if span.span_type == "CHAT_MODEL" else [None, None]
                text = [of[0]["parts"][0]["content"] if of else None for of in messages]
                is_prompt = span.span_type == "CHAT_MODEL"
                yield Shown(
                    trace=span.trace_id.removeprefix("tr-"),
                    span=span.span_id,
                    parent=span.parent_id,
                    name=span.name,
                    kind=kinds.get(span.span_type, span.span_type),
                    status=span.status.status_code.value,
                    status_message=span.status.description,
                    input=text[0] if is_prompt else span.inputs,
                    output=text[1] if is_prompt else span.outputs,
                    messages=text,
                    finished=span.outputs[0]["finish_reason"] if is_prompt and span.outputs else None,
                    tokens=[usage.get("input_tokens"), usage.get("output_tokens")],
                    model=span.attributes.get("mlflow.llm.model") if is_prompt else None,
                    tool=span.attributes.get("gen_ai.tool.name"),
                    query=span.attributes.get("db.query.text"),
                    summary=span.attributes.get("db.query.summary"),
                    user=trace.info.trace_metadata.get("mlflow.trace.user"),
                    session=trace.info.trace_metadata.get("mlflow.trace.session"),
                    own=span.attributes.get("feature_flag.key"),
                )
        token = page.token
        if not token:
            return


# ---- the comparison


def wanted_of(row, shown):
    """What the receiver has to show of a row, by name."""
    table, status = row["table"], row["status"]
    wanted = {
        "trace": row["trace_id"],
        "span": row["span_id"],
        "parent": row["parent_id"] and row["parent_id"].replace("-", "")[16:],
        "status": STATUSES.get(status, "UNSET"),
        "status_message": (row["error_message"] or row["error_code"] or "") if status == "failed" else "",
        "user": row["user_id"],
        "session": row["conversation_id"] or row["llm_session_id"],
        "messages": [None, None],
        "finished": None,
        "tokens": [None, None],
        "model": None,
        "tool": None,
        "own": row["metadata"].get("otel.attr.feature_flag.key"),
    }
    if table == "prompt_runs":
        answer = row["response_text"]
        wanted |= {
            "kind": "LLM",
            "input": row["rendered_prompt"],
            "output": answer,
            "messages": [row["rendered_prompt"], answer],
            "finished": FINISHED.get(status, status) if answer else None,
            "tokens": [row["input_token_count"], row["output_token_count"]],
            "model": row["model_name"],
        }
    elif table == "query_runs":
        counts = {"returned_rows": row["row_count"], "affected_rows": row["rows_affected"]}
        counts = {name: count for name, count in counts.items() if count is not None}
        wanted |= {
            "kind": "RETRIEVER" if (shown.summary or "").startswith("SELECT") else "TOOL",
            # scripts/spans holds this one against the statement.
            "input": shown.query,
            "output": counts or None,
            "name": shown.summary or "audit.query_run",
        }
    else:
        kind = KINDS.get(row["action_type"], "CHAIN")
        wanted |= {"kind": kind, "input": row["input_summary"], "output": row["output_summary"]}
        if kind == "TOOL":
            wanted["tool"] = row["target_id"]
        if kind == "AGENT":
            messages = [row["input_summary"], row["output_summary"]]
            wanted |= {"messages": messages, "finished": FINISHED.get(status, status)}
    return wanted


def is_same(found, wanted):
    """Whether a receiver shows a value; it may have read a text that is JSON."""
    if found == wanted:
        return True
    try:
        texts = [of if isinstance(of, str) else json.dumps(of) for of in (found, wanted)]
        return json.loads(texts[0]) == json.loads(texts[1])
    except (TypeError, ValueError):
        return False


def compare(rows, spans, receiver):
    differences, compared = [], 0
    of_span = collections.defaultdict(list)
    for shown in spans:
        of_span[shown.span].append(shown)
    for row in rows:
        found = of_span.pop(row["span_id"], [])
        name = f"audit.{row['table']} {row['id']}"
        if len(found) != 1:
            differences.append(f"{name}: is shown {len(found)} times")
            continue
        for what, wanted in wanted_of(row, found[0]).items():
            # MLflow shows an agent run by its text.
            if what in ("messages", "finished") and receiver == "mlflow" and row["table"] == "events":
                continue
            compared += 1
            if not is_same(getattr(found[0], what), wanted):
                differences.append(f"{name}: {what} is not as in the row")
    differences += [f"span {span}: has no row" for span in of_span]
    return compared, differences


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("phoenix", "mlflow"):
        sys.exit("usage: scripts/compare_receivers.py phoenix|mlflow URL ROWS ...")
    receiver, url = sys.argv[1:3]
    rows = []
    for path in sys.argv[3:]:
        with open(path, encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    read = {"phoenix": of_phoenix, "mlflow": of_mlflow}[receiver]
    until = time.monotonic() + PATIENCE_S
    while True:
        spans = list(read(url))
        lacking = {row["span_id"] for row in rows} - {shown.span for shown in spans}
        if not lacking or time.monotonic() > until:
            break
        time.sleep(0.2)
    compared, differences = compare(rows, spans, receiver)
    kinds = collections.Counter(str(shown.kind) for shown in spans)
    print(
        f"{receiver}: {len(rows)} rows, {len(spans)} spans, {compared} values compared, "
        f"differences {len(differences)}; {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}"
    )
    for difference in differences[:SHOWN]:
        print(f"DIFFERENCE     {difference}")
    sys.exit(1 if differences or not rows else 0)


if __name__ == "__main__":
    main()
