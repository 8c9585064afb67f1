-- The audit trail: the record tables, partitioned by time, the batches that
-- wrote them, and the records that could not be written.
--
-- Leaf partitions live in a schema of their own, `audit_parts`, so that a grant
-- on all tables in schema `audit` never reaches a leaf (row-level security of a
-- parent does not cover a leaf that is read directly).

-- Run as audit_maintainer, in the schemas that begin.sql has made.

COMMENT ON SCHEMA audit IS 'The audit trail: read it here.';
COMMENT ON SCHEMA audit_parts IS 'Leaf partitions of the audit tables. Read the parents in schema audit instead.';

CREATE TYPE audit.run_status AS ENUM ('succeeded', 'failed', 'cancelled', 'rejected', 'unknown');
COMMENT ON TYPE audit.run_status IS 'Outcome of a run, by the evidence seen; unknown means that no evidence was seen.';

-- A row must stay below Postgres' limit of 1 GB per value, as text and as JSON, where a character may take six bytes.
-- Otherwise one row would make every query that includes it fail. Compressible columns are measured uncompressed. The
-- library writes 101 problems at most, and as many redactions.

-- Columns of fixed size come first, so that none is padded: behind texts, each bigint and time would start at the next multiple of
-- 8 bytes of the row, each integer and status at one of 4. That is 11 bytes a row.

-- Query runs ---------------------------------------------------------------

CREATE TABLE audit.query_runs (
    id              uuid             NOT NULL,
    tenant_id       uuid,
    agent_id        uuid,
    llm_session_id  uuid,
    parent_id       uuid,
    datasource_id   uuid,
    writer_id       uuid             NOT NULL,
    seq             bigint           NOT NULL,
    started_at      timestamptz      NOT NULL,
    finished_at     timestamptz,
    duration_ms     bigint,
    row_count       integer,
    rows_affected   integer,
    status          audit.run_status NOT NULL,
    user_id         text,
    user_role       text,
    request_id      text,
    conversation_id text,
    trace_id        text,
    span_id         text,
    service_name    text,
    question_text   text,
    sql_text        text,
    sql_summary     text,
    error_code      text,
    error_message   text,
    metadata        jsonb            NOT NULL DEFAULT '{}',
    problems        text[]           NOT NULL DEFAULT '{}',
    redactions      text[]           NOT NULL DEFAULT '{}',
    salt            bytea            NOT NULL,
    PRIMARY KEY (id),
    CHECK (started_at >= '1970-01-01 00:00+00' AND started_at < '10000-01-01 00:00+00'),
    CHECK (finished_at >= '1970-01-01 00:00+00' AND finished_at < '10000-01-01 00:00+00'),
    CONSTRAINT query_runs_size CHECK (
        coalesce(octet_length(user_id), 0) + coalesce(octet_length(user_role), 0) + coalesce(octet_length(request_id), 0)
            + coalesce(octet_length(conversation_id), 0) + coalesce(octet_length(trace_id), 0) + coalesce(octet_length(span_id), 0)
            + coalesce(octet_length(service_name), 0) + coalesce(octet_length(question_text), 0) + coalesce(octet_length(sql_text), 0)
            + coalesce(octet_length(sql_summary), 0) + coalesce(octet_length(error_code), 0) + coalesce(octet_length(error_message), 0) <= 150994944
        AND octet_length(salt) <= 64
        AND CASE WHEN pg_column_size(metadata) > 2000 OR pg_column_compression(metadata) IS NOT NULL
            THEN octet_length(metadata::text) <= 150994944 ELSE true END
        AND cardinality(problems) <= 101
        AND CASE WHEN pg_column_size(problems) > 2000 OR pg_column_compression(problems) IS NOT NULL
            THEN octet_length(array_to_string(problems, ',')) <= 1048576 ELSE true END
        AND cardinality(redactions) <= 101
        AND CASE WHEN pg_column_size(redactions) > 2000 OR pg_column_compression(redactions) IS NOT NULL
            THEN octet_length(array_to_string(redactions, ',')) <= 1048576 ELSE true END)
) PARTITION BY RANGE (id);

