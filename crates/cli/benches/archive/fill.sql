-- A day of query runs, as a service has them that answers questions by SQL: two to a request, 50 tenants, batches of 500. $day is the day,
-- $rows their number, and $request makes an id of n and of its time; `asked` has the questions. Statements end with a line.
SET session_replication_role = replica; SET synchronous_commit = off;
SELECT audit.ensure_partition(t, '$day 12:00+00') FROM unnest(audit.record_tables()) AS t;
CREATE UNLOGGED TABLE filled AS
    SELECT n, at, overlay(md5('$day')::uuid::text PLACING lpad(to_hex(n / 500), 12, '0') FROM 25)::uuid AS writer, 1 + n % 500 AS seq,
        overlay(gen_random_uuid()::text PLACING left(audit.id_at(at)::text, 15) FROM 1)::uuid AS id, $request AS request,
        audit.tenant_uuid('tenant ' || n / 2 * 7919 % 50) AS tenant, uuid_send(gen_random_uuid()) AS salt
    FROM (SELECT n, '$day 00:00+00'::timestamptz + n * interval '86400 s' / $rows AS at, '$day 00:00+00'::timestamptz + n / 2 * 2 * interval '86400 s' / $rows AS began
        FROM generate_series(0::bigint, $rows - 1) AS n) AS numbers;
INSERT INTO audit.query_runs (id, writer_id, seq, tenant_id, request_id, trace_id, span_id, service_name, status, started_at, finished_at, duration_ms, row_count,
        salt, user_id, user_role, datasource_id, question_text, sql_text, sql_summary, metadata)
    SELECT id, writer, seq, tenant, request, md5((n / 2)::text), left(md5(n::text), 16), 'assistant', 'succeeded', at, at + interval '12 ms', 12 + n % 90, n % 1000,
        salt, 'user' || n / 2 % 5000 || '@example.com', 'analyst', md5('shop')::uuid, question || ' (customer ' || n * 7919 % 100000 || ')',
        sql || ' /* customer ' || n * 7919 % 100000 || ' */', summary, jsonb_build_object('dialect', 'postgresql', 'bytes_read', n * 64)
    FROM filled JOIN asked ON asked.number = n * 31 % (SELECT count(*) FROM asked);
INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, service_name)
    SELECT writer, 1, max(seq), jsonb_build_object('query_runs', count(*)), 0, min(id::text)::uuid, max(id::text)::uuid, 'bench', 'assistant' FROM filled GROUP BY writer ORDER BY writer;
DROP TABLE filled;
