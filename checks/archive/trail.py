"""The trail that is archived: in the database that DATABASE_URL names."""

import os
import pathlib
import urllib.parse

import pg8000.dbapi

DATABASE = os.environ["DATABASE_URL"]


def connect():
    place = urllib.parse.urlsplit(DATABASE)
    connection = pg8000.dbapi.connect(user=place.username, host=place.hostname, port=place.port, database=place.path[1:])
    connection.autocommit = True
    return connection


def execute(statement):
    """Runs statements in the database; returns the rows of one."""
    connection = connect()
    try:
        found = connection.execute_simple(statement)
        return [tuple(row) for row in found.rows or []]
    finally:
        connection.close()


def answers(connection=None):
    """Whether the database answers, on a connection that there is, or on a new one."""
    try:
        return connection.execute_simple("SELECT 1").rows if connection else execute("SELECT 1")
    except Exception:  # whatever pg8000 says of a server that ends its sessions, or recovers
        return None


def fill(*days):
    """Fills days, each a time and how many rows, with values that go wrong where somebody was careless."""
    execute(pathlib.Path("crates/cli/tests/archive/fill.sql").read_text())
    for at, rows in days:
        execute(f"CALL fill('{at}', {rows})")
