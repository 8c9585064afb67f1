#!/usr/bin/env python3
"""Turns what the collector of scripts/rotel.sh printed into one line of JSON for each span, in the order of the log.

    scripts/spans_of_log.py rotel.log > spans.jsonl

Each line is an object with
    trace_id, span_id       in hexadecimal
    parent_span_id          the same, or null
    name, kind              the kind without its prefix, as SERVER
    start_ns, end_ns        since 1970
    status, status_message  UNSET, OK or ERROR; without a status it is UNSET and ""
    attributes              by key: text, a boolean, a number (1 is an integer and 1.0 a double), an array, an object or
                            null; bytes are text in base64, and the doubles that JSON lacks are text as "NaN"
    events                  each with name, time_ns and attributes
    links                   each with trace_id, span_id and attributes
    scope                   name, version, attributes and schema_url of the instrumentation scope
    resource                the attributes of the resource

Metrics and logs are passed over. A span that was sent twice is there twice. Whatever is not as expected is an error.

The collector does not escape text, so text that looks like what the collector prints itself is misread, or is an error:
a line of that kind after one that ends with a parenthesis, and `), Str(` or the like within an array.
"""

import base64
import json
import math
import re
import sys

VALUE = r"(?:(?:Str|Bool|Int|Double|Slice|Map|Bytes)\(|Empty(?=, |$))"
ATTRIBUTE = re.compile(r"( {5}| {10})-> (.*?): (?=" + VALUE + r")")
KEY = re.compile(r"(.*?):(?=" + VALUE + r")", re.DOTALL)
COMMA_OR_END = re.compile(r", (?=" + VALUE + r"|.*?:" + VALUE + r")|\Z", re.DOTALL)
MESSAGE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z +(?:TRACE|DEBUG|INFO|WARN|ERROR) ")
RESOURCE = re.compile(r"Resource(Spans|Metrics|Logs) #\d+$")
# Headings that are known by the line after them, too, because a text may hold one by chance.
HEADINGS = [
    (RESOURCE, re.compile(r"Resource SchemaURL: ")),
    (re.compile(r"ScopeSpans #\d+$"), re.compile(r"ScopeSpans SchemaURL: ")),
    (re.compile(r"Span #\d+$"), re.compile(r" {4}Trace ID {7}: [0-9a-f]*$")),
    (re.compile(r"(?:(?:Resource|InstrumentationScope) a|A)ttributes:$"), ATTRIBUTE),
    (re.compile(r" {5}-> Attributes::$"), ATTRIBUTE),
    (re.compile(r"Events:$"), re.compile(r"SpanEvent #0$")),
    (re.compile(r"SpanEvent #\d+$"), re.compile(r" {5}-> Name: ")),
    (re.compile(r"Links:$"), re.compile(r"SpanLink #0$")),
    (re.compile(r"SpanLink #\d+$"), re.compile(r" {5}-> Trace ID: ")),
]


class Unexpected(Exception):
    pass


def first_value(text, start):
    """The value at `start` in `A, B, C`, and where it ends: at the first comma before which there is a whole one."""
    for comma in COMMA_OR_END.finditer(text, start):
        try:
            return value(text[start : comma.start()]), comma
        except Unexpected:
            pass
    raise Unexpected


def elements(text):
    """The values of `A, B, C`."""
    start = 0
    while start < len(text):
        read, comma = first_value(text, start)
        start = comma.end()
        yield read


def entries(text):
    """The keys and values of `key:A, key:B`."""
    start = 0
    while start < len(text):
        key = KEY.match(text, start)
        if key is None:
            raise Unexpected
        read, comma = first_value(text, key.end())
        start = comma.end()
        yield key[1], read


def value(text):
    if text == "Empty":
        return None
    shape = re.fullmatch(r"(\w+)\((.*)\)", text, re.DOTALL)
    if shape is None:
        raise Unexpected
    kind, inner = shape.groups()
    try:
        if kind == "Str":
            return inner
        if kind == "Bool":
            return {"true": True, "false": False}[inner]
        if kind == "Int":
            return int(inner)
        if kind == "Double":
            number = float(inner)
            return number if math.isfinite(number) else inner
        if kind == "Bytes":
            return base64.b64encode(bytes(json.loads(inner))).decode()
        if kind == "Slice":
            return list(elements(inner))
        if kind == "Map":
            return dict(entries(inner))
    except (KeyError, ValueError):
        pass
    raise Unexpected


