-- A day with one batch, of three records of each kind.
SELECT audit.ensure_partition(t, '2023-03-14 12:00+00') FROM unnest(audit.record_tables()) AS t;
CREATE UNLOGGED TABLE few AS
    SELECT n, at, md5('few')::uuid AS writer, 1 + n AS seq, overlay(gen_random_uuid()::text PLACING left(audit.id_at(at)::text, 15) FROM 1)::uuid AS id,
        audit.tenant_uuid('tenant 1') AS tenant, gen_random_uuid()::text AS request, uuid_send(gen_random_uuid()) AS salt
    FROM (SELECT n, '2023-03-14 12:00+00'::timestamptz + n * interval '1 s' AS at FROM generate_series(0, 11) AS n) AS numbers;
INSERT INTO audit.query_runs (id, writer_id, seq, tenant_id, request_id, status, started_at, salt, sql_text)
    SELECT id, writer, seq, tenant, request, 'succeeded', at, salt, 'SELECT ' || n FROM few WHERE n % 4 = 0;
INSERT INTO audit.prompt_runs (id, writer_id, seq, tenant_id, request_id, status, created_at, salt, rendered_prompt)
    SELECT id, writer, seq, tenant, request, 'succeeded', at, salt, 'prompt ' || n FROM few WHERE n % 4 = 1;
INSERT INTO audit.events (id, writer_id, seq, tenant_id, request_id, status, created_at, salt, action_type)
    SELECT id, writer, seq, tenant, request, 'succeeded', at, salt, 'tool_invocation' FROM few WHERE n % 4 = 2;
INSERT INTO audit.activities (id, writer_id, seq, tenant_id, request_id, status, created_at, salt, action_type)
    SELECT id, writer, seq, tenant, request, 'succeeded', at, salt, 'http_request' FROM few WHERE n % 4 = 3;
INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, library_version, service_name)
    SELECT writer, 1, 12, '{"query_runs": 3, "prompt_runs": 3, "events": 3, "activities": 3}', 0, min(id::text)::uuid, max(id::text)::uuid, 'bench', 'assistant' FROM few GROUP BY writer;
DROP TABLE few;
