-- Ready views of the families: events of an action_type with fields of their own, which are in `metadata` under their names.
--
-- A family may be kept in audit.events or audit.activities (a program may route any type there), so each view reads both.
-- Values in `metadata` are what some span said: one that is no number, or too large, is NULL in a view, never an error.

-- Values of metadata -------------------------------------------------------------------

CREATE FUNCTION audit.integer_of(value jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN jsonb_typeof(value) = 'number' AND value::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN value::numeric::bigint
        WHEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~ '^[-+]?[0-9]{1,18}$' THEN (value #>> '{}')::bigint
    END;
COMMENT ON FUNCTION audit.integer_of(jsonb) IS 'The value as an integer, rounded; NULL if it is no number or too large.';

CREATE FUNCTION audit.tokens_of(value jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN audit.integer_of(value) BETWEEN 0 AND 1000000000000 THEN audit.integer_of(value) END;
COMMENT ON FUNCTION audit.tokens_of(jsonb) IS 'The value as the tokens of a call; NULL if no call can have so many.';

CREATE FUNCTION audit.number_of(value jsonb) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN jsonb_typeof(value) = 'number' AND abs(value::numeric) < 1e-300 THEN 0
        WHEN jsonb_typeof(value) = 'number' AND abs(value::numeric) < 1e300 THEN value::numeric::double precision
        WHEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~ '^[-+]?[0-9]{1,18}([.][0-9]{1,18})?$' THEN (value #>> '{}')::double precision
    END;
COMMENT ON FUNCTION audit.number_of(jsonb) IS 'The value as a number; NULL if it is none or too large.';

CREATE FUNCTION audit.boolean_of(value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN value #>> '{}' IN ('true', 'false') THEN value #>> '{}' = 'true' END;
COMMENT ON FUNCTION audit.boolean_of(jsonb) IS 'The value as true or false; NULL if it is neither.';

CREATE FUNCTION audit.uuid_of(value jsonb) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN value #>> '{}' ~ '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$' THEN (value #>> '{}')::uuid END;
COMMENT ON FUNCTION audit.uuid_of(jsonb) IS 'The value as a UUID; NULL if it is none.';

CREATE FUNCTION audit.time_of(id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_timestamp(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000.0::double precision);
COMMENT ON FUNCTION audit.time_of(uuid) IS 'The moment in a record id, to the millisecond.';

CREATE FUNCTION audit.counts_of(codes text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(jsonb_object_agg(code, n), '{}') FROM (SELECT code, count(*) AS n FROM unnest(codes) AS code WHERE code IS NOT NULL GROUP BY code) AS counted);
COMMENT ON FUNCTION audit.counts_of(text[]) IS 'How often each code occurs, as an object.';

-- The views ----------------------------------------------------------------------------

-- Each view has what all events have, and the fields of its family. None is made of another: an owner who renames one would
-- change them all.
DO $$
DECLARE
    common constant text := 'id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id, trace_id, service_name,
        created_at, latency_ms AS duration_ms, target_type, target_id, status, error_code, error_message';
    view text;
    family text;
    fields text;
    about text;
BEGIN
    FOR view, family, fields, about IN VALUES
        ('llm_calls', 'llm_call', $f$
            metadata ->> 'model' AS model, metadata ->> 'provider' AS provider, metadata ->> 'prompt_template_name' AS prompt_template_name,
            audit.integer_of(metadata -> 'prompt_template_version') AS prompt_template_version, input_summary, output_summary,
            audit.integer_of(metadata -> 'input_token_count') AS input_token_count,
            audit.integer_of(metadata -> 'output_token_count') AS output_token_count$f$,
            'Calls of models that are told as events, without the prompt; prompts are in audit.prompt_runs.'),
        ('tool_invocations', 'tool_invocation', $f$
            target_id AS tool, input_summary, output_summary, metadata ->> 'arguments_sha256' AS arguments_sha256$f$,
            'Calls of tools by agents.'),
        ('escalations', 'escalation', $f$
            metadata ->> 'reason' AS reason, metadata ->> 'severity' AS severity, metadata ->> 'escalated_to' AS escalated_to,
            input_summary, output_summary$f$,
            'What agents handed on to people.'),
        ('approvals', 'approval', $f$
            metadata ->> 'decision' AS decision, metadata ->> 'approved_by' AS approved_by, metadata ->> 'approver_role' AS approver_role,
            metadata ->> 'sql_text' AS sql_text, input_summary AS summary,
            audit.integer_of(metadata -> 'rows_affected') AS rows_affected, audit.uuid_of(metadata -> 'run_id') AS run_id$f$,
            'Writes that were approved, rejected or cancelled: by whom, in which role, and the query run that it led to.'),
        ('agent_executions', 'agent_execution', $f$
            metadata ->> 'execution_id' AS execution_id, target_id AS agent_name,
            coalesce(metadata ->> 'outcome', CASE status WHEN 'succeeded' THEN 'success' ELSE status::text END) AS outcome,
            audit.integer_of(metadata -> 'response_time_ms') AS response_time_ms,
            audit.integer_of(metadata -> 'processing_time_ms') AS processing_time_ms,
            audit.integer_of(metadata -> 'queue_time_ms') AS queue_time_ms,
            audit.integer_of(metadata -> 'http_status') AS http_status,
            audit.number_of(metadata -> 'credits_consumed') AS credits_consumed,
            metadata ->> 'user_agent' AS user_agent, metadata ->> 'ip_address' AS ip_address, input_summary, output_summary$f$,
            'Runs of agents.'),
        ('agent_logs', 'log', $f$
            metadata ->> 'category' AS category, metadata ->> 'level' AS level, metadata ->> 'message' AS message,
            metadata -> 'context' AS context, metadata ->> 'execution_id' AS execution_id$f$,
            'Log lines of agents.'),
        ('request_logs', 'http_request', $f$
            metadata ->> 'http.request.method' AS method, coalesce(metadata ->> 'url.path', metadata ->> 'url') AS path,
            coalesce(metadata ->> 'http.route', target_id) AS route,
            audit.integer_of(metadata -> 'http.response.status_code') AS status_code,
            audit.integer_of(metadata -> 'rpc.grpc.status_code') AS grpc_status_code,
            metadata ->> 'client.address' AS client_address, metadata ->> 'user_agent.original' AS user_agent,
            metadata ->> 'http.request.body' AS request_body, metadata ->> 'http.response.body' AS response_body,
            metadata ->> 'execution_id' AS execution_id$f$,
            'HTTP requests.'),
        ('transaction_events', 'transaction', $f$
            target_id AS transaction_id, audit.integer_of(metadata -> 'amount_cents') AS amount_cents, metadata ->> 'currency' AS currency,
            metadata ->> 'state' AS state, metadata ->> 'previous_state' AS previous_state,
            metadata ->> 'payment_reference' AS payment_reference, coalesce(metadata ->> 'actor', user_id) AS actor$f$,
            'Each change of state of each transaction.'),
        ('mandates', 'mandate', $f$
            target_id AS mandate_id, audit.integer_of(metadata -> 'limit_cents') AS limit_cents, metadata ->> 'currency' AS currency,
            metadata ->> 'period' AS period, metadata ->> 'state' AS state$f$,
            'Mandates to spend, each change a row.'),
        ('feedback', 'feedback', $f$
            audit.uuid_of(metadata -> 'run_id') AS run_id, audit.integer_of(metadata -> 'rating') AS rating,
            metadata ->> 'comment' AS comment, audit.boolean_of(metadata -> 'favourite') AS favourite$f$,
            'Ratings, comments and favourites, and the run that they refer to.'),
        ('system_errors', 'system_error', $f$
            metadata ->> 'fingerprint' AS fingerprint, metadata ->> 'error_type' AS error_type, metadata ->> 'severity' AS severity,
            metadata ->> 'component' AS component, metadata -> 'details' AS details$f$,
            'Errors of the system; the same error has the same fingerprint.'),
        ('system_metrics', 'system_metric', $f$
            metadata ->> 'metric' AS metric, audit.number_of(metadata -> 'value') AS value, metadata ->> 'unit' AS unit,
            metadata ->> 'component' AS component$f$,
            'Measurements of the system.'),
        ('security_events', 'security', $f$
            metadata ->> 'event' AS event, coalesce(metadata ->> 'source', metadata ->> 'client.address') AS source, input_summary, output_summary$f$,
            'Logins, denied access, changed rights, exported data; source is what the program called it, else the address of the client.')
    LOOP
        EXECUTE format('CREATE VIEW audit.%I WITH (security_invoker = true) AS
            SELECT %2$s, %3$s, metadata FROM audit.events WHERE action_type = %4$L
            UNION ALL
            SELECT %2$s, %3$s, metadata FROM audit.activities WHERE action_type = %4$L', view, common, fields, family);
        EXECUTE format('COMMENT ON VIEW audit.%I IS %L', view, about);
    END LOOP;
END
$$;

-- Figures ------------------------------------------------------------------------------

-- Nothing is rolled up: the records of an hour are found by their ids, so a row that arrives late is counted where it
-- belongs. A condition on the hour or the day is applied before the records of any other are read; without one, each hour
-- since the first record is looked at, and a single clock that was never set makes that half a million.
DO $$
DECLARE
    executions constant text := $f$
        count(*) AS total,
        count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE status IN ('failed', 'rejected', 'cancelled')) AS failed,
        avg(duration_ms)::double precision AS average_duration_ms,
        min(duration_ms) AS minimum_duration_ms,
        max(duration_ms) AS maximum_duration_ms,
        (percentile_disc('{0.95,0.99}'::double precision[]) WITHIN GROUP (ORDER BY duration_ms))[1] AS p95_duration_ms,
        (percentile_disc('{0.95,0.99}'::double precision[]) WITHIN GROUP (ORDER BY duration_ms))[2] AS p99_duration_ms,
        count(DISTINCT user_id) AS unique_users,
        sum(credits_consumed) AS credits_consumed,
        audit.counts_of(array_agg(left(error_code, 100))) AS error_counts$f$;
    calls constant text := $f$
        count(*) AS calls,
        count(*) FILTER (WHERE status IN ('failed', 'rejected', 'cancelled')) AS failed,
        CASE WHEN sum(input_token_count) <= 9223372036854775807 THEN sum(input_token_count)::bigint END AS input_token_count,
        CASE WHEN sum(output_token_count) <= 9223372036854775807 THEN sum(output_token_count)::bigint END AS output_token_count,
        avg(duration_ms)::double precision AS average_duration_ms,
        percentile_disc('0.95'::double precision) WITHIN GROUP (ORDER BY duration_ms) AS p95_duration_ms$f$;
    agents constant text := $f$
        SELECT id, tenant_id, agent_id, target_id AS agent_name, user_id, status, error_code, created_at, latency_ms AS duration_ms,
            audit.number_of(metadata -> 'credits_consumed') AS credits_consumed
        FROM %s WHERE action_type = 'agent_execution'$f$;
    models constant text := $f$
        SELECT id, tenant_id, metadata ->> 'model' AS model_name, metadata ->> 'provider' AS provider,
            metadata ->> 'prompt_template_name' AS prompt_template_name, audit.integer_of(metadata -> 'prompt_template_version') AS prompt_template_version,
            status, created_at, latency_ms AS duration_ms, audit.tokens_of(metadata -> 'input_token_count') AS input_token_count,
            audit.tokens_of(metadata -> 'output_token_count') AS output_token_count
        FROM %s WHERE action_type = 'llm_call'$f$;
    prompts constant text := '
        SELECT id, tenant_id, model_name, provider, prompt_template_name, prompt_template_version::bigint, status, created_at, duration_ms,
            CASE WHEN input_token_count >= 0 THEN input_token_count::bigint END AS input_token_count,
            CASE WHEN output_token_count >= 0 THEN output_token_count::bigint END AS output_token_count
        FROM audit.prompt_runs';
    -- Of any type, for which the first and the last are found by the key. An hour is one of ids, so its ends are those of ids:
    -- by the time of a forged row, which its writer may choose, others would be left out.
    -- Each table's own first: only so does a reader's come by the index of its tenant.
    ends constant text := '(SELECT id FROM ((SELECT id FROM audit.events ORDER BY id %1$s LIMIT 1) UNION ALL (SELECT id FROM audit.activities ORDER BY id %1$s LIMIT 1)
        UNION ALL (SELECT id FROM audit.prompt_runs ORDER BY id %1$s LIMIT 1)) AS r ORDER BY id %1$s LIMIT 1)';
    view text;
    bucket text;
    hours integer;
    keys text;
    figures text;
    source text;
    about text;
BEGIN
    FOR view, bucket, hours, keys, figures, source, about IN
        SELECT v.*, 'Executions of agents by ' || v.bucket || ' (UTC), tenant and agent: outcomes, durations in milliseconds, users, credits, errors by code (their first 100 characters). Ask for a range of time.'
        FROM (VALUES
            ('agent_metrics_hourly', 'hour', 1, 'tenant_id, agent_id, agent_name', executions, format(agents, 'audit.events') || ' UNION ALL ' || format(agents, 'audit.activities')),
            ('agent_metrics_daily', 'day', 24, 'tenant_id, agent_id, agent_name', executions, format(agents, 'audit.events') || ' UNION ALL ' || format(agents, 'audit.activities'))
        ) AS v (view, bucket, hours, keys, figures, source)
        UNION ALL
        VALUES ('model_usage', 'day', 24, 'tenant_id, model_name, provider, prompt_template_name, prompt_template_version', calls,
            prompts || ' UNION ALL ' || format(models, 'audit.events') || ' UNION ALL ' || format(models, 'audit.activities'),
            'Calls of models by day (UTC), tenant, model, template and version, told as prompt runs or as events llm_call: how many, tokens, durations in milliseconds. Join prices of your own to it. Ask for a range of time.')
    LOOP
        EXECUTE format($f$CREATE VIEW audit.%1$I WITH (security_invoker = true) AS
            SELECT b.%2$I, m.*
            FROM generate_series(
                    date_trunc(%2$L, audit.time_of(%7$s), 'UTC'),
                    least(audit.time_of(%8$s), now()), interval '%3$s hours') AS b (%2$I),
                LATERAL (
                    SELECT %4$s, %5$s
                    FROM (%6$s) AS r
                    WHERE id >= audit.id_at(b.%2$I) AND id < audit.id_at(b.%2$I + interval '%3$s hours')
                    GROUP BY %4$s
                ) AS m$f$, view, bucket, hours, keys, figures, source, format(ends, ''), format(ends, 'DESC'));
        EXECUTE format('COMMENT ON VIEW audit.%I IS %L', view, about);
    END LOOP;
END
$$;

-- What is read of metadata stands apart: of a single relation Postgres 15 writes the columns of a view otherwise than 16.
CREATE VIEW audit.user_agent_interactions WITH (security_invoker = true) AS
    SELECT r.tenant_id, r.user_id, r.agent_id,
        max(f.agent_name) AS agent_name,
        count(f.executed_at) AS executions,
        count(f.executed_at) FILTER (WHERE r.status = 'succeeded') AS succeeded,
        count(f.executed_at) / (1 + extract(day FROM max(f.executed_at) - min(f.executed_at)))::double precision AS executions_per_day,
        mode() WITHIN GROUP (ORDER BY extract(hour FROM f.executed_at AT TIME ZONE 'UTC')::integer) AS preferred_hour,
        min(f.executed_at) AS first_at,
        max(f.executed_at) AS last_at,
        avg(f.rating)::double precision AS rating,
        (array_agg(f.favourite ORDER BY r.id DESC) FILTER (WHERE f.favourite IS NOT NULL))[1] AS favourite
    FROM (
        SELECT id, tenant_id, user_id, agent_id, target_id, action_type, status, created_at, metadata FROM audit.events WHERE action_type IN ('agent_execution', 'feedback')
        UNION ALL
        SELECT id, tenant_id, user_id, agent_id, target_id, action_type, status, created_at, metadata FROM audit.activities WHERE action_type IN ('agent_execution', 'feedback')
    ) AS r, LATERAL (
        SELECT CASE r.action_type WHEN 'agent_execution' THEN r.target_id END AS agent_name,
            CASE r.action_type WHEN 'agent_execution' THEN r.created_at END AS executed_at,
            CASE r.action_type WHEN 'feedback' THEN audit.integer_of(r.metadata -> 'rating') END AS rating,
            CASE r.action_type WHEN 'feedback' THEN audit.boolean_of(r.metadata -> 'favourite') END AS favourite
    ) AS f
    WHERE r.user_id IS NOT NULL
    -- An agent is known by its id; one that has none, by its name.
    GROUP BY r.tenant_id, r.user_id, r.agent_id, CASE WHEN r.agent_id IS NULL THEN f.agent_name END;
COMMENT ON VIEW audit.user_agent_interactions IS 'How each user works with each agent: executions, success, how many a day, the hour (UTC) with most of them, the average rating, and whether it is a favourite.';

CREATE VIEW audit.transactions WITH (security_invoker = true) AS
    SELECT DISTINCT ON (r.tenant_id, r.target_id) r.target_id AS transaction_id, r.tenant_id, r.user_id, r.agent_id, r.request_id, r.created_at AS changed_at,
        f.amount_cents, f.currency, f.state, f.payment_reference, f.actor, r.status, r.error_code, r.id AS event_id
    FROM (
        SELECT id, tenant_id, user_id, agent_id, request_id, created_at, target_id, metadata, status, error_code FROM audit.events
        WHERE action_type = 'transaction' AND target_id IS NOT NULL AND created_at <= now() + interval '1 day'
        UNION ALL
        SELECT id, tenant_id, user_id, agent_id, request_id, created_at, target_id, metadata, status, error_code FROM audit.activities
        WHERE action_type = 'transaction' AND target_id IS NOT NULL AND created_at <= now() + interval '1 day'
    ) AS r, LATERAL (
        SELECT audit.integer_of(r.metadata -> 'amount_cents') AS amount_cents, r.metadata ->> 'currency' AS currency, r.metadata ->> 'state' AS state,
            r.metadata ->> 'payment_reference' AS payment_reference, coalesce(r.metadata ->> 'actor', r.user_id) AS actor
    ) AS f
    ORDER BY r.tenant_id, r.target_id, r.created_at DESC, r.id DESC;
COMMENT ON VIEW audit.transactions IS 'Each transaction as its latest event left it, which therefore says the amount again. What is dated more than a day ahead is left out.';

-- A request as a tree ------------------------------------------------------------------

CREATE FUNCTION audit.request_story(request_id text, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL) RETURNS TABLE (
        place bigint, depth integer, kind text, what text, target_type text, target_id text, user_id text, learned_user_id text, status audit.run_status,
        error_code text, error_message text, began_at timestamptz, duration_ms bigint, id uuid, parent_id uuid, tenant_id uuid, metadata jsonb)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = 'off'
    SET max_parallel_workers_per_gather = '0'
    -- As for audit.request_trail.
    SET enable_nestloop = 'off'
AS $$
    WITH RECURSIVE records AS MATERIALIZED (
        SELECT * FROM audit.request_trail($1, $2, $3)
    ), nodes AS MATERIALIZED (
        -- A forged row may have the id of another in the other table: one of them has a place, or each way down would count twice.
        SELECT row_number() OVER (ORDER BY began_at, seq, id) AS number, * FROM (
            SELECT DISTINCT ON (id) id, parent_id, began_at, seq FROM records ORDER BY id, parent_id IS NOT NULL, began_at, seq) AS once
    ), tree AS (
        SELECT 0 AS depth, n.id, ARRAY[n.number] AS path FROM nodes n WHERE NOT EXISTS (SELECT 1 FROM nodes p WHERE p.id = n.parent_id)
        UNION ALL
        -- Each step costs as much as all before it, and no program nests so deep.
        SELECT t.depth + 1, n.id, t.path || n.number FROM tree t JOIN nodes n ON n.parent_id = t.id WHERE t.depth < 200
    )
    -- No way leads from the top into a circle of parents, which only forged rows have: what is in one, or below it, is told
    -- last, and so is what is deeper than two hundred.
    SELECT row_number() OVER (ORDER BY t.path NULLS LAST, r.began_at, r.seq, r.id), coalesce(t.depth, 0), r.kind, r.what, r.target_type, r.target_id,
        r.user_id, r.learned_user_id, r.status, r.error_code, r.error_message, r.began_at, r.duration_ms, r.id, r.parent_id, r.tenant_id, r.metadata
    FROM records r LEFT JOIN tree t ON t.id = r.id
    ORDER BY 1
$$;
COMMENT ON FUNCTION audit.request_story(text, timestamptz, timestamptz) IS 'Everything of one request as a tree: each record below the one that it was made in, with its depth, in the order in which a reader reads it; with times, what began from the one on and before the other, as audit.request_trail. Read with the reader''s own rights.';

-- Who may read them --------------------------------------------------------------------

DO $$
DECLARE
    view regclass;
    function regprocedure;
BEGIN
    FOR view IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind = 'v' AND c.relowner = current_user::regrole LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', view);
        EXECUTE format('GRANT SELECT ON %s TO audit_reader, audit_auditor', view);
        EXECUTE format('ALTER VIEW %s OWNER TO audit_owner', view);
    END LOOP;
    FOREACH function IN ARRAY ARRAY['audit.integer_of(jsonb)', 'audit.number_of(jsonb)', 'audit.boolean_of(jsonb)', 'audit.uuid_of(jsonb)',
        'audit.time_of(uuid)', 'audit.tokens_of(jsonb)', 'audit.counts_of(text[])', 'audit.request_story(text, timestamptz, timestamptz)']::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO audit_reader, audit_auditor', function);
    END LOOP;
END
$$;