-- The tenant is in the index of requests so that a reader's plan needs no other: without statistics, Postgres would read all of the
-- tenant's rows besides. A hash index would be quicker to write, but slower with each row of the same request. Measured in benches/README.md.
CREATE INDEX query_runs_request_id_idx ON audit.query_runs (request_id, tenant_id);
CREATE INDEX query_runs_tenant_id_idx ON audit.query_runs (tenant_id, id);

-- Prompt runs --------------------------------------------------------------

CREATE TABLE audit.prompt_runs (
    id                      uuid             NOT NULL,
    tenant_id               uuid,
    agent_id                uuid,
    llm_session_id          uuid,
    parent_id               uuid,
    writer_id               uuid             NOT NULL,
    seq                     bigint           NOT NULL,
    created_at              timestamptz      NOT NULL,
    finished_at             timestamptz,
    duration_ms             bigint,
    prompt_template_version integer,
    input_token_count       integer,
    output_token_count      integer,
    status                  audit.run_status NOT NULL,
    user_id                 text,
    user_role               text,
    request_id              text,
    conversation_id         text,
    trace_id                text,
    span_id                 text,
    service_name            text,
    model_name              text,
    provider                text,
    prompt_template_name    text,
    rendered_prompt         text,
    response_text           text,
    role                    text,
    error_code              text,
    error_message           text,
    metadata                jsonb            NOT NULL DEFAULT '{}',
    problems                text[]           NOT NULL DEFAULT '{}',
    redactions              text[]           NOT NULL DEFAULT '{}',
    salt                    bytea            NOT NULL,
    PRIMARY KEY (id),
    CHECK (created_at >= '1970-01-01 00:00+00' AND created_at < '10000-01-01 00:00+00'),
    CHECK (finished_at >= '1970-01-01 00:00+00' AND finished_at < '10000-01-01 00:00+00'),
    CONSTRAINT prompt_runs_size CHECK (
        coalesce(octet_length(user_id), 0) + coalesce(octet_length(user_role), 0) + coalesce(octet_length(request_id), 0)
            + coalesce(octet_length(conversation_id), 0) + coalesce(octet_length(trace_id), 0) + coalesce(octet_length(span_id), 0)
            + coalesce(octet_length(service_name), 0) + coalesce(octet_length(model_name), 0) + coalesce(octet_length(provider), 0)
            + coalesce(octet_length(prompt_template_name), 0) + coalesce(octet_length(rendered_prompt), 0) + coalesce(octet_length(response_text), 0)
            + coalesce(octet_length(role), 0) + coalesce(octet_length(error_code), 0) + coalesce(octet_length(error_message), 0) <= 150994944
        AND octet_length(salt) <= 64
        AND CASE WHEN pg_column_size(metadata) > 2000 OR pg_column_compression(metadata) IS NOT NULL
            THEN octet_length(metadata::text) <= 150994944 ELSE true END
        AND cardinality(problems) <= 101
        AND CASE WHEN pg_column_size(problems) > 2000 OR pg_column_compression(problems) IS NOT NULL
            THEN octet_length(array_to_string(problems, ',')) <= 1048576 ELSE true END
        AND cardinality(redactions) <= 101
        AND CASE WHEN pg_column_size(redactions) > 2000 OR pg_column_compression(redactions) IS NOT NULL
            THEN octet_length(array_to_string(redactions, ',')) <= 1048576 ELSE true END)
) PARTITION BY RANGE (id);

CREATE INDEX prompt_runs_request_id_idx ON audit.prompt_runs (request_id, tenant_id);
CREATE INDEX prompt_runs_tenant_id_idx ON audit.prompt_runs (tenant_id, id);

-- Events -------------------------------------------------------------------

