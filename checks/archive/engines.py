"""Reads an archive with engines that nobody here wrote: DuckDB, ClickHouse (chdb) and Spark, by the statements of docs/archive.md.

Of each column of each kind, every engine must give the checksum that Postgres gives of its rows.
"""

import importlib.util
import os
import pathlib
import re

from trail import execute

KINDS = ["query_runs", "prompt_runs", "events", "activities"]

# How each engine writes a value of a column, by its type in Postgres: numbers and times as numbers, bytes as hex.
POSTGRES = {
    "uuid": "{}::text", "text": "{}", "jsonb": "{}::text", "smallint": "{}::text", "integer": "{}::text", "bigint": "{}::text",
    "timestamp with time zone": "(extract(epoch FROM {}) * 1000000)::bigint::text",
    "bytea": "encode({}, 'hex')", "USER-DEFINED": "{}::text",
    # A list whose first element is not the first is told with that.
    "ARRAY": "CASE WHEN array_lower({}, 1) <> 1 THEN format('{{{{\"lower_bounds\":[%s],\"elements\":%s}}}}', array_lower({}, 1), array_to_json({}))"
             " ELSE array_to_json({})::text END",
}
TEXTS = ["uuid", "text", "jsonb", "ARRAY", "USER-DEFINED"]
NUMBERS = ["smallint", "integer", "bigint"]
TIMES, BYTES = ["timestamp with time zone"], ["bytea"]


def written(kind, text, number, time, octets):
    """How an engine writes a value of this type."""
    return next(way for kinds, way in [(TEXTS, text), (NUMBERS, number), (TIMES, time), (BYTES, octets)] if kind in kinds)


def statement(engine, kind, places):
    """The statement of docs/archive.md for this engine, for a kind, with places of this test."""
    docs = pathlib.Path("docs/archive.md").read_text().split("## Reading with other engines")[1]
    found = re.search(rf"\*\*{engine}\*\*.*?```sql\n(.*?)```", docs, re.DOTALL)[1].strip().rstrip(";")
    for shown, meant in places.items():
        found = found.replace(shown, meant)
    return found.replace("query_runs", kind)


def of_postgres(kind):
    """The columns of a table with their types, and their checksums."""
    columns = execute(
        "SELECT column_name, data_type FROM information_schema.columns"
        f" WHERE table_schema = 'audit' AND table_name = '{kind}' ORDER BY ordinal_position"
    )
    columns = [(name, of) for name, of in columns]
    sums = ", ".join(
        f"md5(string_agg(coalesce(md5({POSTGRES[of].replace('{}', name).replace('{{{{', '{').replace('}}}}', '}')}), '-'), ',' ORDER BY id))"
        for name, of in columns
    )
    [row] = execute(f"SELECT {sums} FROM audit.{kind} WHERE audit.day_of(id) < current_date - '1970-01-01'")
    return columns, list(row)


def duckdb():
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")

    def sums(kind, columns, places):
        connection.execute(f"DROP VIEW IF EXISTS {kind}")
        connection.execute(statement("DuckDB", kind, places))
        expressions = [
            f"md5(string_agg(coalesce(md5({written(of, '{}', '{}::varchar', 'epoch_us({})::varchar', 'lower(hex({}))').format(name)}), '-'),"
            f" ',' ORDER BY id))" for name, of in columns
        ]
        return list(connection.execute(f"SELECT {', '.join(expressions)} FROM {kind}").fetchone())

    return sums


def clickhouse():
    from chdb import session

    connection = session.Session()

    def sums(kind, columns, places):
        connection.query(f"DROP VIEW IF EXISTS {kind}")
        connection.query(statement("ClickHouse", kind, places))
        found = []
        for name, of in columns:
            value = written(of, "{}", "toString({})", "toString(toUnixTimestamp64Micro({}))", "lower(hex({}))").format(name)
            found.append(str(connection.query(
                "SELECT lower(hex(MD5(arrayStringConcat(arrayMap(x -> x.2, arraySort(groupArray((i, h)))), ',')))) FROM"
                f" (SELECT assumeNotNull(id) AS i, ifNull(lower(hex(MD5({value}))), '-') AS h FROM {kind})", "TabSeparated",
            )).strip())
        return found

    return sums


def spark():
    from pyspark.sql import SparkSession

    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    connection = builder.config("spark.sql.session.timeZone", "UTC").config("spark.driver.memory", "1g").getOrCreate()
    connection.sparkContext.setLogLevel("ERROR")

    def sums(kind, columns, places):
        connection.sql(f"DROP VIEW IF EXISTS {kind}")
        connection.sql(statement("Spark", kind, places))
        expressions = [
            f"md5(concat_ws(',', transform(array_sort(collect_list(struct(id AS i, coalesce(md5("
            f"{written(of, 'cast({} AS binary)', 'cast({} AS string)', 'cast(unix_micros({}) AS string)', 'lower(hex({}))').format(name)}"
            f"), '-') AS h))), x -> x.h))) AS sum_{name}" for name, of in columns
        ]
        return list(connection.sql(f"SELECT {', '.join(expressions)} FROM {kind}").first())

    return sums


def read(archives, say):
    """Holds the checksums of all engines against those of Postgres. `archives`: what each is called, and its places."""
    engines = {"DuckDB": duckdb(), "ClickHouse": clickhouse()}
    # scripts/archive-bucket has said so if it is not there.
    if importlib.util.find_spec("pyspark"):
        engines["Spark"] = spark()
    for kind in KINDS:
        columns, expected = of_postgres(kind)
        assert len(set(expected)) > 5, f"{kind} has nothing to compare"
        for engine, sums in engines.items():
            for called, places in archives:
                found = sums(kind, columns, places)
                differ = [name for (name, _), one, other in zip(columns, expected, found) if one != other]
                assert not differ, f"{engine} reads other values in {kind}, {called}: {differ}"
            say(f"{engine} reads {kind}: {len(columns)} columns as Postgres has them")
