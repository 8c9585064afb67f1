"""Reads the files of `export` with other programs: pyarrow and DuckDB, and the JSON schemas of OCSF 1.8.0.

formats.py FOLDER: where all.parquet, all.csv, all.ocsf and their manifests are.
"""

import collections
import json
import pathlib
import sys

import duckdb
import jsonschema
import pyarrow
import pyarrow.parquet
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

folder = pathlib.Path(sys.argv[1])


def manifest(name):
    return json.loads((folder / f"{name}.manifest.json").read_text())


def check(is_so, what):
    if not is_so:
        sys.exit(f"not so: {what}")
    print(f"ok: {what}", file=sys.stderr)


table = pyarrow.parquet.read_table(folder / "all.parquet")
check(table.num_rows == manifest("all.parquet")["records"], f"pyarrow reads {table.num_rows} records")
schema = pyarrow.parquet.read_schema(folder / "all.parquet")
check(schema.metadata[b"tracing_audit.schema_version"] == b"1", "the version of the columns is in the file")
check(schema.field("created_at").type == pyarrow.timestamp("us", tz="UTC"), "times are UTC, in microseconds")
check(schema.field("seq").type == pyarrow.int64() and schema.field("row_count").type == pyarrow.int32(), "numbers are numbers")
check(schema.field("metadata").type == pyarrow.string(), "metadata is text")

query = "SELECT kind, id, metadata::json ->> 'a', question_text, row_count, started_at FROM '{}' WHERE kind = 'query_run' ORDER BY id"
parquet = duckdb.sql(query.format(folder / "all.parquet")).fetchall()
check(len(parquet) == 11 and float(parquet[0][2]) == 1, "DuckDB reads Parquet, and its JSON")
types = "read_csv('{}', header = true, all_varchar = true, max_line_size = 100000000, strict_mode = true)"
rows = duckdb.sql(f"SELECT id, question_text FROM {types.format(folder / 'all.csv')} WHERE kind = 'query_run' ORDER BY id").fetchall()
check([row[0] for row in rows] == [row[1] for row in parquet], "DuckDB reads the same records of CSV")

schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
validators = {}
seen = collections.Counter()
for line in (folder / "all.ocsf").read_text().split("\n"):
    if not line:
        continue
    event = json.loads(line)
    profiles = event["metadata"].get("profiles", [])
    key = (event["class_uid"], *profiles)
    if key not in validators:
        name = schemas.lookup_class_name_from_uid(event["class_uid"])
        validators[key] = jsonschema.Draft202012Validator(schemas.get_class_schema(name, profiles))
    for error in validators[key].iter_errors(event):
        sys.exit(f"not so: an event of class {key}: {error.json_path}: {error.message[:500]}")
    seen[key] += 1
check(sum(seen.values()) == manifest("all.ocsf")["records"], f"OCSF 1.8.0 allows each event: {dict(seen)}")
check({key[0] for key in seen} == {0, 2004, 3002, 4002, 6003, 6005, 6008}, "every class that is used was checked")