CREATE TABLE audit.events (
    id              uuid             NOT NULL,
    tenant_id       uuid,
    agent_id        uuid,
    llm_session_id  uuid,
    parent_id       uuid,
    writer_id       uuid             NOT NULL,
    seq             bigint           NOT NULL,
    created_at      timestamptz      NOT NULL,
    latency_ms      bigint,
    status          audit.run_status NOT NULL,
    user_id         text,
    user_role       text,
    request_id      text,
    conversation_id text,
    trace_id        text,
    span_id         text,
    service_name    text,
    action_type     text,
    target_type     text,
    target_id       text,
    input_summary   text,
    output_summary  text,
    error_code      text,
    error_message   text,
    metadata        jsonb            NOT NULL DEFAULT '{}',
    problems        text[]           NOT NULL DEFAULT '{}',
    redactions      text[]           NOT NULL DEFAULT '{}',
    salt            bytea            NOT NULL,
    PRIMARY KEY (id),
    CHECK (created_at >= '1970-01-01 00:00+00' AND created_at < '10000-01-01 00:00+00'),
    CONSTRAINT events_size CHECK (
        coalesce(octet_length(user_id), 0) + coalesce(octet_length(user_role), 0) + coalesce(octet_length(request_id), 0)
            + coalesce(octet_length(conversation_id), 0) + coalesce(octet_length(trace_id), 0) + coalesce(octet_length(span_id), 0)
            + coalesce(octet_length(service_name), 0) + coalesce(octet_length(action_type), 0) + coalesce(octet_length(target_type), 0)
            + coalesce(octet_length(target_id), 0) + coalesce(octet_length(input_summary), 0) + coalesce(octet_length(output_summary), 0)
            + coalesce(octet_length(error_code), 0) + coalesce(octet_length(error_message), 0) <= 150994944
        AND octet_length(salt) <= 64
        AND CASE WHEN pg_column_size(metadata) > 2000 OR pg_column_compression(metadata) IS NOT NULL
            THEN octet_length(metadata::text) <= 150994944 ELSE true END
        AND cardinality(problems) <= 101
        AND CASE WHEN pg_column_size(problems) > 2000 OR pg_column_compression(problems) IS NOT NULL
            THEN octet_length(array_to_string(problems, ',')) <= 1048576 ELSE true END
        AND cardinality(redactions) <= 101
        AND CASE WHEN pg_column_size(redactions) > 2000 OR pg_column_compression(redactions) IS NOT NULL
            THEN octet_length(array_to_string(redactions, ',')) <= 1048576 ELSE true END)
) PARTITION BY RANGE (id);

CREATE INDEX events_request_id_idx ON audit.events (request_id, tenant_id);
CREATE INDEX events_tenant_id_idx ON audit.events (tenant_id, id);

-- Activities ---------------------------------------------------------------

-- Events of which there are many, so that they can be kept for a shorter time. The columns are those of audit.events.
CREATE TABLE audit.activities (LIKE audit.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (id)) PARTITION BY RANGE (id);
ALTER TABLE audit.activities RENAME CONSTRAINT events_created_at_check TO activities_created_at_check;
ALTER TABLE audit.activities RENAME CONSTRAINT events_size TO activities_size;

CREATE INDEX activities_request_id_idx ON audit.activities (request_id, tenant_id);
CREATE INDEX activities_tenant_id_idx ON audit.activities (tenant_id, id);

-- The record tables --------------------------------------------------------

-- The one list of them: a new table is an entry here, and one in audit.time_column.
CREATE FUNCTION audit.record_tables() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY['query_runs', 'prompt_runs', 'events', 'activities']
$$;
COMMENT ON FUNCTION audit.record_tables() IS 'The names of the record tables.';

