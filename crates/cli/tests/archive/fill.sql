CREATE SEQUENCE fill_numbers;

-- A time-ordered id, which is no other's.
CREATE FUNCTION fill_id(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT overlay(audit.id_at(at)::text PLACING '7000-8000-' || lpad(nextval('fill_numbers')::text, 12, '0') FROM 15)::uuid
$$;

-- Texts that go wrong where somebody was careless.
CREATE FUNCTION hostile(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY[
        NULL, '', 'NaN', 'Infinity', '-0', '1e400', 'NULL', '\N', '\x00', '[]', '{}', '"', '''', ' ', E'\t', E'\r\n', E'a\nb', E'\x01\x1f\x7f',
        U&'\0085\00A0\2028\2029\FEFF\FFFD\FFFE', U&'\+01F600\+10FFFF\+0E0001', U&'e\0301 \00E9', U&'\202Eevil\202C', '=1+1', '<script>', repeat('long ', 150)
    ])[1 + n % 25]
$$;

CREATE FUNCTION hostile_json(n bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY['{}', 'null', '[]', '"text"', '9007199254740993', '-0.0', '1e300', '0.1000', '{"n": 123456789012345678901234567890.000, "m": 1e-300}',
        '{"": {"a": [1, null, "\u20ac\ud83d\ude00"]}}', '{"b": 1, "aa": 2, "a": "\u0001\\\""}', '{"k": "NaN"}'])[1 + n % 12]::jsonb
$$;

CREATE FUNCTION hostile_list(n bigint) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE n % 6 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY[''] WHEN 2 THEN ARRAY['a', NULL, '"'] WHEN 3 THEN '[0:1]={x,y}'::text[]
        WHEN 4 THEN ARRAY[['a', 'b'], ['c', NULL]] ELSE ARRAY[U&'\2028', E'\x01', 'NULL'] END
$$;

CREATE FUNCTION hostile_time(at timestamptz, n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN '9999-12-31 23:59:59.999999+00' WHEN 2 THEN '1970-01-01+00' ELSE at + interval '1.000001 s' END
$$;

-- Adds a batch whose rows, of all kinds, begin at a time and 100 ms after each other. The database computes its root when it is sealed.
CREATE PROCEDURE fill(at timestamptz, rows int) LANGUAGE plpgsql AS $$
DECLARE
    writer uuid := gen_random_uuid();
BEGIN
    PERFORM audit.ensure_partition(t, at), audit.ensure_partition(t, at + rows * interval '100 ms') FROM unnest(audit.record_tables()) AS t;
    CREATE TEMPORARY TABLE filled ON COMMIT DROP AS
        SELECT seq::bigint, at + seq * interval '100 ms' AS began, fill_id(at + seq * interval '100 ms') AS id,
            CASE WHEN seq % 5 > 0 THEN audit.tenant_uuid('tenant ' || seq % 3) END AS tenant, decode(md5(at::text || seq), 'hex') AS salt,
            CASE WHEN seq % 11 = 10 THEN 'dead_letters' ELSE (ARRAY['query_runs', 'prompt_runs', 'events', 'activities'])[1 + seq % 4] END AS kind
        FROM generate_series(1, rows) AS seq;
    INSERT INTO audit.query_runs (id, writer_id, seq, tenant_id, request_id, status, started_at, finished_at, duration_ms, row_count, salt, user_id, error_message, question_text, sql_text, metadata, problems, redactions)
        SELECT id, writer, seq, tenant, 'request ' || seq / 8, 'succeeded', began, hostile_time(began, seq), -seq, 2147483647 - seq, salt, left(hostile(seq), 200), hostile(seq + 1), hostile(seq + 2), hostile(seq + 3), hostile_json(seq), hostile_list(seq), hostile_list(seq + 1)
        FROM filled WHERE kind = 'query_runs';
    INSERT INTO audit.prompt_runs (id, writer_id, seq, tenant_id, parent_id, request_id, status, created_at, input_token_count, salt, rendered_prompt, response_text, metadata, problems)
        SELECT id, writer, seq, tenant, id, hostile(seq), 'unknown', began, seq, '', hostile(seq), hostile(seq + 5), hostile_json(seq), hostile_list(seq)
        FROM filled WHERE kind = 'prompt_runs';
    INSERT INTO audit.events (id, writer_id, seq, tenant_id, request_id, status, created_at, latency_ms, action_type, salt, target_id, input_summary, metadata)
        SELECT id, writer, seq, tenant, 'request ' || seq / 8, 'failed', began, 9223372036854775807 - seq, hostile(seq + 1), salt, hostile(seq), hostile(seq + 7), hostile_json(seq + 1)
        FROM filled WHERE kind = 'events';
    INSERT INTO audit.activities (id, writer_id, seq, tenant_id, request_id, status, created_at, salt, user_id, output_summary, metadata, redactions)
        SELECT id, writer, seq, tenant, 'request ' || seq / 8, 'succeeded', began, salt, hostile(seq), hostile(seq + 2), hostile_json(seq + 3), hostile_list(seq)
        FROM filled WHERE kind = 'activities';
    INSERT INTO audit.dead_letters (writer_id, seq, record_id, kind, reason, frame, salt, created_at)
        SELECT writer, seq, id, 'audit.event', 'refused', salt, salt, now() FROM filled WHERE kind = 'dead_letters';
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, service_name, committed_at)
        SELECT writer, 1, rows, (SELECT coalesce(jsonb_object_agg(kind, n), '{}') FROM (SELECT kind, count(*) AS n FROM filled WHERE kind <> 'dead_letters' GROUP BY kind) AS k),
            count(*) FILTER (WHERE kind = 'dead_letters'), min(id::text) FILTER (WHERE kind <> 'dead_letters')::uuid, max(id::text) FILTER (WHERE kind <> 'dead_letters')::uuid, 'test', 'shop', now()
        FROM filled;
END
$$;