class Log:
    def __init__(self, text):
        self.lines = text.split("\n")
        if self.lines[-1] == "":
            self.lines.pop()
        self.at = 0

    def line(self, ahead=0):
        at = self.at + ahead
        return self.lines[at] if at < len(self.lines) else None

    def heading(self):
        """Whether the line begins something, rather than going on with a text."""
        line, after = self.line(), self.line(1)
        if line is None or MESSAGE.match(line):
            return True
        return any(one.match(line) and after is not None and two.match(after) for one, two in HEADINGS)

    def take(self, pattern):
        """The groups of the line if it is of that pattern, and then goes on to the next."""
        line = self.line()
        found = re.fullmatch(pattern, line) if line is not None else None
        if found is not None:
            self.at += 1
        return found

    def need(self, pattern):
        found = self.take(pattern)
        if found is None:
            raise Unexpected
        return found

    def text(self, start, ended):
        """A text that follows `start` on its line and goes on until a line for which `ended` says so."""
        lines = [self.need(start + "(.*)")[1]]
        while not ended(self.line()):
            if self.line() is None:
                raise Unexpected
            lines.append(self.line())
            self.at += 1
        return "\n".join(lines)

    def attributes(self, title):
        found = {}
        if self.line() != title or not self.heading():
            return found
        self.at += 1
        indent = ATTRIBUTE.match(self.line())[1]
        while (start := ATTRIBUTE.match(self.line() or "")) and start[1] == indent:
            # The value is whole once it reads as one and what follows does not go on with it.
            text = self.line()[start.end() :]
            self.at += 1
            while True:
                if self.heading() or ATTRIBUTE.match(self.line()):
                    try:
                        read = value(text)
                        break
                    except Unexpected:
                        if self.line() is None or RESOURCE.match(self.line()):
                            raise
                text += "\n" + self.line()
                self.at += 1
            if start[2] in found:
                raise Unexpected(f"the key {start[2]} for the second time")
            found[start[2]] = read
        return found

    def span(self):
        trace = self.need(r" {4}Trace ID {7}: ([0-9a-f]*)")[1]
        parent = self.need(r" {4}Parent ID {6}: ([0-9a-f]*)")[1]
        span = self.need(r" {4}ID {13}: ([0-9a-f]*)")[1]
        after_name = re.compile(r"    Kind           : SPAN_KIND_|    TraceState     : |Start time: \d+$")
        name = self.text(" {4}Name {11}: ", lambda line: line is not None and after_name.match(line))
        kind = self.take(r" {4}Kind {11}: SPAN_KIND_(\w+)")
        self.take(r" {4}TraceState {5}: .*")
        start = self.need(r"Start time: (\d+)")[1]
        end = self.need(r"End time: (\d+)")[1]
        status = self.take(r" {4}Status code {4}: STATUS_CODE_(\w+)")
        message = ""
        if (self.line() or "").startswith("    Status message : "):
            message = self.text(" {4}Status message : ", lambda _: self.heading())
        return {
            "trace_id": trace,
            "span_id": span,
            "parent_span_id": parent or None,
            "name": name,
            "kind": kind[1] if kind else None,
            "start_ns": int(start),
            "end_ns": int(end),
            "status": status[1] if status else "UNSET",
            "status_message": message,
            "attributes": self.attributes("Attributes:"),
            "events": list(self.events()),
            "links": list(self.links()),
        }

    def events(self):
        if self.heading() and self.take("Events:"):
            while self.heading() and self.take(r"SpanEvent #\d+"):
                name = self.text(
                    " {5}-> Name: ", lambda line: line is not None and re.fullmatch(r" {5}-> Timestamp: \d+", line)
                )
                time = self.need(r" {5}-> Timestamp: (\d+)")[1]
                self.need(r" {5}-> DroppedAttributesCount: \d+")
                yield {"name": name, "time_ns": int(time), "attributes": self.attributes("     -> Attributes::")}

    def links(self):
        if self.heading() and self.take("Links:"):
            while self.heading() and self.take(r"SpanLink #\d+"):
                trace = self.need(r" {5}-> Trace ID: ([0-9a-f]*)")[1]
                span = self.need(r" {5}-> ID: ([0-9a-f]*)")[1]
                self.need(r" {5}-> TraceState: .*")
                self.need(r" {5}-> DroppedAttributesCount: \d+")
                yield {"trace_id": trace, "span_id": span, "attributes": self.attributes("     -> Attributes::")}

    def resource_spans(self):
        self.need("Resource SchemaURL: .*")
        resource = self.attributes("Resource attributes:")
        while self.take(r"ScopeSpans #\d+"):
            schema = self.need("ScopeSpans SchemaURL: (.*)")[1]
            scope = {"name": "", "version": "", "attributes": {}, "schema_url": schema}
            if named := self.take("InstrumentationScope (.*) (.*)"):
                scope["name"], scope["version"] = named.groups()
                scope["attributes"] = self.attributes("InstrumentationScope attributes:")
            while self.take(r"Span #\d+"):
                yield {**self.span(), "scope": scope, "resource": resource}

    def spans(self):
        while (line := self.line()) is not None:
            self.at += 1
            if line == "" or MESSAGE.match(line):
                continue
            began = RESOURCE.match(line)
            if began is None:
                self.at -= 1
                raise Unexpected
            if began[1] == "Spans":
                yield from self.resource_spans()
                continue
            while self.line() is not None and not (RESOURCE.match(self.line()) and self.heading()):
                self.at += 1


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/spans_of_log.py LOG")
    with open(sys.argv[1], encoding="utf-8", newline="\n") as file:
        log = Log(file.read())
    try:
        for span in log.spans():
            print(json.dumps(span, allow_nan=False))
    except Unexpected as problem:
        # Not the line itself: it may be anybody's prompt.
        what = f": {problem}" if str(problem) else ""
        sys.exit(f"{sys.argv[1]}, near line {log.at + 1}: not what the collector prints{what}")


if __name__ == "__main__":
    main()