CREATE FUNCTION audit.time_column(parent text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE parent WHEN 'query_runs' THEN 'started_at' WHEN 'prompt_runs' THEN 'created_at' WHEN 'events' THEN 'created_at'
        WHEN 'activities' THEN 'created_at' END
$$;
COMMENT ON FUNCTION audit.time_column(text) IS 'The column with the time of a record table; NULL for any other name.';

COMMENT ON TABLE audit.query_runs IS 'One row for each SQL statement that was asked for: who asked which question, which SQL ran, what came of it.';
COMMENT ON TABLE audit.prompt_runs IS 'One row for each prompt that was sent to a model: which model, which prompt, which answer.';
COMMENT ON TABLE audit.events IS 'One row for each action that is neither a query nor a prompt.';
COMMENT ON TABLE audit.activities IS 'One row for each event of a type of which there are many, such as log, http_request and system_metric.';

-- What every record table shares is described once.
DO $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        EXECUTE format('COMMENT ON COLUMN audit.%I.id IS %L', parent, 'UUIDv7 whose time is the start of the span, milliseconds since 1970.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.tenant_id IS %L', parent, 'The tenant; for a tenant key that is no UUID, audit.tenant_uuid(key), with the key in metadata.tenant_key.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.request_id IS %L', parent, 'What correlates all records of one request, across processes.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.parent_id IS %L', parent, 'The record of the nearest enclosing audit span, in whichever of the record tables it is.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.trace_id IS %L', parent, 'Trace id, 32 lower-case hexadecimal digits.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.span_id IS %L', parent, 'Span id, 16 lower-case hexadecimal digits.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.metadata IS %L', parent, 'Fields of the span that have no column, by their name and with their type.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.problems IS %L', parent, 'Values that could not be stored as recorded: "<field>: <what happened>".');
        EXECUTE format('COMMENT ON COLUMN audit.%I.redactions IS %L', parent, 'What was redacted before the record was stored: "<field>: <rule>, how often".');
        EXECUTE format('COMMENT ON COLUMN audit.%I.writer_id IS %L', parent, 'The writer: one local log of one process.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.seq IS %L', parent, 'Number of the record within its writer, from 1, without a gap.');
        EXECUTE format('COMMENT ON COLUMN audit.%I.salt IS %L', parent, '16 random bytes that keep a hash of the row from being guessed.');
    END LOOP;
END
$$;

-- Writers, batches and dead letters ----------------------------------------

CREATE TABLE audit.writers (
    writer_id     uuid        NOT NULL PRIMARY KEY,
    login         text        NOT NULL,
    secret_sha256 bytea       NOT NULL CHECK (octet_length(secret_sha256) = 32),
    service_name  text        CHECK (octet_length(service_name) <= 1024),
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE audit.writers IS 'One row for each writer, made with its first batch. Only a program that knows the writer''s secret, which is in its local log, can add a batch for it.';
COMMENT ON COLUMN audit.writers.login IS 'The login that added the first batch.';
COMMENT ON COLUMN audit.writers.secret_sha256 IS 'The hash of 32 random bytes.';

-- Records by table: an object with the number of rows of each record table that has any, such as {"events": 2}.
CREATE FUNCTION audit.count_records(records jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- A number that is no whole one above zero, or no table's, counts as so many that no batch can have them.
    SELECT CASE WHEN jsonb_typeof(records) = 'object' THEN (
        SELECT coalesce(sum(CASE WHEN key = ANY (audit.record_tables()) AND value::text ~ '^[1-9][0-9]{0,9}$' THEN value::text::bigint ELSE 1e18 END), 0)
        FROM jsonb_each(records))::bigint END
$$;
COMMENT ON FUNCTION audit.count_records(jsonb) IS 'The number of rows that a batch has by its records; NULL unless they are an object.';

CREATE TABLE audit.batches (
    writer_id       uuid        NOT NULL,
    first_seq       bigint      NOT NULL CHECK (first_seq >= 1),
    last_seq        bigint      NOT NULL CHECK (last_seq >= first_seq),
    records         jsonb       NOT NULL,
    dead_letters    integer     NOT NULL CHECK (dead_letters >= 0),
    first_id        uuid,
    last_id         uuid,
    mark            bytea       CHECK (octet_length(mark) = 32),
    service_name    text        CHECK (octet_length(service_name) <= 1024),
    library_version text        NOT NULL CHECK (octet_length(library_version) <= 256),
    committed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    added_by        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    root            bytea       CHECK (octet_length(root) = 32),
    fingerprints    bytea       CHECK (octet_length(fingerprints) = 8 * (last_seq - first_seq + 1)),
    PRIMARY KEY (writer_id, first_seq),
    CONSTRAINT batches_hashes CHECK ((root IS NULL) = (fingerprints IS NULL)),
    -- What most batches are of is compared without the function, which would take longer than the insert.
    CONSTRAINT batches_records CHECK (CASE WHEN dead_letters = 0 AND records::text = concat('{"events": ', last_seq - first_seq + 1, '}') THEN true
        ELSE (last_seq - first_seq + 1 = audit.count_records(records) + dead_letters) IS TRUE END)
);

CREATE INDEX batches_committed_at_idx ON audit.batches (committed_at);
CREATE INDEX batches_added_by_idx ON audit.batches (added_by);

COMMENT ON TABLE audit.batches IS 'One row for each batch, written in the transaction that writes its records. The batches of a writer follow each other without a gap, so its primary key is what keeps a record from being written twice.';
COMMENT ON COLUMN audit.batches.records IS 'The number of its rows in each record table that has any, such as {"events": 2}.';
COMMENT ON COLUMN audit.batches.first_id IS 'The least id of its rows; with last_id and writer_id, the way to its rows by the primary key.';
COMMENT ON COLUMN audit.batches.last_id IS 'The greatest id of its rows.';
COMMENT ON COLUMN audit.batches.mark IS 'The hash of the salt of its last record, by which the writer recognizes the batch as its own.';
COMMENT ON COLUMN audit.batches.committed_at IS 'Server time at which the batch was written, shortly before its commit.';
COMMENT ON COLUMN audit.batches.added_by IS 'The transaction that wrote the batch.';
COMMENT ON COLUMN audit.batches.root IS 'The root of the Merkle tree of its rows, of which the ledger makes an entry; NULL: the database computes it.';
COMMENT ON COLUMN audit.batches.fingerprints IS 'Of each row, in the order of the tree, 4 bytes of its hash and 4 of the hash of its content: they tell which row differs, and prove nothing.';

CREATE TABLE audit.dead_letters (
    writer_id  uuid        NOT NULL,
    seq        bigint      NOT NULL,
    record_id  uuid,
    kind       text        NOT NULL CHECK (octet_length(kind) <= 256),
    sqlstate   text        CHECK (octet_length(sqlstate) <= 16),
    reason     text        NOT NULL CHECK (octet_length(reason) <= 65536),
    frame      bytea       NOT NULL CHECK (octet_length(frame) <= 268435456),
    salt       bytea       NOT NULL CHECK (octet_length(salt) <= 64),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (writer_id, seq)
);

COMMENT ON TABLE audit.dead_letters IS 'Records that Postgres refused, with their bytes and the reason. They count as part of the trail: seq has no gap over the record tables and this one.';

-- Functions ----------------------------------------------------------------

CREATE FUNCTION audit.tenant_uuid(tenant_key text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN tenant_key ~* '^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$' THEN tenant_key::uuid
        ELSE (
            SELECT encode(
                set_byte(
                    set_byte(substring(h FROM 1 FOR 16), 6, (get_byte(h, 6) & 15) | 128),
                    8, (get_byte(h, 8) & 63) | 128),
                'hex')::uuid
            FROM (SELECT sha256(convert_to('tenant:' || tenant_key, 'UTF8')) AS h) AS hashed)
    END
$$;
COMMENT ON FUNCTION audit.tenant_uuid(text) IS 'The tenant_id of a tenant key: the key itself when it is a UUID, else the UUIDv8 of sha256(''tenant:'' || key).';

CREATE FUNCTION audit.writer_position(writer uuid) RETURNS bigint
    LANGUAGE sql STABLE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        -- No batch follows one at the end of bigint, but there is an answer.
        SELECT least(last_seq, 9223372036854775806) FROM audit.batches
        WHERE writer_id = writer ORDER BY first_seq DESC LIMIT 1), 0) + 1
$$;
COMMENT ON FUNCTION audit.writer_position(uuid) IS 'The seq of the next record the trail expects of this writer; 1 for a writer it has not seen.';

CREATE FUNCTION audit.id_at(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (lpad(to_hex(least(greatest(floor(extract(epoch FROM at) * 1000), 0), 281474976710655)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
COMMENT ON FUNCTION audit.id_at(timestamptz) IS 'The least record id of that moment, for ranges of ids; of a moment that no id has, the least or the greatest one of all.';
