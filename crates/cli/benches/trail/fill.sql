-- A trail of eleven months, as a service has it that answers questions by SQL: of ten records five query runs, three prompt runs and two
-- HTTP requests; 200 users of ten tenants, five records to a request and 10,000 to one, one in twenty failed. $rows is their number.
SELECT audit.ensure_partition(t, now() - make_interval(months => m)) FROM unnest(audit.record_tables()) AS t, generate_series(0, 11) AS m;
CREATE FUNCTION pg_temp.record_id(at timestamptz, hash text) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid $$;
CREATE VIEW pg_temp.source AS
    SELECT n, at, hash, n % 10 AS digit, (SELECT array_agg(audit.tenant_uuid('tenant' || t)) FROM generate_series(0, 9) AS t)[1 + n / 5 % 10] AS tenant, 'user-' || n / 5 % 200 AS person, CASE n / 10000 WHEN 1 THEN 'story-of-10000' ELSE md5((n / 5)::text) END AS request,
        (CASE WHEN n % 20 = 13 THEN 'failed' ELSE 'succeeded' END)::audit.run_status AS status,
        CASE WHEN n % 20 = 13 THEN (ARRAY['42P01', '57014', '42501', '22012'])[1 + n / 20 % 4] END AS error,
        10 + abs(hashtext(hash)) % 500 AS took
    FROM (SELECT n, now() - interval '330 days' * (1 - n::float8 / $rows) AS at, md5((-n)::text) AS hash
        FROM generate_series(0, $rows - 1) AS n) AS numbers;
INSERT INTO audit.query_runs (id, tenant_id, user_id, user_role, request_id, trace_id, span_id, service_name, question_text, sql_text,
    sql_summary, row_count, status, error_code, started_at, finished_at, duration_ms, metadata, writer_id, seq, salt)
SELECT pg_temp.record_id(at, hash), tenant, person, 'analyst', request, request, substr(hash, 1, 16), 'bench',
    'How many invoices of account ' || n || ' were paid in the last quarter by customers in the north?',
    'SELECT count(*) FROM invoices i JOIN customers c ON c.id = i.customer_id WHERE c.region = ''north'' AND i.account = ' || n
        || ' AND i.paid_at >= now() - interval ''3 months'' GROUP BY c.segment ORDER BY 1 DESC LIMIT 100',
    'SELECT invoices customers', n % 1000, status, error, at, at + make_interval(secs => took / 1000.0), took,
    jsonb_build_object('dialect', 'postgresql', 'bytes_read', n), md5('writer')::uuid, n + 1, decode(hash, 'hex')
FROM pg_temp.source WHERE digit < 5;
INSERT INTO audit.prompt_runs (id, tenant_id, user_id, user_role, request_id, trace_id, span_id, service_name, model_name, provider, prompt_template_name,
    prompt_template_version, rendered_prompt, response_text, input_token_count, output_token_count, status, error_code, created_at, finished_at,
    duration_ms, metadata, writer_id, seq, salt)
SELECT pg_temp.record_id(at, hash), tenant, person, 'analyst', request, request, substr(hash, 1, 16), 'bench',
    'model-' || n / 10 % 5, 'provider', 'plan', 2, 'Write SQL for: how many invoices of account ' || n || ' were paid in the last quarter?',
    'SELECT count(*) FROM invoices i WHERE i.account = ' || n || ' AND i.paid_at >= now() - interval ''3 months''',
    200 + n % 900, 20 + n % 90, status, error, at, at + make_interval(secs => took / 1000.0), took,
    '{"gen_ai.request.temperature": 0.1}', md5('writer')::uuid, n + 1, decode(hash, 'hex')
FROM pg_temp.source WHERE digit IN (5, 6, 7);
INSERT INTO audit.activities (id, tenant_id, user_id, request_id, trace_id, span_id, service_name, action_type, target_type, target_id, status, created_at,
    latency_ms, metadata, writer_id, seq, salt)
SELECT pg_temp.record_id(at, hash), tenant, person, request, request, substr(hash, 1, 16), 'bench', 'http_request', 'http.route', '/orders/{id}',
    'succeeded', at, took, '{"http.request.method": "GET", "url.path": "/orders/7", "http.response.status_code": 200}', md5('writer')::uuid,
    n + 1, decode(hash, 'hex')
FROM pg_temp.source WHERE digit > 7;
DROP VIEW pg_temp.source;
