--@ ["object","audit","schema","",null]
CREATE SCHEMA audit;
--@ ["owner","audit","","",null]
ALTER SCHEMA audit OWNER TO audit_owner;
--@ ["privilege","audit","[\"audit_auditor\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit TO audit_auditor;
--@ ["privilege","audit","[\"audit_operator\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit TO audit_operator;
--@ ["privilege","audit","[\"audit_reader\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit TO audit_reader;
--@ ["privilege","audit","[\"audit_sealer\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit TO audit_sealer;
--@ ["privilege","audit","[\"audit_writer\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit TO audit_writer;
--@ ["privilege","audit","[null, \"CREATE\", \"\"]","",null]
GRANT CREATE ON SCHEMA audit TO audit_owner;
--@ ["privilege","audit","[null, \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit TO audit_owner;
--@ ["column","audit.activities","action_type","","ALTER TABLE audit.activities ALTER COLUMN action_type TYPE text USING action_type::text;"]
ALTER TABLE audit.activities ADD COLUMN action_type text;
--@ ["column","audit.activities","agent_id","","ALTER TABLE audit.activities ALTER COLUMN agent_id TYPE uuid USING agent_id::uuid;"]
ALTER TABLE audit.activities ADD COLUMN agent_id uuid;
--@ ["column","audit.activities","conversation_id","","ALTER TABLE audit.activities ALTER COLUMN conversation_id TYPE text USING conversation_id::text;"]
ALTER TABLE audit.activities ADD COLUMN conversation_id text;
--@ ["column","audit.activities","created_at","","ALTER TABLE audit.activities ALTER COLUMN created_at TYPE timestamp with time zone USING created_at::timestamp with time zone;"]
ALTER TABLE audit.activities ADD COLUMN created_at timestamp with time zone;
--@ ["column","audit.activities","error_code","","ALTER TABLE audit.activities ALTER COLUMN error_code TYPE text USING error_code::text;"]
ALTER TABLE audit.activities ADD COLUMN error_code text;
--@ ["column","audit.activities","error_message","","ALTER TABLE audit.activities ALTER COLUMN error_message TYPE text USING error_message::text;"]
ALTER TABLE audit.activities ADD COLUMN error_message text;
--@ ["column","audit.activities","id","","ALTER TABLE audit.activities ALTER COLUMN id TYPE uuid USING id::uuid;"]
ALTER TABLE audit.activities ADD COLUMN id uuid;
--@ ["column","audit.activities","input_summary","","ALTER TABLE audit.activities ALTER COLUMN input_summary TYPE text USING input_summary::text;"]
ALTER TABLE audit.activities ADD COLUMN input_summary text;
--@ ["column","audit.activities","latency_ms","","ALTER TABLE audit.activities ALTER COLUMN latency_ms TYPE bigint USING latency_ms::bigint;"]
ALTER TABLE audit.activities ADD COLUMN latency_ms bigint;
--@ ["column","audit.activities","llm_session_id","","ALTER TABLE audit.activities ALTER COLUMN llm_session_id TYPE uuid USING llm_session_id::uuid;"]
ALTER TABLE audit.activities ADD COLUMN llm_session_id uuid;
--@ ["column","audit.activities","metadata","","ALTER TABLE audit.activities ALTER COLUMN metadata TYPE jsonb USING metadata::jsonb;"]
ALTER TABLE audit.activities ADD COLUMN metadata jsonb;
--@ ["column","audit.activities","output_summary","","ALTER TABLE audit.activities ALTER COLUMN output_summary TYPE text USING output_summary::text;"]
ALTER TABLE audit.activities ADD COLUMN output_summary text;
--@ ["column","audit.activities","parent_id","","ALTER TABLE audit.activities ALTER COLUMN parent_id TYPE uuid USING parent_id::uuid;"]
ALTER TABLE audit.activities ADD COLUMN parent_id uuid;
--@ ["column","audit.activities","problems","","ALTER TABLE audit.activities ALTER COLUMN problems TYPE text[] USING problems::text[];"]
ALTER TABLE audit.activities ADD COLUMN problems text[];
--@ ["column","audit.activities","redactions","","ALTER TABLE audit.activities ALTER COLUMN redactions TYPE text[] USING redactions::text[];"]
ALTER TABLE audit.activities ADD COLUMN redactions text[];
--@ ["column","audit.activities","request_id","","ALTER TABLE audit.activities ALTER COLUMN request_id TYPE text USING request_id::text;"]
ALTER TABLE audit.activities ADD COLUMN request_id text;
--@ ["column","audit.activities","salt","","ALTER TABLE audit.activities ALTER COLUMN salt TYPE bytea USING salt::bytea;"]
ALTER TABLE audit.activities ADD COLUMN salt bytea;
--@ ["column","audit.activities","seq","","ALTER TABLE audit.activities ALTER COLUMN seq TYPE bigint USING seq::bigint;"]
ALTER TABLE audit.activities ADD COLUMN seq bigint;
--@ ["column","audit.activities","service_name","","ALTER TABLE audit.activities ALTER COLUMN service_name TYPE text USING service_name::text;"]
ALTER TABLE audit.activities ADD COLUMN service_name text;
--@ ["column","audit.activities","span_id","","ALTER TABLE audit.activities ALTER COLUMN span_id TYPE text USING span_id::text;"]
ALTER TABLE audit.activities ADD COLUMN span_id text;
--@ ["column","audit.activities","status","","ALTER TABLE audit.activities ALTER COLUMN status TYPE audit.run_status USING status::audit.run_status;"]
ALTER TABLE audit.activities ADD COLUMN status audit.run_status;
--@ ["column","audit.activities","target_id","","ALTER TABLE audit.activities ALTER COLUMN target_id TYPE text USING target_id::text;"]
ALTER TABLE audit.activities ADD COLUMN target_id text;
--@ ["column","audit.activities","target_type","","ALTER TABLE audit.activities ALTER COLUMN target_type TYPE text USING target_type::text;"]
ALTER TABLE audit.activities ADD COLUMN target_type text;
--@ ["column","audit.activities","tenant_id","","ALTER TABLE audit.activities ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid;"]
ALTER TABLE audit.activities ADD COLUMN tenant_id uuid;
--@ ["column","audit.activities","trace_id","","ALTER TABLE audit.activities ALTER COLUMN trace_id TYPE text USING trace_id::text;"]
ALTER TABLE audit.activities ADD COLUMN trace_id text;
--@ ["column","audit.activities","user_id","","ALTER TABLE audit.activities ALTER COLUMN user_id TYPE text USING user_id::text;"]
ALTER TABLE audit.activities ADD COLUMN user_id text;
--@ ["column","audit.activities","user_role","","ALTER TABLE audit.activities ALTER COLUMN user_role TYPE text USING user_role::text;"]
ALTER TABLE audit.activities ADD COLUMN user_role text;
--@ ["column","audit.activities","writer_id","","ALTER TABLE audit.activities ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.activities ADD COLUMN writer_id uuid;
--@ ["column default","audit.activities","metadata","",null]
ALTER TABLE audit.activities ALTER COLUMN metadata SET DEFAULT '{}'::jsonb;
--@ ["column default","audit.activities","problems","",null]
ALTER TABLE audit.activities ALTER COLUMN problems SET DEFAULT '{}'::text[];
--@ ["column default","audit.activities","redactions","",null]
ALTER TABLE audit.activities ALTER COLUMN redactions SET DEFAULT '{}'::text[];
--@ ["column not null","audit.activities","created_at","",null]
ALTER TABLE audit.activities ALTER COLUMN created_at SET NOT NULL;
--@ ["column not null","audit.activities","id","",null]
ALTER TABLE audit.activities ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.activities","metadata","",null]
ALTER TABLE audit.activities ALTER COLUMN metadata SET NOT NULL;
--@ ["column not null","audit.activities","problems","",null]
ALTER TABLE audit.activities ALTER COLUMN problems SET NOT NULL;
--@ ["column not null","audit.activities","redactions","",null]
ALTER TABLE audit.activities ALTER COLUMN redactions SET NOT NULL;
--@ ["column not null","audit.activities","salt","",null]
ALTER TABLE audit.activities ALTER COLUMN salt SET NOT NULL;
--@ ["column not null","audit.activities","seq","",null]
ALTER TABLE audit.activities ALTER COLUMN seq SET NOT NULL;
--@ ["column not null","audit.activities","status","",null]
ALTER TABLE audit.activities ALTER COLUMN status SET NOT NULL;
--@ ["column not null","audit.activities","writer_id","",null]
ALTER TABLE audit.activities ALTER COLUMN writer_id SET NOT NULL;
--@ ["column statistics","audit.activities","action_type","",null]
ALTER TABLE audit.activities ALTER COLUMN action_type SET STATISTICS 0;
--@ ["column statistics","audit.activities","agent_id","",null]
ALTER TABLE audit.activities ALTER COLUMN agent_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","conversation_id","",null]
ALTER TABLE audit.activities ALTER COLUMN conversation_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","error_code","",null]
ALTER TABLE audit.activities ALTER COLUMN error_code SET STATISTICS 0;
--@ ["column statistics","audit.activities","error_message","",null]
ALTER TABLE audit.activities ALTER COLUMN error_message SET STATISTICS 0;
--@ ["column statistics","audit.activities","input_summary","",null]
ALTER TABLE audit.activities ALTER COLUMN input_summary SET STATISTICS 0;
--@ ["column statistics","audit.activities","latency_ms","",null]
ALTER TABLE audit.activities ALTER COLUMN latency_ms SET STATISTICS 0;
--@ ["column statistics","audit.activities","llm_session_id","",null]
ALTER TABLE audit.activities ALTER COLUMN llm_session_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","metadata","",null]
ALTER TABLE audit.activities ALTER COLUMN metadata SET STATISTICS 0;
--@ ["column statistics","audit.activities","output_summary","",null]
ALTER TABLE audit.activities ALTER COLUMN output_summary SET STATISTICS 0;
--@ ["column statistics","audit.activities","parent_id","",null]
ALTER TABLE audit.activities ALTER COLUMN parent_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","problems","",null]
ALTER TABLE audit.activities ALTER COLUMN problems SET STATISTICS 0;
--@ ["column statistics","audit.activities","redactions","",null]
ALTER TABLE audit.activities ALTER COLUMN redactions SET STATISTICS 0;
--@ ["column statistics","audit.activities","request_id","",null]
ALTER TABLE audit.activities ALTER COLUMN request_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","salt","",null]
ALTER TABLE audit.activities ALTER COLUMN salt SET STATISTICS 0;
--@ ["column statistics","audit.activities","seq","",null]
ALTER TABLE audit.activities ALTER COLUMN seq SET STATISTICS 0;
--@ ["column statistics","audit.activities","service_name","",null]
ALTER TABLE audit.activities ALTER COLUMN service_name SET STATISTICS 0;
--@ ["column statistics","audit.activities","span_id","",null]
ALTER TABLE audit.activities ALTER COLUMN span_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","status","",null]
ALTER TABLE audit.activities ALTER COLUMN status SET STATISTICS 0;
--@ ["column statistics","audit.activities","target_id","",null]
ALTER TABLE audit.activities ALTER COLUMN target_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","target_type","",null]
ALTER TABLE audit.activities ALTER COLUMN target_type SET STATISTICS 0;
--@ ["column statistics","audit.activities","tenant_id","",null]
ALTER TABLE audit.activities ALTER COLUMN tenant_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","trace_id","",null]
ALTER TABLE audit.activities ALTER COLUMN trace_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","user_id","",null]
ALTER TABLE audit.activities ALTER COLUMN user_id SET STATISTICS 0;
--@ ["column statistics","audit.activities","user_role","",null]
ALTER TABLE audit.activities ALTER COLUMN user_role SET STATISTICS 0;
--@ ["column statistics","audit.activities","writer_id","",null]
ALTER TABLE audit.activities ALTER COLUMN writer_id SET STATISTICS 0;
--@ ["columns","audit.activities","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"agent_id\", \"uuid\"], [\"llm_session_id\", \"uuid\"], [\"parent_id\", \"uuid\"], [\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"], [\"created_at\", \"timestamp with time zone\"], [\"latency_ms\", \"bigint\"], [\"status\", \"audit.run_status\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"request_id\", \"text\"], [\"conversation_id\", \"text\"], [\"trace_id\", \"text\"], [\"span_id\", \"text\"], [\"service_name\", \"text\"], [\"action_type\", \"text\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"metadata\", \"jsonb\"], [\"problems\", \"text[]\"], [\"redactions\", \"text[]\"], [\"salt\", \"bytea\"]]",null]
--@ ["constraint","audit.activities","activities_created_at_check",null,null]
ALTER TABLE audit.activities ADD CONSTRAINT activities_created_at_check CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone)));
--@ ["constraint","audit.activities","activities_pkey",null,null]
ALTER TABLE audit.activities ADD CONSTRAINT activities_pkey PRIMARY KEY (id);
--@ ["constraint","audit.activities","activities_size",null,null]
ALTER TABLE audit.activities ADD CONSTRAINT activities_size CHECK ((((((((((((((((COALESCE(octet_length(user_id), 0) + COALESCE(octet_length(user_role), 0)) + COALESCE(octet_length(request_id), 0)) + COALESCE(octet_length(conversation_id), 0)) + COALESCE(octet_length(trace_id), 0)) + COALESCE(octet_length(span_id), 0)) + COALESCE(octet_length(service_name), 0)) + COALESCE(octet_length(action_type), 0)) + COALESCE(octet_length(target_type), 0)) + COALESCE(octet_length(target_id), 0)) + COALESCE(octet_length(input_summary), 0)) + COALESCE(octet_length(output_summary), 0)) + COALESCE(octet_length(error_code), 0)) + COALESCE(octet_length(error_message), 0)) <= 150994944) AND (octet_length(salt) <= 64) AND
CASE
    WHEN ((pg_column_size(metadata) > 2000) OR (pg_column_compression(metadata) IS NOT NULL)) THEN (octet_length((metadata)::text) <= 150994944)
    ELSE true
END AND (cardinality(problems) <= 101) AND
CASE
    WHEN ((pg_column_size(problems) > 2000) OR (pg_column_compression(problems) IS NOT NULL)) THEN (octet_length(array_to_string(problems, ','::text)) <= 1048576)
    ELSE true
END AND (cardinality(redactions) <= 101) AND
CASE
    WHEN ((pg_column_size(redactions) > 2000) OR (pg_column_compression(redactions) IS NOT NULL)) THEN (octet_length(array_to_string(redactions, ','::text)) <= 1048576)
    ELSE true
END));
--@ ["forced row security","audit.activities","","",null]
ALTER TABLE audit.activities FORCE ROW LEVEL SECURITY;
--@ ["index","audit.activities","audit.activities USING btree (request_id, tenant_id)","long",null]
CREATE INDEX ON audit.activities USING btree (request_id, tenant_id);
--@ ["index","audit.activities","audit.activities USING btree (tenant_id, id)","harmless",null]
CREATE INDEX ON audit.activities USING btree (tenant_id, id);
--@ ["object","audit.activities","table","",null]
--@ ["owner","audit.activities","","",null]
ALTER TABLE audit.activities OWNER TO audit_owner;
--@ ["policy","audit.activities","adding",null,null]
CREATE POLICY adding ON audit.activities FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.activities","auditor",null,null]
CREATE POLICY auditor ON audit.activities FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.activities","maintainer",null,null]
CREATE POLICY maintainer ON audit.activities FOR SELECT TO audit_maintainer USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["policy","audit.activities","tenant",null,null]
CREATE POLICY tenant ON audit.activities FOR SELECT TO audit_reader USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["privilege","audit.activities","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.activities TO audit_auditor;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.activities TO audit_maintainer;
--@ ["privilege","audit.activities","[\"audit_owner\", \"SELECT\", \" (id)\"]","",null]
GRANT SELECT (id) ON TABLE audit.activities TO audit_owner;
--@ ["privilege","audit.activities","[\"audit_owner\", \"UPDATE\", \" (id)\"]","",null]
GRANT UPDATE (id) ON TABLE audit.activities TO audit_owner;
--@ ["privilege","audit.activities","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.activities TO audit_reader;
--@ ["row security","audit.activities","","",null]
ALTER TABLE audit.activities ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.activities","","p RANGE (id)","[\"audit\", \"activities\"]"]
--@ ["trigger","audit.activities","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.activities FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.activities ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.activities FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.activities ENABLE ALWAYS TRIGGER append_only;
--@ ["function","audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea)","","f (writer uuid, secret bytea, first_seq bigint, last_seq bigint, records jsonb, dead_letters integer, first_id uuid, last_id uuid, service_name text, library_version text, mark bytea DEFAULT NULL::bytea, root bytea DEFAULT NULL::bytea, fingerprints bytea DEFAULT NULL::bytea) void",null]
CREATE OR REPLACE FUNCTION audit.add_batch(writer uuid, secret bytea, first_seq bigint, last_seq bigint, records jsonb, dead_letters integer, first_id uuid, last_id uuid, service_name text, library_version text, mark bytea DEFAULT NULL::bytea, root bytea DEFAULT NULL::bytea, fingerprints bytea DEFAULT NULL::bytea)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    IF writer IS NULL OR secret IS NULL OR octet_length(secret) <> 32 THEN
        RAISE EXCEPTION 'audit trail: a writer has an id, and a secret of 32 bytes' USING ERRCODE = 'AT002';
    END IF;
    IF first_seq = 1 THEN
        -- The first who knows of this writer is this writer.
        INSERT INTO audit.writers (writer_id, login, secret_sha256, service_name)
            VALUES (writer, session_user, sha256(secret), service_name) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM audit.check_writer(writer, secret);
    -- A concurrent insert of the same batch waits for this one at the primary key, and then fails.
    IF first_seq IS DISTINCT FROM audit.writer_position(writer) THEN
        RAISE EXCEPTION 'audit trail: the batch does not begin where the last one of its writer ends' USING ERRCODE = 'AT001';
    END IF;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, mark, service_name, library_version, root, fingerprints)
        VALUES (writer, first_seq, last_seq, records, dead_letters, first_id, last_id, mark, service_name, library_version, root, fingerprints);
END
$function$
;
--@ ["object","audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea)","function","",null]
--@ ["owner","audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea)","","",null]
ALTER FUNCTION audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea) TO audit_writer;
--@ ["privilege","audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.add_batch(uuid,bytea,bigint,bigint,jsonb,integer,uuid,uuid,text,text,bytea,bytea,bytea) TO audit_maintainer;
--@ ["function","audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea)","","f (writer uuid, secret bytea, seq bigint, record_id uuid, kind text, sqlstate text, reason text, frame bytea, salt bytea) void",null]
CREATE OR REPLACE FUNCTION audit.add_dead_letter(writer uuid, secret bytea, seq bigint, record_id uuid, kind text, sqlstate text, reason text, frame bytea, salt bytea)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    batch record;
BEGIN
    PERFORM audit.check_writer(writer, secret);
    SELECT b.first_seq, b.last_seq, b.dead_letters, b.committed_at INTO batch FROM audit.batches b
        WHERE b.writer_id = writer AND b.first_seq <= seq AND b.last_seq >= seq AND b.xmin = pg_current_xact_id()::xid;
    IF NOT FOUND OR batch.dead_letters <= (
        SELECT count(*) FROM audit.dead_letters d WHERE d.writer_id = writer AND d.seq BETWEEN batch.first_seq AND batch.last_seq)
    THEN
        RAISE EXCEPTION 'audit trail: the batch of this transaction has no such dead letter' USING ERRCODE = 'AT001';
    END IF;
    INSERT INTO audit.dead_letters (writer_id, seq, record_id, kind, sqlstate, reason, frame, salt, created_at)
        VALUES (writer, seq, record_id, kind, sqlstate, left(reason, 16384), frame, salt, batch.committed_at);
END
$function$
;
--@ ["object","audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea)","function","",null]
--@ ["owner","audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea)","","",null]
ALTER FUNCTION audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea) TO audit_writer;
--@ ["privilege","audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.add_dead_letter(uuid,bytea,bigint,uuid,text,text,text,bytea,bytea) TO audit_maintainer;
--@ ["object","audit.agent_executions","view","",null]
--@ ["owner","audit.agent_executions","","",null]
ALTER VIEW audit.agent_executions OWNER TO audit_owner;
--@ ["privilege","audit.agent_executions","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_executions TO audit_auditor;
--@ ["privilege","audit.agent_executions","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_executions TO audit_reader;
--@ ["privilege","audit.agent_executions","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.agent_executions TO audit_owner;
--@ ["privilege","audit.agent_executions","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.agent_executions TO audit_owner;
--@ ["privilege","audit.agent_executions","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.agent_executions TO audit_owner;
--@ ["privilege","audit.agent_executions","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_executions TO audit_owner;
--@ ["privilege","audit.agent_executions","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.agent_executions TO audit_owner;
--@ ["privilege","audit.agent_executions","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.agent_executions TO audit_owner;
--@ ["privilege","audit.agent_executions","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.agent_executions TO audit_owner;
--@ ["view","audit.agent_executions","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"execution_id\", \"text\"], [\"agent_name\", \"text\"], [\"outcome\", \"text\"], [\"response_time_ms\", \"bigint\"], [\"processing_time_ms\", \"bigint\"], [\"queue_time_ms\", \"bigint\"], [\"http_status\", \"bigint\"], [\"credits_consumed\", \"double precision\"], [\"user_agent\", \"text\"], [\"ip_address\", \"text\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.agent_executions WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'execution_id'::text) AS execution_id,
    events.target_id AS agent_name,
    COALESCE((events.metadata ->> 'outcome'::text),
        CASE events.status
            WHEN 'succeeded'::audit.run_status THEN 'success'::text
            ELSE (events.status)::text
        END) AS outcome,
    audit.integer_of((events.metadata -> 'response_time_ms'::text)) AS response_time_ms,
    audit.integer_of((events.metadata -> 'processing_time_ms'::text)) AS processing_time_ms,
    audit.integer_of((events.metadata -> 'queue_time_ms'::text)) AS queue_time_ms,
    audit.integer_of((events.metadata -> 'http_status'::text)) AS http_status,
    audit.number_of((events.metadata -> 'credits_consumed'::text)) AS credits_consumed,
    (events.metadata ->> 'user_agent'::text) AS user_agent,
    (events.metadata ->> 'ip_address'::text) AS ip_address,
    events.input_summary,
    events.output_summary,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'agent_execution'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'execution_id'::text) AS execution_id,
    activities.target_id AS agent_name,
    COALESCE((activities.metadata ->> 'outcome'::text),
        CASE activities.status
            WHEN 'succeeded'::audit.run_status THEN 'success'::text
            ELSE (activities.status)::text
        END) AS outcome,
    audit.integer_of((activities.metadata -> 'response_time_ms'::text)) AS response_time_ms,
    audit.integer_of((activities.metadata -> 'processing_time_ms'::text)) AS processing_time_ms,
    audit.integer_of((activities.metadata -> 'queue_time_ms'::text)) AS queue_time_ms,
    audit.integer_of((activities.metadata -> 'http_status'::text)) AS http_status,
    audit.number_of((activities.metadata -> 'credits_consumed'::text)) AS credits_consumed,
    (activities.metadata ->> 'user_agent'::text) AS user_agent,
    (activities.metadata ->> 'ip_address'::text) AS ip_address,
    activities.input_summary,
    activities.output_summary,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'agent_execution'::text);
--@ ["object","audit.agent_logs","view","",null]
--@ ["owner","audit.agent_logs","","",null]
ALTER VIEW audit.agent_logs OWNER TO audit_owner;
--@ ["privilege","audit.agent_logs","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_logs TO audit_auditor;
--@ ["privilege","audit.agent_logs","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_logs TO audit_reader;
--@ ["privilege","audit.agent_logs","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.agent_logs TO audit_owner;
--@ ["privilege","audit.agent_logs","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.agent_logs TO audit_owner;
--@ ["privilege","audit.agent_logs","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.agent_logs TO audit_owner;
--@ ["privilege","audit.agent_logs","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_logs TO audit_owner;
--@ ["privilege","audit.agent_logs","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.agent_logs TO audit_owner;
--@ ["privilege","audit.agent_logs","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.agent_logs TO audit_owner;
--@ ["privilege","audit.agent_logs","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.agent_logs TO audit_owner;
--@ ["view","audit.agent_logs","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"category\", \"text\"], [\"level\", \"text\"], [\"message\", \"text\"], [\"context\", \"jsonb\"], [\"execution_id\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.agent_logs WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'category'::text) AS category,
    (events.metadata ->> 'level'::text) AS level,
    (events.metadata ->> 'message'::text) AS message,
    (events.metadata -> 'context'::text) AS context,
    (events.metadata ->> 'execution_id'::text) AS execution_id,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'log'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'category'::text) AS category,
    (activities.metadata ->> 'level'::text) AS level,
    (activities.metadata ->> 'message'::text) AS message,
    (activities.metadata -> 'context'::text) AS context,
    (activities.metadata ->> 'execution_id'::text) AS execution_id,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'log'::text);
--@ ["object","audit.agent_metrics_daily","view","",null]
--@ ["owner","audit.agent_metrics_daily","","",null]
ALTER VIEW audit.agent_metrics_daily OWNER TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_metrics_daily TO audit_auditor;
--@ ["privilege","audit.agent_metrics_daily","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_metrics_daily TO audit_reader;
--@ ["privilege","audit.agent_metrics_daily","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["privilege","audit.agent_metrics_daily","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.agent_metrics_daily TO audit_owner;
--@ ["view","audit.agent_metrics_daily","","[[\"day\", \"timestamp with time zone\"], [\"tenant_id\", \"uuid\"], [\"agent_id\", \"uuid\"], [\"agent_name\", \"text\"], [\"total\", \"bigint\"], [\"succeeded\", \"bigint\"], [\"failed\", \"bigint\"], [\"average_duration_ms\", \"double precision\"], [\"minimum_duration_ms\", \"bigint\"], [\"maximum_duration_ms\", \"bigint\"], [\"p95_duration_ms\", \"bigint\"], [\"p99_duration_ms\", \"bigint\"], [\"unique_users\", \"bigint\"], [\"credits_consumed\", \"double precision\"], [\"error_counts\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.agent_metrics_daily WITH (security_invoker = true) AS
 SELECT b.day,
    m.tenant_id,
    m.agent_id,
    m.agent_name,
    m.total,
    m.succeeded,
    m.failed,
    m.average_duration_ms,
    m.minimum_duration_ms,
    m.maximum_duration_ms,
    m.p95_duration_ms,
    m.p99_duration_ms,
    m.unique_users,
    m.credits_consumed,
    m.error_counts
   FROM generate_series(date_trunc('day'::text, audit.time_of(( SELECT r.id
           FROM (( SELECT events.id
                   FROM audit.events
                  ORDER BY events.id
                 LIMIT 1)
                UNION ALL
                ( SELECT activities.id
                   FROM audit.activities
                  ORDER BY activities.id
                 LIMIT 1)
                UNION ALL
                ( SELECT prompt_runs.id
                   FROM audit.prompt_runs
                  ORDER BY prompt_runs.id
                 LIMIT 1)) r
          ORDER BY r.id
         LIMIT 1)), 'UTC'::text), LEAST(audit.time_of(( SELECT r.id
           FROM (( SELECT events.id
                   FROM audit.events
                  ORDER BY events.id DESC
                 LIMIT 1)
                UNION ALL
                ( SELECT activities.id
                   FROM audit.activities
                  ORDER BY activities.id DESC
                 LIMIT 1)
                UNION ALL
                ( SELECT prompt_runs.id
                   FROM audit.prompt_runs
                  ORDER BY prompt_runs.id DESC
                 LIMIT 1)) r
          ORDER BY r.id DESC
         LIMIT 1)), now()), '24:00:00'::interval) b(day),
    LATERAL ( SELECT r.tenant_id,
            r.agent_id,
            r.agent_name,
            count(*) AS total,
            count(*) FILTER (WHERE (r.status = 'succeeded'::audit.run_status)) AS succeeded,
            count(*) FILTER (WHERE (r.status = ANY (ARRAY['failed'::audit.run_status, 'rejected'::audit.run_status, 'cancelled'::audit.run_status]))) AS failed,
            (avg(r.duration_ms))::double precision AS average_duration_ms,
            min(r.duration_ms) AS minimum_duration_ms,
            max(r.duration_ms) AS maximum_duration_ms,
            (percentile_disc('{0.95,0.99}'::double precision[]) WITHIN GROUP (ORDER BY r.duration_ms))[1] AS p95_duration_ms,
            (percentile_disc('{0.95,0.99}'::double precision[]) WITHIN GROUP (ORDER BY r.duration_ms))[2] AS p99_duration_ms,
            count(DISTINCT r.user_id) AS unique_users,
            sum(r.credits_consumed) AS credits_consumed,
            audit.counts_of(array_agg("left"(r.error_code, 100))) AS error_counts
           FROM ( SELECT events.id,
                    events.tenant_id,
                    events.agent_id,
                    events.target_id AS agent_name,
                    events.user_id,
                    events.status,
                    events.error_code,
                    events.created_at,
                    events.latency_ms AS duration_ms,
                    audit.number_of((events.metadata -> 'credits_consumed'::text)) AS credits_consumed
                   FROM audit.events
                  WHERE (events.action_type = 'agent_execution'::text)
                UNION ALL
                 SELECT activities.id,
                    activities.tenant_id,
                    activities.agent_id,
                    activities.target_id AS agent_name,
                    activities.user_id,
                    activities.status,
                    activities.error_code,
                    activities.created_at,
                    activities.latency_ms AS duration_ms,
                    audit.number_of((activities.metadata -> 'credits_consumed'::text)) AS credits_consumed
                   FROM audit.activities
                  WHERE (activities.action_type = 'agent_execution'::text)) r
          WHERE ((r.id >= audit.id_at(b.day)) AND (r.id < audit.id_at((b.day + '24:00:00'::interval))))
          GROUP BY r.tenant_id, r.agent_id, r.agent_name) m;
--@ ["object","audit.agent_metrics_hourly","view","",null]
--@ ["owner","audit.agent_metrics_hourly","","",null]
ALTER VIEW audit.agent_metrics_hourly OWNER TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_metrics_hourly TO audit_auditor;
--@ ["privilege","audit.agent_metrics_hourly","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_metrics_hourly TO audit_reader;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["privilege","audit.agent_metrics_hourly","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.agent_metrics_hourly TO audit_owner;
--@ ["view","audit.agent_metrics_hourly","","[[\"hour\", \"timestamp with time zone\"], [\"tenant_id\", \"uuid\"], [\"agent_id\", \"uuid\"], [\"agent_name\", \"text\"], [\"total\", \"bigint\"], [\"succeeded\", \"bigint\"], [\"failed\", \"bigint\"], [\"average_duration_ms\", \"double precision\"], [\"minimum_duration_ms\", \"bigint\"], [\"maximum_duration_ms\", \"bigint\"], [\"p95_duration_ms\", \"bigint\"], [\"p99_duration_ms\", \"bigint\"], [\"unique_users\", \"bigint\"], [\"credits_consumed\", \"double precision\"], [\"error_counts\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.agent_metrics_hourly WITH (security_invoker = true) AS
 SELECT b.hour,
    m.tenant_id,
    m.agent_id,
    m.agent_name,
    m.total,
    m.succeeded,
    m.failed,
    m.average_duration_ms,
    m.minimum_duration_ms,
    m.maximum_duration_ms,
    m.p95_duration_ms,
    m.p99_duration_ms,
    m.unique_users,
    m.credits_consumed,
    m.error_counts
   FROM generate_series(date_trunc('hour'::text, audit.time_of(( SELECT r.id
           FROM (( SELECT events.id
                   FROM audit.events
                  ORDER BY events.id
                 LIMIT 1)
                UNION ALL
                ( SELECT activities.id
                   FROM audit.activities
                  ORDER BY activities.id
                 LIMIT 1)
                UNION ALL
                ( SELECT prompt_runs.id
                   FROM audit.prompt_runs
                  ORDER BY prompt_runs.id
                 LIMIT 1)) r
          ORDER BY r.id
         LIMIT 1)), 'UTC'::text), LEAST(audit.time_of(( SELECT r.id
           FROM (( SELECT events.id
                   FROM audit.events
                  ORDER BY events.id DESC
                 LIMIT 1)
                UNION ALL
                ( SELECT activities.id
                   FROM audit.activities
                  ORDER BY activities.id DESC
                 LIMIT 1)
                UNION ALL
                ( SELECT prompt_runs.id
                   FROM audit.prompt_runs
                  ORDER BY prompt_runs.id DESC
                 LIMIT 1)) r
          ORDER BY r.id DESC
         LIMIT 1)), now()), '01:00:00'::interval) b(hour),
    LATERAL ( SELECT r.tenant_id,
            r.agent_id,
            r.agent_name,
            count(*) AS total,
            count(*) FILTER (WHERE (r.status = 'succeeded'::audit.run_status)) AS succeeded,
            count(*) FILTER (WHERE (r.status = ANY (ARRAY['failed'::audit.run_status, 'rejected'::audit.run_status, 'cancelled'::audit.run_status]))) AS failed,
            (avg(r.duration_ms))::double precision AS average_duration_ms,
            min(r.duration_ms) AS minimum_duration_ms,
            max(r.duration_ms) AS maximum_duration_ms,
            (percentile_disc('{0.95,0.99}'::double precision[]) WITHIN GROUP (ORDER BY r.duration_ms))[1] AS p95_duration_ms,
            (percentile_disc('{0.95,0.99}'::double precision[]) WITHIN GROUP (ORDER BY r.duration_ms))[2] AS p99_duration_ms,
            count(DISTINCT r.user_id) AS unique_users,
            sum(r.credits_consumed) AS credits_consumed,
            audit.counts_of(array_agg("left"(r.error_code, 100))) AS error_counts
           FROM ( SELECT events.id,
                    events.tenant_id,
                    events.agent_id,
                    events.target_id AS agent_name,
                    events.user_id,
                    events.status,
                    events.error_code,
                    events.created_at,
                    events.latency_ms AS duration_ms,
                    audit.number_of((events.metadata -> 'credits_consumed'::text)) AS credits_consumed
                   FROM audit.events
                  WHERE (events.action_type = 'agent_execution'::text)
                UNION ALL
                 SELECT activities.id,
                    activities.tenant_id,
                    activities.agent_id,
                    activities.target_id AS agent_name,
                    activities.user_id,
                    activities.status,
                    activities.error_code,
                    activities.created_at,
                    activities.latency_ms AS duration_ms,
                    audit.number_of((activities.metadata -> 'credits_consumed'::text)) AS credits_consumed
                   FROM audit.activities
                  WHERE (activities.action_type = 'agent_execution'::text)) r
          WHERE ((r.id >= audit.id_at(b.hour)) AND (r.id < audit.id_at((b.hour + '01:00:00'::interval))))
          GROUP BY r.tenant_id, r.agent_id, r.agent_name) m;
--@ ["function","audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status)","","f (action_type text, target_type text, target_id text, input_summary text, request_id text, tenant_id uuid, metadata jsonb, status audit.run_status DEFAULT 'succeeded'::audit.run_status) uuid",null]
CREATE OR REPLACE FUNCTION audit.append_event(action_type text, target_type text, target_id text, input_summary text, request_id text, tenant_id uuid, metadata jsonb, status audit.run_status DEFAULT 'succeeded'::audit.run_status)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    at     constant timestamptz := clock_timestamp();
    writer constant uuid := gen_random_uuid();
    -- A UUIDv7: 48 bits of milliseconds, the version, and random bits.
    event  constant uuid := encode(set_byte(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, (get_byte(uuid_send(writer), 6) & 15) | 112), 'hex')::uuid;
    leaf   text;
BEGIN
    -- Prepared, it would keep partitions from being removed for as long as nobody ends it.
    PERFORM audit.refuse_prepare();
    -- A partition that is made locks out readers until the transaction ends, which is for nobody to decide who may not make
    -- one. In a trail that has no partition yet there is nothing to read.
    IF pg_has_role(session_user, 'audit_writer', 'MEMBER') OR pg_has_role(session_user, 'audit_operator', 'MEMBER')
        OR NOT EXISTS (SELECT FROM audit.leaves('events') l WHERE l <> 'events_default')
    THEN
        leaf := audit.ensure_partition('events', at);
    ELSE
        leaf := coalesce((SELECT max(l.leaf) FROM audit.leaves_over('events', at, at) l WHERE l.is_leaf), 'events_default');
    END IF;
    INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, service_name, library_version)
        VALUES (writer, 1, 1, '{"events": 1}', 0, event, event, 'postgres', 'sql');
    EXECUTE format(
        'INSERT INTO audit_parts.%I (id, tenant_id, user_id, request_id, service_name, action_type, target_type, target_id, input_summary, status, created_at, metadata, writer_id, seq, salt)
         VALUES ($1, $2, $3, $4, ''postgres'', $5, $6, $7, $8, $13, $9, $10, $11, 1, $12)',
        leaf)
        USING event, tenant_id, session_user::text, request_id, action_type, target_type, target_id, input_summary, at,
            coalesce(metadata, '{}') || jsonb_strip_nulls(jsonb_build_object(
                'client_address', host(inet_client_addr()), 'application_name', nullif(current_setting('application_name'), ''))),
            writer, substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16), status;
    RETURN event;
END
$function$
;
--@ ["object","audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status)","function","",null]
--@ ["owner","audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status)","","",null]
ALTER FUNCTION audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status) OWNER TO audit_maintainer;
--@ ["privilege","audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.append_event(text,text,text,text,text,uuid,jsonb,audit.run_status) TO audit_maintainer;
--@ ["object","audit.approvals","view","",null]
--@ ["owner","audit.approvals","","",null]
ALTER VIEW audit.approvals OWNER TO audit_owner;
--@ ["privilege","audit.approvals","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.approvals TO audit_auditor;
--@ ["privilege","audit.approvals","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.approvals TO audit_reader;
--@ ["privilege","audit.approvals","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.approvals TO audit_owner;
--@ ["privilege","audit.approvals","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.approvals TO audit_owner;
--@ ["privilege","audit.approvals","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.approvals TO audit_owner;
--@ ["privilege","audit.approvals","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.approvals TO audit_owner;
--@ ["privilege","audit.approvals","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.approvals TO audit_owner;
--@ ["privilege","audit.approvals","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.approvals TO audit_owner;
--@ ["privilege","audit.approvals","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.approvals TO audit_owner;
--@ ["view","audit.approvals","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"decision\", \"text\"], [\"approved_by\", \"text\"], [\"approver_role\", \"text\"], [\"sql_text\", \"text\"], [\"summary\", \"text\"], [\"rows_affected\", \"bigint\"], [\"run_id\", \"uuid\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.approvals WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'decision'::text) AS decision,
    (events.metadata ->> 'approved_by'::text) AS approved_by,
    (events.metadata ->> 'approver_role'::text) AS approver_role,
    (events.metadata ->> 'sql_text'::text) AS sql_text,
    events.input_summary AS summary,
    audit.integer_of((events.metadata -> 'rows_affected'::text)) AS rows_affected,
    audit.uuid_of((events.metadata -> 'run_id'::text)) AS run_id,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'approval'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'decision'::text) AS decision,
    (activities.metadata ->> 'approved_by'::text) AS approved_by,
    (activities.metadata ->> 'approver_role'::text) AS approver_role,
    (activities.metadata ->> 'sql_text'::text) AS sql_text,
    activities.input_summary AS summary,
    audit.integer_of((activities.metadata -> 'rows_affected'::text)) AS rows_affected,
    audit.uuid_of((activities.metadata -> 'run_id'::text)) AS run_id,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'approval'::text);
--@ ["column","audit.archives","archived_at","","ALTER TABLE audit.archives ALTER COLUMN archived_at TYPE timestamp with time zone USING archived_at::timestamp with time zone;"]
ALTER TABLE audit.archives ADD COLUMN archived_at timestamp with time zone;
--@ ["column","audit.archives","archived_by","","ALTER TABLE audit.archives ALTER COLUMN archived_by TYPE text USING archived_by::text;"]
ALTER TABLE audit.archives ADD COLUMN archived_by text;
--@ ["column","audit.archives","day","","ALTER TABLE audit.archives ALTER COLUMN day TYPE date USING day::date;"]
ALTER TABLE audit.archives ADD COLUMN day date;
--@ ["column","audit.archives","event","","ALTER TABLE audit.archives ALTER COLUMN event TYPE uuid USING event::uuid;"]
ALTER TABLE audit.archives ADD COLUMN event uuid;
--@ ["column","audit.archives","number","","ALTER TABLE audit.archives ALTER COLUMN number TYPE integer USING number::integer;"]
ALTER TABLE audit.archives ADD COLUMN number integer;
--@ ["column","audit.archives","parent","","ALTER TABLE audit.archives ALTER COLUMN parent TYPE text USING parent::text;"]
ALTER TABLE audit.archives ADD COLUMN parent text;
--@ ["column","audit.archives","place","","ALTER TABLE audit.archives ALTER COLUMN place TYPE text USING place::text;"]
ALTER TABLE audit.archives ADD COLUMN place text;
--@ ["column","audit.archives","rows","","ALTER TABLE audit.archives ALTER COLUMN rows TYPE bigint USING rows::bigint;"]
ALTER TABLE audit.archives ADD COLUMN rows bigint;
--@ ["column","audit.archives","sha256","","ALTER TABLE audit.archives ALTER COLUMN sha256 TYPE bytea USING sha256::bytea;"]
ALTER TABLE audit.archives ADD COLUMN sha256 bytea;
--@ ["column not null","audit.archives","archived_at","",null]
ALTER TABLE audit.archives ALTER COLUMN archived_at SET NOT NULL;
--@ ["column not null","audit.archives","archived_by","",null]
ALTER TABLE audit.archives ALTER COLUMN archived_by SET NOT NULL;
--@ ["column not null","audit.archives","day","",null]
ALTER TABLE audit.archives ALTER COLUMN day SET NOT NULL;
--@ ["column not null","audit.archives","event","",null]
ALTER TABLE audit.archives ALTER COLUMN event SET NOT NULL;
--@ ["column not null","audit.archives","number","",null]
ALTER TABLE audit.archives ALTER COLUMN number SET NOT NULL;
--@ ["column not null","audit.archives","parent","",null]
ALTER TABLE audit.archives ALTER COLUMN parent SET NOT NULL;
--@ ["column not null","audit.archives","place","",null]
ALTER TABLE audit.archives ALTER COLUMN place SET NOT NULL;
--@ ["column not null","audit.archives","rows","",null]
ALTER TABLE audit.archives ALTER COLUMN rows SET NOT NULL;
--@ ["column not null","audit.archives","sha256","",null]
ALTER TABLE audit.archives ALTER COLUMN sha256 SET NOT NULL;
--@ ["columns","audit.archives","","[[\"place\", \"text\"], [\"parent\", \"text\"], [\"day\", \"date\"], [\"number\", \"integer\"], [\"sha256\", \"bytea\"], [\"rows\", \"bigint\"], [\"archived_at\", \"timestamp with time zone\"], [\"archived_by\", \"text\"], [\"event\", \"uuid\"]]",null]
--@ ["constraint","audit.archives","archives_number_check",null,null]
ALTER TABLE audit.archives ADD CONSTRAINT archives_number_check CHECK ((number > 0));
--@ ["constraint","audit.archives","archives_pkey",null,null]
ALTER TABLE audit.archives ADD CONSTRAINT archives_pkey PRIMARY KEY (place, parent, day, number);
--@ ["constraint","audit.archives","archives_rows_check",null,null]
ALTER TABLE audit.archives ADD CONSTRAINT archives_rows_check CHECK ((rows > 0));
--@ ["constraint","audit.archives","archives_sha256_check",null,null]
ALTER TABLE audit.archives ADD CONSTRAINT archives_sha256_check CHECK ((octet_length(sha256) = 32));
--@ ["forced row security","audit.archives","","",null]
ALTER TABLE audit.archives FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.archives","","",null]
ALTER TABLE audit.archives SET LOGGED;
--@ ["object","audit.archives","table","",null]
--@ ["owner","audit.archives","","",null]
ALTER TABLE audit.archives OWNER TO audit_owner;
--@ ["policy","audit.archives","adding",null,null]
CREATE POLICY adding ON audit.archives FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.archives","auditor",null,null]
CREATE POLICY auditor ON audit.archives FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.archives","maintainer",null,null]
CREATE POLICY maintainer ON audit.archives FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.archives","operator",null,null]
CREATE POLICY operator ON audit.archives FOR SELECT TO audit_operator USING (true);
--@ ["privilege","audit.archives","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.archives TO audit_auditor;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.archives TO audit_maintainer;
--@ ["privilege","audit.archives","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.archives TO audit_operator;
--@ ["row security","audit.archives","","",null]
ALTER TABLE audit.archives ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.archives","","r ","[\"audit\", \"archives\"]"]
--@ ["trigger","audit.archives","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.archives FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.archives ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.archives FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.archives ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.archives","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.archives FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.archives ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.archives FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.archives ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.attach_leaf(text,text,timestamp with time zone,timestamp with time zone,integer)","","f (parent text, leaf text, from_time timestamp with time zone, to_time timestamp with time zone, attempts integer) void",null]
CREATE OR REPLACE FUNCTION audit.attach_leaf(parent text, leaf text, from_time timestamp with time zone, to_time timestamp with time zone, attempts integer)
 RETURNS void
 LANGUAGE sql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT audit.run_with_short_waits(format(
        'ALTER TABLE audit.%I ATTACH PARTITION audit_parts.%I FOR VALUES FROM (%L) TO (%L)',
        parent, leaf, audit.id_at(from_time), audit.id_at(to_time)), attempts)
$function$
;
--@ ["object","audit.attach_leaf(text,text,timestamp with time zone,timestamp with time zone,integer)","function","",null]
--@ ["owner","audit.attach_leaf(text,text,timestamp with time zone,timestamp with time zone,integer)","","",null]
ALTER FUNCTION audit.attach_leaf(text,text,timestamp with time zone,timestamp with time zone,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.attach_leaf(text,text,timestamp with time zone,timestamp with time zone,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.attach_leaf(text,text,timestamp with time zone,timestamp with time zone,integer) TO audit_maintainer;
--@ ["column","audit.batches","added_by","","ALTER TABLE audit.batches ALTER COLUMN added_by TYPE xid8 USING added_by::xid8;"]
ALTER TABLE audit.batches ADD COLUMN added_by xid8;
--@ ["column","audit.batches","committed_at","","ALTER TABLE audit.batches ALTER COLUMN committed_at TYPE timestamp with time zone USING committed_at::timestamp with time zone;"]
ALTER TABLE audit.batches ADD COLUMN committed_at timestamp with time zone;
--@ ["column","audit.batches","dead_letters","","ALTER TABLE audit.batches ALTER COLUMN dead_letters TYPE integer USING dead_letters::integer;"]
ALTER TABLE audit.batches ADD COLUMN dead_letters integer;
--@ ["column","audit.batches","fingerprints","","ALTER TABLE audit.batches ALTER COLUMN fingerprints TYPE bytea USING fingerprints::bytea;"]
ALTER TABLE audit.batches ADD COLUMN fingerprints bytea;
--@ ["column","audit.batches","first_id","","ALTER TABLE audit.batches ALTER COLUMN first_id TYPE uuid USING first_id::uuid;"]
ALTER TABLE audit.batches ADD COLUMN first_id uuid;
--@ ["column","audit.batches","first_seq","","ALTER TABLE audit.batches ALTER COLUMN first_seq TYPE bigint USING first_seq::bigint;"]
ALTER TABLE audit.batches ADD COLUMN first_seq bigint;
--@ ["column","audit.batches","last_id","","ALTER TABLE audit.batches ALTER COLUMN last_id TYPE uuid USING last_id::uuid;"]
ALTER TABLE audit.batches ADD COLUMN last_id uuid;
--@ ["column","audit.batches","last_seq","","ALTER TABLE audit.batches ALTER COLUMN last_seq TYPE bigint USING last_seq::bigint;"]
ALTER TABLE audit.batches ADD COLUMN last_seq bigint;
--@ ["column","audit.batches","library_version","","ALTER TABLE audit.batches ALTER COLUMN library_version TYPE text USING library_version::text;"]
ALTER TABLE audit.batches ADD COLUMN library_version text;
--@ ["column","audit.batches","mark","","ALTER TABLE audit.batches ALTER COLUMN mark TYPE bytea USING mark::bytea;"]
ALTER TABLE audit.batches ADD COLUMN mark bytea;
--@ ["column","audit.batches","records","","ALTER TABLE audit.batches ALTER COLUMN records TYPE jsonb USING records::jsonb;"]
ALTER TABLE audit.batches ADD COLUMN records jsonb;
--@ ["column","audit.batches","root","","ALTER TABLE audit.batches ALTER COLUMN root TYPE bytea USING root::bytea;"]
ALTER TABLE audit.batches ADD COLUMN root bytea;
--@ ["column","audit.batches","service_name","","ALTER TABLE audit.batches ALTER COLUMN service_name TYPE text USING service_name::text;"]
ALTER TABLE audit.batches ADD COLUMN service_name text;
--@ ["column","audit.batches","writer_id","","ALTER TABLE audit.batches ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.batches ADD COLUMN writer_id uuid;
--@ ["column default","audit.batches","added_by","",null]
ALTER TABLE audit.batches ALTER COLUMN added_by SET DEFAULT pg_current_xact_id();
--@ ["column default","audit.batches","committed_at","",null]
ALTER TABLE audit.batches ALTER COLUMN committed_at SET DEFAULT clock_timestamp();
--@ ["column not null","audit.batches","added_by","",null]
ALTER TABLE audit.batches ALTER COLUMN added_by SET NOT NULL;
--@ ["column not null","audit.batches","committed_at","",null]
ALTER TABLE audit.batches ALTER COLUMN committed_at SET NOT NULL;
--@ ["column not null","audit.batches","dead_letters","",null]
ALTER TABLE audit.batches ALTER COLUMN dead_letters SET NOT NULL;
--@ ["column not null","audit.batches","first_seq","",null]
ALTER TABLE audit.batches ALTER COLUMN first_seq SET NOT NULL;
--@ ["column not null","audit.batches","last_seq","",null]
ALTER TABLE audit.batches ALTER COLUMN last_seq SET NOT NULL;
--@ ["column not null","audit.batches","library_version","",null]
ALTER TABLE audit.batches ALTER COLUMN library_version SET NOT NULL;
--@ ["column not null","audit.batches","records","",null]
ALTER TABLE audit.batches ALTER COLUMN records SET NOT NULL;
--@ ["column not null","audit.batches","writer_id","",null]
ALTER TABLE audit.batches ALTER COLUMN writer_id SET NOT NULL;
--@ ["columns","audit.batches","","[[\"writer_id\", \"uuid\"], [\"first_seq\", \"bigint\"], [\"last_seq\", \"bigint\"], [\"records\", \"jsonb\"], [\"dead_letters\", \"integer\"], [\"first_id\", \"uuid\"], [\"last_id\", \"uuid\"], [\"mark\", \"bytea\"], [\"service_name\", \"text\"], [\"library_version\", \"text\"], [\"committed_at\", \"timestamp with time zone\"], [\"added_by\", \"xid8\"], [\"root\", \"bytea\"], [\"fingerprints\", \"bytea\"]]",null]
--@ ["constraint","audit.batches","batches_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_check CHECK ((last_seq >= first_seq));
--@ ["constraint","audit.batches","batches_check1",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_check1 CHECK ((octet_length(fingerprints) = (8 * ((last_seq - first_seq) + 1))));
--@ ["constraint","audit.batches","batches_dead_letters_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_dead_letters_check CHECK ((dead_letters >= 0));
--@ ["constraint","audit.batches","batches_first_seq_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_first_seq_check CHECK ((first_seq >= 1));
--@ ["constraint","audit.batches","batches_hashes",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_hashes CHECK (((root IS NULL) = (fingerprints IS NULL)));
--@ ["constraint","audit.batches","batches_library_version_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_library_version_check CHECK ((octet_length(library_version) <= 256));
--@ ["constraint","audit.batches","batches_mark_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_mark_check CHECK ((octet_length(mark) = 32));
--@ ["constraint","audit.batches","batches_pkey",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_pkey PRIMARY KEY (writer_id, first_seq);
--@ ["constraint","audit.batches","batches_records",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_records CHECK (
CASE
    WHEN ((dead_letters = 0) AND ((records)::text = concat('{"events": ', ((last_seq - first_seq) + 1), '}'))) THEN true
    ELSE ((((last_seq - first_seq) + 1) = (audit.count_records(records) + dead_letters)) IS TRUE)
END);
--@ ["constraint","audit.batches","batches_root_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_root_check CHECK ((octet_length(root) = 32));
--@ ["constraint","audit.batches","batches_service_name_check",null,null]
ALTER TABLE audit.batches ADD CONSTRAINT batches_service_name_check CHECK ((octet_length(service_name) <= 1024));
--@ ["forced row security","audit.batches","","",null]
ALTER TABLE audit.batches FORCE ROW LEVEL SECURITY;
--@ ["index","audit.batches","audit.batches USING btree (added_by)","harmless",null]
CREATE INDEX ON audit.batches USING btree (added_by);
--@ ["index","audit.batches","audit.batches USING btree (committed_at)","harmless",null]
CREATE INDEX ON audit.batches USING btree (committed_at);
--@ ["logged","audit.batches","","",null]
ALTER TABLE audit.batches SET LOGGED;
--@ ["object","audit.batches","table","",null]
--@ ["owner","audit.batches","","",null]
ALTER TABLE audit.batches OWNER TO audit_owner;
--@ ["policy","audit.batches","adding",null,null]
CREATE POLICY adding ON audit.batches FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.batches","auditor",null,null]
CREATE POLICY auditor ON audit.batches FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.batches","maintainer",null,null]
CREATE POLICY maintainer ON audit.batches FOR SELECT TO audit_maintainer USING (true);
--@ ["privilege","audit.batches","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.batches TO audit_auditor;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.batches TO audit_maintainer;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.batches TO audit_maintainer;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.batches TO audit_maintainer;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.batches TO audit_maintainer;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.batches TO audit_maintainer;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.batches TO audit_maintainer;
--@ ["privilege","audit.batches","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.batches TO audit_maintainer;
--@ ["row security","audit.batches","","",null]
ALTER TABLE audit.batches ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.batches","","r ","[\"audit\", \"batches\"]"]
--@ ["trigger","audit.batches","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.batches FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.batches ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.batches FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.batches ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.batches","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.batches FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.batches ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.batches FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.batches ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.begin_change(text,text)","","f (target text, partition text) audit.change_context",null]
CREATE OR REPLACE FUNCTION audit.begin_change(target text, partition text)
 RETURNS audit.change_context
 LANGUAGE plpgsql
AS $function$
DECLARE
    c       audit.change_context;
    at      timestamp;
    name    text;
    value   text;
    uuids   uuid[] := '{}';
    is_uuid constant text := '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$';
BEGIN
    c.at := clock_timestamp();
    c.number := nextval('audit.change_numbers');
    c.writer := gen_random_uuid();
    c.target := target;
    c.problems := '{}';
    -- UUIDv7: the milliseconds, and then one number that counts up within the statement, so that the index grows at its end.
    c.id_head := lpad(to_hex(floor(extract(epoch FROM c.at) * 1000)::bigint), 12, '0') || '7' || substr(c.writer::text, 1, 3) || '8';
    c.id_tail := ('x' || '0' || substr(replace(c.writer::text, '-', ''), 18, 15))::bit(64)::bigint >> 5;
    -- A time that nobody has written to has no partition; who may make one makes it. A name takes less time than a look at all
    -- that may hold it.
    at := c.at AT TIME ZONE 'UTC';
    IF to_regclass(to_char(at, '"audit_parts.events_"YYYY_MM')) IS NULL AND to_regclass(to_char(at, '"audit_parts.events_"YYYY_MM_DD')) IS NULL
        AND NOT EXISTS (SELECT FROM audit.leaves_over('events', c.at, c.at))
        AND (pg_has_role(session_user, 'audit_writer', 'MEMBER') OR pg_has_role(session_user, 'audit_operator', 'MEMBER')
            OR NOT EXISTS (SELECT FROM audit.leaves('events') l WHERE l <> 'events_default'))
    THEN
        BEGIN
            PERFORM audit.ensure_partition('events', c.at);
        EXCEPTION WHEN lock_not_available THEN
            -- The rows are kept in the default partition then, rather than the host's statement refused.
            NULL;
        END;
    END IF;
    c.user_id := coalesce(audit.context_setting('user_id'), session_user);
    c.user_role := audit.context_setting('user_role');
    c.request_id := audit.context_setting('request_id');
    c.conversation_id := audit.context_setting('conversation_id');
    c.trace_id := audit.context_setting('trace_id');
    c.span_id := audit.context_setting('span_id');
    -- The login is what Postgres knows; the settings are what the program says.
    c.about := concat('"number":', c.number, ',"transaction":"', pg_current_xact_id(), '","login":', to_json(session_user::text),
        ',"partition":' || to_json(partition), ',"depth":' || nullif(pg_trigger_depth(), 1),
        ',"application_name":' || to_json(nullif(current_setting('application_name'), '')), ',"client_address":' || to_json(host(inet_client_addr())));
    c.tenant_key := audit.context_setting('current_tenant');
    c.tenant_id := audit.tenant_uuid(c.tenant_key);
    IF coalesce(audit.context_setting('agent_id'), audit.context_setting('llm_session_id'), audit.context_setting('parent_id')) IS NOT NULL THEN
        FOREACH name IN ARRAY ARRAY['agent_id', 'llm_session_id', 'parent_id'] LOOP
            value := audit.context_setting(name);
            uuids := uuids || CASE WHEN value ~ is_uuid THEN value::uuid END;
            IF value !~ is_uuid THEN
                c.about := concat(c.about, ',"', name, '":', to_json(value));
                c.problems := c.problems || (name || ': not a UUID');
            END IF;
        END LOOP;
        c.agent_id := uuids[1];
        c.llm_session_id := uuids[2];
        c.parent_id := uuids[3];
    END IF;
    RETURN c;
END
$function$
;
--@ ["object","audit.begin_change(text,text)","function","",null]
--@ ["owner","audit.begin_change(text,text)","","",null]
ALTER FUNCTION audit.begin_change(text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.begin_change(text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.begin_change(text,text) TO audit_maintainer;
--@ ["function","audit.boolean_of(jsonb)","","f (value jsonb) boolean",null]
CREATE OR REPLACE FUNCTION audit.boolean_of(value jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((value #>> '{}'::text[]) = ANY (ARRAY['true'::text, 'false'::text])) THEN ((value #>> '{}'::text[]) = 'true'::text) ELSE NULL::boolean END
;
--@ ["object","audit.boolean_of(jsonb)","function","",null]
--@ ["owner","audit.boolean_of(jsonb)","","",null]
ALTER FUNCTION audit.boolean_of(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.boolean_of(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.boolean_of(jsonb) TO audit_auditor;
--@ ["privilege","audit.boolean_of(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.boolean_of(jsonb) TO audit_reader;
--@ ["privilege","audit.boolean_of(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.boolean_of(jsonb) TO audit_maintainer;
--@ ["function","audit.by_the_host(text)","","f (parent text) text",null]
CREATE OR REPLACE FUNCTION audit.by_the_host(parent text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE parent WHEN 'events' THEN 'NOT coalesce(service_name = ''postgres'' AND action_type LIKE ''audit.%'', false)' ELSE 'true' END
$function$
;
--@ ["object","audit.by_the_host(text)","function","",null]
--@ ["owner","audit.by_the_host(text)","","",null]
ALTER FUNCTION audit.by_the_host(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.by_the_host(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.by_the_host(text) TO audit_maintainer;
--@ ["object","audit.change_context","type","",null]
--@ ["function","audit.change_function(bigint)","","f (tracking bigint) text",null]
CREATE OR REPLACE FUNCTION audit.change_function(tracking bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    t         audit.tracked_tables;
    known     record;
    -- For the old rows, and for the new ones.
    layouts   text[] := '{}';
    rows      text;
    body      text;
BEGIN
    SELECT * INTO STRICT t FROM audit.tracked_tables WHERE id = tracking;
    SELECT * INTO STRICT known FROM audit.layout_of(t.target);
    FOREACH rows IN ARRAY '{old_rows,new_rows}'::text[] LOOP
        layouts := layouts || format($f$
            names := (%1$s);
            IF names = %2$L THEN
                types := (%3$s);
            END IF;$f$, audit.names_query(rows), known.names, audit.types_query(t.target, rows));
    END LOOP;
    body := format($f$
DECLARE
    c       audit.change_context;
    rows    bigint;
    asked   text[] := ARRAY[TG_OP];
    kind    text;
    names   text;
    types   text;
    is_part constant boolean := starts_with(TG_NAME, 'audit_part_');
    target  text := format('%%I.%%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
BEGIN
    IF is_part THEN
        target := audit.target_of(%1$s, TG_RELID);
        IF target IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;%2$s
    FOREACH kind IN ARRAY asked LOOP
        c := audit.begin_change(target, CASE WHEN is_part THEN format('%%I.%%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) END);
        IF kind = 'TRUNCATE' THEN
            PERFORM audit.record_truncation(c, %3$L, %4$s);
            CONTINUE;
        ELSIF kind = 'DELETE' THEN%5$s
        ELSE%6$s
        END IF;
        IF types IS DISTINCT FROM %7$L THEN
            -- Another layout than this was made with, as that of a partition: the statement is made anew, of what the catalog shows.
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                -- Fails as a conflict if the table was tracked anew since.
                PERFORM FROM audit.tracked_tables t WHERE t.id = %1$s FOR SHARE;
            END IF;
            PERFORM audit.refuse_snapshot(target, names, (SELECT l.names FROM audit.tracked_tables t, audit.layout_of(TG_RELID) l WHERE t.id = %1$s));
            EXECUTE audit.types_query(TG_RELID, CASE kind WHEN 'DELETE' THEN 'old_rows' ELSE 'new_rows' END) INTO types;
            PERFORM audit.refuse_snapshot(target, types, (SELECT l.types FROM audit.layout_of(TG_RELID) l));
            EXECUTE audit.change_statement(%1$s, TG_RELID, kind, '($1)') USING c;
        ELSIF kind = 'INSERT' THEN
            %8$s;
        ELSIF kind = 'DELETE' THEN
            %9$s;
        -- Most updates change one row, of which less needs to be asked.
        ELSIF (SELECT count(*) = 1 AND NOT bool_or(moved) FROM (SELECT %10$s AS moved FROM old_rows AS o %11$s CROSS JOIN new_rows AS n %12$s LIMIT 2) AS pairs) THEN
            %13$s;
        ELSE
            %14$s;
        END IF;
        GET DIAGNOSTICS rows = ROW_COUNT;
        PERFORM audit.end_change(c, rows);
        types := NULL;
    END LOOP;
    RETURN NULL;%15$s
END
$f$, tracking,
        CASE (SELECT relkind FROM pg_class WHERE oid = t.target) WHEN 'p' THEN $f$
    -- A partition may refuse a row that is moved there (a trigger of the host's): then which new row was which old one is not known.
    IF TG_OP = 'UPDATE' THEN
        IF (SELECT count(*) FROM old_rows) <> (SELECT count(*) FROM new_rows) THEN
            asked := ARRAY['DELETE', 'INSERT'];
        END IF;
    END IF;$f$ ELSE '' END,
        t.action_type, (t.tenant_column IS NOT NULL)::text, layouts[1], layouts[2], known.types,
        audit.change_statement(tracking, t.target, 'INSERT', 'c'), audit.change_statement(tracking, t.target, 'DELETE', 'c'),
        audit.moved_expression(tracking, t.target), audit.columns_alias(t.target, 'o'), audit.columns_alias(t.target, 'n'),
        audit.change_statement(tracking, t.target, 'UPDATE ONE', 'c'), audit.change_statement(tracking, t.target, 'UPDATE', 'c'),
        CASE t.on_failure WHEN 'warn' THEN format($f$
EXCEPTION WHEN OTHERS THEN
    PERFORM nextval('audit.lost_changes');
    RAISE WARNING 'audit trail: changes of %% were not recorded (%%)', %L, SQLSTATE;
    RETURN NULL;$f$, t.name) ELSE '' END);
    RETURN format($f$CREATE OR REPLACE FUNCTION audit.%I() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = on
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET quote_all_identifiers = off
    -- A plan is kept, whether it was made for one row or for a million.
    SET enable_nestloop = off
    SET jit = off
    AS %L$f$, 'record_change_' || tracking, body);
END
$function$
;
--@ ["object","audit.change_function(bigint)","function","",null]
--@ ["owner","audit.change_function(bigint)","","",null]
ALTER FUNCTION audit.change_function(bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.change_function(bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.change_function(bigint) TO audit_maintainer;
--@ ["logged","audit.change_numbers","","",null]
ALTER SEQUENCE audit.change_numbers SET LOGGED;
--@ ["object","audit.change_numbers","sequence","",null]
--@ ["owner","audit.change_numbers","","",null]
ALTER SEQUENCE audit.change_numbers OWNER TO audit_maintainer;
--@ ["privilege","audit.change_numbers","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON SEQUENCE audit.change_numbers TO audit_maintainer;
--@ ["privilege","audit.change_numbers","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON SEQUENCE audit.change_numbers TO audit_maintainer;
--@ ["privilege","audit.change_numbers","[null, \"USAGE\", \"\"]","",null]
GRANT USAGE ON SEQUENCE audit.change_numbers TO audit_maintainer;
--@ ["sequence","audit.change_numbers","","",null]
ALTER SEQUENCE audit.change_numbers AS bigint INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 START 1 CACHE 1 NO CYCLE;
--@ ["function","audit.change_statement(bigint,oid,text,text)","","f (tracking bigint, relation oid, operation text, context text) text",null]
CREATE OR REPLACE FUNCTION audit.change_statement(tracking bigint, relation oid, operation text, context text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    t       audit.tracked_tables;
    keys    text[];
    a       record;
    name    text;
    differs text;
    side    integer;
    -- Of the old row and the new one.
    letter  constant text[] := '{o,n}';
    columns constant text[] := ARRAY[audit.columns_alias(relation, 'o'), audit.columns_alias(relation, 'n')];
    value   text[] := '{}';
    key     text[] := '{}';
    fields  text[] := '{}';
    tenant  text[] := ARRAY[context || '.tenant_id', context || '.tenant_id'];
    -- What the tenant is made of, if it is a text.
    named   text[] := ARRAY[context || '.tenant_key', context || '.tenant_key'];
    -- Each an expression for a column.
    olds    text[] := '{}';
    news    text[] := '{}';
    changes text[] := '{}';
    moved   constant text := audit.moved_expression(tracking, relation);
    told    text[] := '{}';
    rows    text;
    place   text := '';
    is_lost boolean;
BEGIN
    SELECT * INTO STRICT t FROM audit.tracked_tables WHERE id = tracking;
    -- By its place a column is known under another name as well.
    IF t.target_oid = t.target THEN
        t.columns_out := t.columns_out || ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = t.target AND attnum = ANY (t.places_out) AND NOT attisdropped);
        t.columns_masked := t.columns_masked || ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = t.target AND attnum = ANY (t.places_masked) AND NOT attisdropped);
    END IF;
    -- A column that is left out or masked, and has another name now or is gone: any that is new may be it, and is masked.
    is_lost := EXISTS (SELECT FROM unnest(t.columns_out || t.columns_masked) AS hidden
        WHERE hidden NOT IN (SELECT attname FROM pg_attribute WHERE attrelid = t.target AND attnum > 0 AND NOT attisdropped));
    IF t.tenant_column IS NOT NULL AND t.tenant_column NOT IN (SELECT attname FROM pg_attribute WHERE attrelid = t.target AND attnum > 0 AND NOT attisdropped AND (attnum = t.place_tenant OR t.target_oid <> t.target)) THEN
        -- Whose the rows are is not known any more, so they are shown to no tenant.
        t.tenant_column := NULL;
        tenant := '{NULL::uuid,NULL::uuid}';
        named := '{NULL::text,NULL::text}';
    END IF;
    -- The key is that of the tracked table, in its order: a partition has it too, and so may a table that inherits.
    SELECT array_agg(k.attname ORDER BY n) INTO keys
        FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS c (attnum, n) JOIN pg_attribute k ON k.attnum = c.attnum
        WHERE i.indrelid = t.target AND i.indisprimary AND k.attrelid = t.target;
    IF keys && (t.columns_out || t.columns_masked) THEN
        -- What is hidden is no key of an event either.
        keys := NULL;
    END IF;
    FOR a IN SELECT attname, attnum, atttypid, attgenerated FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped ORDER BY attnum LOOP
        name := to_json(a.attname::text)::text;
        differs := audit.differs_expression(a.attnum, a.atttypid);
        FOR side IN 1 .. 2 LOOP
            value[side] := audit.value_expression(letter[side] || a.attnum, a.atttypid, t.max_value_bytes);
            IF a.attname = t.tenant_column THEN
                named[side] := CASE a.atttypid WHEN 'uuid'::regtype THEN 'NULL::text' ELSE format('nullif(format(''%%s'', %s), '''')', letter[side] || a.attnum) END;
                tenant[side] := CASE a.atttypid WHEN 'uuid'::regtype THEN letter[side] || a.attnum ELSE format('audit.tenant_uuid(%s)', named[side]) END;
            END IF;
        END LOOP;
        -- A virtual column is computed when it is read, and has no value here.
        CONTINUE WHEN a.attname = ANY (t.columns_out) OR a.attgenerated = 'v';
        told := told || differs;
        IF a.attname = ANY (t.columns_masked) OR is_lost AND a.attname <> ALL (t.columns) THEN
            name := quote_literal(name || ':{"masked":true}');
            olds := olds || name;
            news := news || name;
            changes := changes || format('CASE WHEN %s THEN %s END', differs, name);
        ELSE
            olds := olds || format('concat(%L, %s, ''}'')', name || ':{"old":', value[1]);
            news := news || format('concat(%L, %s, ''}'')', name || ':{"new":', value[2]);
            -- Without a key, whoever reads it needs the whole row.
            changes := changes || format('CASE WHEN %s THEN concat(%L, %s, '',"new":'', %s, ''}'') END',
                CASE WHEN keys IS NULL THEN 'true' ELSE differs END, name || ':{"old":', value[1], value[2]);
        END IF;
    END LOOP;
    fields := ARRAY[audit.join_expressions(olds), audit.join_expressions(news)];
    FOR side IN 1 .. 2 LOOP
        -- As a text; of several columns, as an object.
        SELECT CASE count(*) WHEN 0 THEN NULL
                WHEN 1 THEN format('format(''%%s'', %s)', min(letter[side] || b.attnum))
                ELSE format('concat(''{'', %s, ''}'')::jsonb::text', string_agg(format('%L, %s', CASE WHEN n > 1 THEN ',' ELSE '' END || to_json(b.attname::text) || ':',
                    audit.value_expression(letter[side] || b.attnum, b.atttypid, t.max_value_bytes)), ', ' ORDER BY n)) END
            INTO name
            FROM unnest(keys) WITH ORDINALITY AS k (name, n) JOIN pg_attribute b ON b.attrelid = relation AND b.attname = k.name AND NOT b.attisdropped;
        -- An index has no room for more.
        key[side] := CASE WHEN name IS NULL THEN 'NULL::text'
            ELSE format('CASE WHEN octet_length(%1$s) <= 1024 THEN %1$s ELSE ''sha256:'' || encode(sha256(convert_to(%1$s, ''UTF8'')), ''hex'') END', name) END;
    END LOOP;
    IF operation IN ('UPDATE', 'UPDATE ONE') THEN
        -- The rows of both tables come in the order in which the statement changed them.
        rows := format($f$SELECT place, e.* FROM %1$s
            CROSS JOIN LATERAL (SELECT 'update' AS operation, %2$s AS tenant, %3$s AS tenant_key, %4$s AS key, %5$s AS changes, NULL AS moved%6$s) AS e
            WHERE %7$s$f$,
            CASE operation
                WHEN 'UPDATE ONE' THEN format('(SELECT 1 AS place) AS p CROSS JOIN old_rows AS o %s CROSS JOIN new_rows AS n %s', columns[1], columns[2])
                ELSE format('(SELECT row_number() OVER () AS place, * FROM old_rows AS o %s) AS o JOIN (SELECT row_number() OVER () AS place, * FROM new_rows AS n %s) AS n USING (place)',
                    columns[1], columns[2]) END,
            tenant[2], named[2], key[2], audit.join_expressions(changes),
            CASE WHEN operation = 'UPDATE' AND moved <> 'false' THEN format($f$ WHERE NOT (%1$s)
            UNION ALL SELECT 'delete', %2$s, %8$s, %3$s, %4$s, ',"moved_to":' || to_json(%6$s) WHERE %1$s
            UNION ALL SELECT 'insert', %5$s, %9$s, %6$s, %7$s, ',"moved_from":' || to_json(%3$s) WHERE %1$s$f$,
                moved, tenant[1], key[1], fields[1], tenant[2], key[2], fields[2], named[1], named[2]) ELSE '' END,
            -- Without a key a row is told whole if any of it changed.
            CASE WHEN keys IS NULL THEN array_to_string(told || moved, ' OR ') ELSE 'e.changes <> ''''' END)
            -- A fence: else the columns of both rows are sorted, and of so many no tuple can be made.
            || CASE operation WHEN 'UPDATE' THEN ' OFFSET 0' ELSE '' END;
        -- A key that is taken within the statement was left before, and is left again where a cascade changes a row twice; but
        -- where a key is checked at the end of the statement, or later, it may be taken before it is left.
        place := CASE (SELECT indimmediate FROM pg_index WHERE indrelid = t.target AND indisprimary)
            WHEN false THEN 'ORDER BY operation = ''insert'', place' ELSE 'ORDER BY place, operation = ''insert''' END;
    ELSE
        side := CASE operation WHEN 'DELETE' THEN 1 ELSE 2 END;
        rows := format('SELECT %L AS operation, %s AS tenant, %s AS tenant_key, %s AS key, %s AS changes, NULL AS moved FROM %s AS r %s',
            lower(operation), tenant[side], named[side], key[side], fields[side], (ARRAY['old_rows', 'new_rows'])[side], columns[side]);
    END IF;
    RETURN format($f$INSERT INTO audit.events (id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id, trace_id, span_id,
        service_name, action_type, target_type, target_id, status, created_at, metadata, problems, writer_id, seq, salt)
    SELECT (%1$s.id_head || lpad(to_hex(%1$s.id_tail + seq), 15, '0'))::uuid, tenant, %1$s.user_id, %1$s.user_role, %1$s.agent_id, %1$s.request_id,
        %1$s.llm_session_id, %1$s.conversation_id, %1$s.parent_id, %1$s.trace_id, %1$s.span_id,
        'postgres', %2$L, %1$s.target, key, 'succeeded', %1$s.at,
        concat('{', %1$s.about, CASE WHEN tenant_key <> tenant::text THEN ',"tenant_key":' || to_json(left(tenant_key, 1024)) END, ',"operation":"', operation, '","changes":{', changes, '}', moved, '}')::jsonb, %1$s.problems, %1$s.writer, seq, uuid_send(gen_random_uuid())
    FROM (SELECT %4$s AS seq, * FROM (%3$s) AS r) AS r$f$, context, t.action_type, rows, CASE operation WHEN 'UPDATE ONE' THEN '1' ELSE format('row_number() OVER (%s)', place) END);
END
$function$
;
--@ ["object","audit.change_statement(bigint,oid,text,text)","function","",null]
--@ ["owner","audit.change_statement(bigint,oid,text,text)","","",null]
ALTER FUNCTION audit.change_statement(bigint,oid,text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.change_statement(bigint,oid,text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.change_statement(bigint,oid,text,text) TO audit_maintainer;
--@ ["object","audit.changes","view","",null]
--@ ["owner","audit.changes","","",null]
ALTER VIEW audit.changes OWNER TO audit_owner;
--@ ["privilege","audit.changes","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.changes TO audit_auditor;
--@ ["privilege","audit.changes","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.changes TO audit_reader;
--@ ["privilege","audit.changes","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.changes TO audit_owner;
--@ ["privilege","audit.changes","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.changes TO audit_owner;
--@ ["privilege","audit.changes","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.changes TO audit_owner;
--@ ["privilege","audit.changes","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.changes TO audit_owner;
--@ ["privilege","audit.changes","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.changes TO audit_owner;
--@ ["privilege","audit.changes","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.changes TO audit_owner;
--@ ["privilege","audit.changes","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.changes TO audit_owner;
--@ ["view","audit.changes","","[[\"table_name\", \"text\"], [\"key\", \"text\"], [\"operation\", \"text\"], [\"field\", \"text\"], [\"old\", \"jsonb\"], [\"new\", \"jsonb\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"tenant_id\", \"uuid\"], [\"changed_at\", \"timestamp with time zone\"], [\"login\", \"text\"], [\"application_name\", \"text\"], [\"client_address\", \"text\"], [\"number\", \"bigint\"], [\"transaction\", \"text\"], [\"event_id\", \"uuid\"]]",null]
CREATE OR REPLACE VIEW audit.changes WITH (security_invoker = true) AS
 SELECT e.target_type AS table_name,
    e.target_id AS key,
    (e.metadata ->> 'operation'::text) AS operation,
    f.field,
    (f.value -> 'old'::text) AS old,
    (f.value -> 'new'::text) AS new,
    e.user_id,
    e.user_role,
    e.agent_id,
    e.request_id,
    e.tenant_id,
    e.created_at AS changed_at,
    (e.metadata ->> 'login'::text) AS login,
    (e.metadata ->> 'application_name'::text) AS application_name,
    (e.metadata ->> 'client_address'::text) AS client_address,
    audit.integer_of((e.metadata -> 'number'::text)) AS number,
    (e.metadata ->> 'transaction'::text) AS transaction,
    e.id AS event_id
   FROM (audit.events e
     LEFT JOIN LATERAL jsonb_each(
        CASE jsonb_typeof((e.metadata -> 'changes'::text))
            WHEN 'object'::text THEN (e.metadata -> 'changes'::text)
            ELSE NULL::jsonb
        END) f(field, value) ON (true))
  WHERE (e.metadata ? 'changes'::text);
--@ ["function","audit.check_details(jsonb)","","f (details jsonb) void",null]
CREATE OR REPLACE FUNCTION audit.check_details(details jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    -- Compressed, a value of a gigabyte may be small; its text could not be built.
    IF pg_column_size(details) > 65536 OR jsonb_typeof(details) <> 'object' THEN
        RAISE EXCEPTION 'audit trail: the details are no object, or longer than 65536 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$function$
;
--@ ["object","audit.check_details(jsonb)","function","",null]
--@ ["owner","audit.check_details(jsonb)","","",null]
ALTER FUNCTION audit.check_details(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.check_details(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.check_details(jsonb) TO audit_maintainer;
--@ ["function","audit.check_kinds(text[])","","f (kinds text[]) text[]",null]
CREATE OR REPLACE FUNCTION audit.check_kinds(kinds text[])
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    kind text;
BEGIN
    IF kinds IS NULL THEN
        RETURN audit.record_tables();
    END IF;
    IF cardinality(kinds) = 0 THEN
        RAISE EXCEPTION 'audit trail: no kind of record is named; leave it out for all of them' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF cardinality(kinds) > cardinality(audit.record_tables()) THEN
        RAISE EXCEPTION 'audit trail: more kinds of records are named than there are' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH kind IN ARRAY kinds LOOP
        IF audit.time_column(kind) IS NULL THEN
            RAISE EXCEPTION 'audit.%: no such record table', left(kind, 64) USING ERRCODE = 'undefined_table';
        END IF;
    END LOOP;
    IF cardinality(kinds) > (SELECT count(DISTINCT k) FROM unnest(kinds) k) THEN
        RAISE EXCEPTION 'audit trail: a kind of record is named twice' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN ARRAY(SELECT unnest(kinds));
END
$function$
;
--@ ["object","audit.check_kinds(text[])","function","",null]
--@ ["owner","audit.check_kinds(text[])","","",null]
ALTER FUNCTION audit.check_kinds(text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.check_kinds(text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.check_kinds(text[]) TO audit_maintainer;
--@ ["function","audit.check_text(text,text,integer)","","f (what text, value text, most_bytes integer) void",null]
CREATE OR REPLACE FUNCTION audit.check_text(what text, value text, most_bytes integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF octet_length(value) > most_bytes THEN
        RAISE EXCEPTION 'audit trail: % is longer than % bytes', what, most_bytes USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Nothing but white space, format and control characters, by their bytes in UTF8: no locale decides what is blank.
    IF value IS NULL OR encode(convert_to(value, 'UTF8'), 'hex')
        ~ '^(0[1-9a-f]|1[0-9a-f]|20|7f|c2[89][0-9a-f]|c2a0|c2ad|cd8f|d89c|e1859f|e185a0|e19a80|e19eb[45]|e1a08[bcdef]|e2808[0-9a-f]|e280a[89a-f]|e2819f|e281a[0-9a-f]|e2a080|e38080|e385a4|efb88[0-9a-f]|efbbbf|efbea0|efbfb[0-9ab]|f09bb2a[0-3]|f09d85b[3-9a]|f3a0[89ab][0-9a-f][89ab][0-9a-f])*$'
    THEN
        RAISE EXCEPTION 'audit trail: % is missing or blank', what USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$function$
;
--@ ["object","audit.check_text(text,text,integer)","function","",null]
--@ ["owner","audit.check_text(text,text,integer)","","",null]
ALTER FUNCTION audit.check_text(text,text,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.check_text(text,text,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.check_text(text,text,integer) TO audit_maintainer;
--@ ["function","audit.check_writer(uuid,bytea)","","f (writer uuid, secret bytea) void",null]
CREATE OR REPLACE FUNCTION audit.check_writer(writer uuid, secret bytea)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = writer AND w.secret_sha256 = sha256(secret)) THEN
        RAISE EXCEPTION 'audit trail: not the secret of this writer' USING ERRCODE = 'AT002';
    END IF;
END
$function$
;
--@ ["object","audit.check_writer(uuid,bytea)","function","",null]
--@ ["owner","audit.check_writer(uuid,bytea)","","",null]
ALTER FUNCTION audit.check_writer(uuid,bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.check_writer(uuid,bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.check_writer(uuid,bytea) TO audit_maintainer;
--@ ["column","audit.checkpoint","is_newest","","ALTER TABLE audit.checkpoint ALTER COLUMN is_newest TYPE boolean USING is_newest::boolean;"]
ALTER TABLE audit.checkpoint ADD COLUMN is_newest boolean;
--@ ["column","audit.checkpoint","note","","ALTER TABLE audit.checkpoint ALTER COLUMN note TYPE text USING note::text;"]
ALTER TABLE audit.checkpoint ADD COLUMN note text;
--@ ["column","audit.checkpoint","origin","","ALTER TABLE audit.checkpoint ALTER COLUMN origin TYPE text USING origin::text;"]
ALTER TABLE audit.checkpoint ADD COLUMN origin text;
--@ ["column","audit.checkpoint","signed_at","","ALTER TABLE audit.checkpoint ALTER COLUMN signed_at TYPE timestamp with time zone USING signed_at::timestamp with time zone;"]
ALTER TABLE audit.checkpoint ADD COLUMN signed_at timestamp with time zone;
--@ ["column","audit.checkpoint","size","","ALTER TABLE audit.checkpoint ALTER COLUMN size TYPE bigint USING size::bigint;"]
ALTER TABLE audit.checkpoint ADD COLUMN size bigint;
--@ ["column default","audit.checkpoint","is_newest","",null]
ALTER TABLE audit.checkpoint ALTER COLUMN is_newest SET DEFAULT true;
--@ ["column not null","audit.checkpoint","is_newest","",null]
ALTER TABLE audit.checkpoint ALTER COLUMN is_newest SET NOT NULL;
--@ ["column not null","audit.checkpoint","note","",null]
ALTER TABLE audit.checkpoint ALTER COLUMN note SET NOT NULL;
--@ ["column not null","audit.checkpoint","origin","",null]
ALTER TABLE audit.checkpoint ALTER COLUMN origin SET NOT NULL;
--@ ["column not null","audit.checkpoint","signed_at","",null]
ALTER TABLE audit.checkpoint ALTER COLUMN signed_at SET NOT NULL;
--@ ["column not null","audit.checkpoint","size","",null]
ALTER TABLE audit.checkpoint ALTER COLUMN size SET NOT NULL;
--@ ["columns","audit.checkpoint","","[[\"is_newest\", \"boolean\"], [\"origin\", \"text\"], [\"size\", \"bigint\"], [\"note\", \"text\"], [\"signed_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.checkpoint","checkpoint_is_newest_check",null,null]
ALTER TABLE audit.checkpoint ADD CONSTRAINT checkpoint_is_newest_check CHECK (is_newest);
--@ ["constraint","audit.checkpoint","checkpoint_note_check",null,null]
ALTER TABLE audit.checkpoint ADD CONSTRAINT checkpoint_note_check CHECK ((octet_length(note) <= 65536));
--@ ["constraint","audit.checkpoint","checkpoint_origin_check",null,null]
ALTER TABLE audit.checkpoint ADD CONSTRAINT checkpoint_origin_check CHECK (((octet_length(origin) >= 1) AND (octet_length(origin) <= 1024)));
--@ ["constraint","audit.checkpoint","checkpoint_pkey",null,null]
ALTER TABLE audit.checkpoint ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (is_newest);
--@ ["constraint","audit.checkpoint","checkpoint_size_check",null,null]
ALTER TABLE audit.checkpoint ADD CONSTRAINT checkpoint_size_check CHECK ((size >= 0));
--@ ["forced row security","audit.checkpoint","","",null]
ALTER TABLE audit.checkpoint FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.checkpoint","","",null]
ALTER TABLE audit.checkpoint SET LOGGED;
--@ ["object","audit.checkpoint","table","",null]
--@ ["owner","audit.checkpoint","","",null]
ALTER TABLE audit.checkpoint OWNER TO audit_owner;
--@ ["policy","audit.checkpoint","adding",null,null]
CREATE POLICY adding ON audit.checkpoint FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.checkpoint","auditor",null,null]
CREATE POLICY auditor ON audit.checkpoint FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.checkpoint","maintainer",null,null]
CREATE POLICY maintainer ON audit.checkpoint FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.checkpoint","operator",null,null]
CREATE POLICY operator ON audit.checkpoint FOR SELECT TO audit_operator USING (true);
--@ ["policy","audit.checkpoint","replacing",null,null]
CREATE POLICY replacing ON audit.checkpoint FOR UPDATE TO audit_maintainer USING (true) WITH CHECK (true);
--@ ["policy","audit.checkpoint","sealer",null,null]
CREATE POLICY sealer ON audit.checkpoint FOR SELECT TO audit_sealer USING (true);
--@ ["privilege","audit.checkpoint","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.checkpoint TO audit_auditor;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.checkpoint TO audit_maintainer;
--@ ["privilege","audit.checkpoint","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.checkpoint TO audit_operator;
--@ ["privilege","audit.checkpoint","[\"audit_sealer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.checkpoint TO audit_sealer;
--@ ["row security","audit.checkpoint","","",null]
ALTER TABLE audit.checkpoint ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.checkpoint","","r ","[\"audit\", \"checkpoint\"]"]
--@ ["function","audit.close_functions()","","f () void",null]
CREATE OR REPLACE FUNCTION audit.close_functions()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    function   regprocedure;
    is_definer boolean;
BEGIN
    FOR function, is_definer IN SELECT p.oid, p.prosecdef FROM pg_proc p
        WHERE p.pronamespace = 'audit'::regnamespace AND p.proowner = current_user::regrole AND p.proacl IS NULL
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
        -- With row_security = off, the functions would fail for the caller; with the caller's default tablespace or access
        -- method, partitions and indexes would be created there.
        IF is_definer THEN
            EXECUTE format('ALTER FUNCTION %s SET row_security = on', function);
            EXECUTE format('ALTER FUNCTION %s SET default_tablespace = ''''', function);
            EXECUTE format('ALTER FUNCTION %s SET default_table_access_method = ''heap''', function);
        END IF;
    END LOOP;
END
$function$
;
--@ ["object","audit.close_functions()","function","",null]
--@ ["owner","audit.close_functions()","","",null]
ALTER FUNCTION audit.close_functions() OWNER TO audit_maintainer;
--@ ["privilege","audit.close_functions()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.close_functions() TO audit_maintainer;
--@ ["function","audit.columns_alias(oid,text)","","f (relation oid, letter text) text",null]
CREATE OR REPLACE FUNCTION audit.columns_alias(relation oid, letter text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat('(' || string_agg(letter || attnum, ', ' ORDER BY attnum) || ')') FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$function$
;
--@ ["object","audit.columns_alias(oid,text)","function","",null]
--@ ["owner","audit.columns_alias(oid,text)","","",null]
ALTER FUNCTION audit.columns_alias(oid,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.columns_alias(oid,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.columns_alias(oid,text) TO audit_maintainer;
--@ ["function","audit.context_setting(text)","","f (name text) text",null]
CREATE OR REPLACE FUNCTION audit.context_setting(name text)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN "left"(convert_from(convert_to(NULLIF(current_setting(('app.'::text || name), true), ''::text), 'UTF8'::name), 'UTF8'::name), 1024)
;
--@ ["object","audit.context_setting(text)","function","",null]
--@ ["owner","audit.context_setting(text)","","",null]
ALTER FUNCTION audit.context_setting(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.context_setting(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.context_setting(text) TO audit_maintainer;
--@ ["function","audit.count_before_truncate()","","f () trigger",null]
CREATE OR REPLACE FUNCTION audit.count_before_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'off'
AS $function$
DECLARE
    rows text := '';
BEGIN
    BEGIN
        -- Those of partitions are counted with the table that they are of, and by themselves as well.
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s %I.%I LIMIT 10000001) AS r',
            CASE (SELECT relkind FROM pg_class WHERE oid = TG_RELID) WHEN 'p' THEN '' ELSE 'ONLY' END, TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO rows;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;
    END;
    PERFORM set_config('audit.truncated_rows', rows, true);
    RETURN NULL;
END
$function$
;
--@ ["object","audit.count_before_truncate()","function","",null]
--@ ["owner","audit.count_before_truncate()","","",null]
ALTER FUNCTION audit.count_before_truncate() OWNER TO audit_maintainer;
--@ ["privilege","audit.count_before_truncate()","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.count_before_truncate() TO audit_operator;
--@ ["privilege","audit.count_before_truncate()","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.count_before_truncate() TO audit_writer;
--@ ["privilege","audit.count_before_truncate()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.count_before_truncate() TO audit_maintainer;
--@ ["function","audit.count_records(jsonb)","","f (records jsonb) bigint",null]
CREATE OR REPLACE FUNCTION audit.count_records(records jsonb)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    -- A number that is no whole one above zero, or no table's, counts as so many that no batch can have them.
    SELECT CASE WHEN jsonb_typeof(records) = 'object' THEN (
        SELECT coalesce(sum(CASE WHEN key = ANY (audit.record_tables()) AND value::text ~ '^[1-9][0-9]{0,9}$' THEN value::text::bigint ELSE 1e18 END), 0)
        FROM jsonb_each(records))::bigint END
$function$
;
--@ ["object","audit.count_records(jsonb)","function","",null]
--@ ["owner","audit.count_records(jsonb)","","",null]
ALTER FUNCTION audit.count_records(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.count_records(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.count_records(jsonb) TO audit_maintainer;
--@ ["function","audit.counts_of(text[])","","f (codes text[]) jsonb",null]
CREATE OR REPLACE FUNCTION audit.counts_of(codes text[])
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN (SELECT COALESCE(jsonb_object_agg(counted.code, counted.n), '{}'::jsonb) AS "coalesce" FROM (SELECT code.code, count(*) AS n FROM unnest(counts_of.codes) code(code) WHERE (code.code IS NOT NULL) GROUP BY code.code) counted)
;
--@ ["object","audit.counts_of(text[])","function","",null]
--@ ["owner","audit.counts_of(text[])","","",null]
ALTER FUNCTION audit.counts_of(text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.counts_of(text[])","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.counts_of(text[]) TO audit_auditor;
--@ ["privilege","audit.counts_of(text[])","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.counts_of(text[]) TO audit_reader;
--@ ["privilege","audit.counts_of(text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.counts_of(text[]) TO audit_maintainer;
--@ ["function","audit.covered(uuid,timestamp with time zone,timestamp with time zone,text[])","","f (tenant uuid, from_time timestamp with time zone, to_time timestamp with time zone, kinds text[]) TABLE(partitions bigint, records bigint, tenant_key text)",null]
CREATE OR REPLACE FUNCTION audit.covered(tenant uuid, from_time timestamp with time zone, to_time timestamp with time zone, kinds text[])
 RETURNS TABLE(partitions bigint, records bigint, tenant_key text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    parent   text;
    leaf     text;
    present  bigint;
    in_span  bigint;
    key      text;
    first    timestamptz;
    last     timestamptz;
BEGIN
    partitions := 0;
    records := 0;
    FOREACH parent IN ARRAY audit.check_kinds(kinds) LOOP
        FOR leaf, first, last IN SELECT l, s.from_time, s.to_time FROM audit.leaves(parent) l, audit.leaf_span(parent, l) s LOOP
            CONTINUE WHEN from_time >= last OR to_time <= first;
            BEGIN
                EXECUTE format(
                    'SELECT count(*), count(*) FILTER (WHERE %1$I >= $2 AND %1$I < $3),
                        left(max(metadata->>''tenant_key'') FILTER (WHERE audit.tenant_uuid(metadata->>''tenant_key'') = $1), 256)
                     FROM audit_parts.%2$I WHERE ($1 IS NULL OR tenant_id = $1) AND %3$s', audit.time_column(parent), leaf, audit.by_the_host(parent))
                    INTO present, in_span, key USING tenant, from_time, to_time;
            EXCEPTION WHEN undefined_table THEN
                -- It was removed meanwhile.
                CONTINUE;
            END;
            -- Of all tenants, a partition stays with no record in it as well.
            IF present > 0 OR tenant IS NULL AND leaf !~ '_default$' THEN
                partitions := partitions + 1;
            END IF;
            records := records + in_span;
            tenant_key := coalesce(tenant_key, key);
        END LOOP;
    END LOOP;
    RETURN NEXT;
END
$function$
;
--@ ["object","audit.covered(uuid,timestamp with time zone,timestamp with time zone,text[])","function","",null]
--@ ["owner","audit.covered(uuid,timestamp with time zone,timestamp with time zone,text[])","","",null]
ALTER FUNCTION audit.covered(uuid,timestamp with time zone,timestamp with time zone,text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.covered(uuid,timestamp with time zone,timestamp with time zone,text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.covered(uuid,timestamp with time zone,timestamp with time zone,text[]) TO audit_maintainer;
--@ ["function","audit.current_tenant()","","f () uuid",null]
CREATE OR REPLACE FUNCTION audit.current_tenant()
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid
;
--@ ["object","audit.current_tenant()","function","",null]
--@ ["owner","audit.current_tenant()","","",null]
ALTER FUNCTION audit.current_tenant() OWNER TO audit_maintainer;
--@ ["privilege","audit.current_tenant()","[\"PUBLIC\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.current_tenant() TO PUBLIC;
--@ ["privilege","audit.current_tenant()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.current_tenant() TO audit_maintainer;
--@ ["function","audit.cut_value(text,integer)","","f (value text, most_bytes integer) text",null]
CREATE OR REPLACE FUNCTION audit.cut_value(value text, most_bytes integer)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT json_build_object('cut', CASE WHEN octet_length(left(value, most_bytes)) <= most_bytes THEN left(value, most_bytes) ELSE left(value, most_bytes / 4) END,
        'bytes', octet_length(value), 'sha256', encode(sha256(convert_to(value, 'UTF8')), 'hex'))::text
$function$
;
--@ ["object","audit.cut_value(text,integer)","function","",null]
--@ ["owner","audit.cut_value(text,integer)","","",null]
ALTER FUNCTION audit.cut_value(text,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.cut_value(text,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.cut_value(text,integer) TO audit_maintainer;
--@ ["function","audit.day_of(uuid)","","f (id uuid) integer",null]
CREATE OR REPLACE FUNCTION audit.day_of(id uuid)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN ((((('x'::text || encode(SUBSTRING(uuid_send(id) FROM 1 FOR 6), 'hex'::text)))::bit(48))::bigint / 86400000))::integer
;
--@ ["object","audit.day_of(uuid)","function","",null]
--@ ["owner","audit.day_of(uuid)","","",null]
ALTER FUNCTION audit.day_of(uuid) OWNER TO audit_maintainer;
--@ ["privilege","audit.day_of(uuid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.day_of(uuid) TO audit_maintainer;
--@ ["column","audit.dead_letters","created_at","","ALTER TABLE audit.dead_letters ALTER COLUMN created_at TYPE timestamp with time zone USING created_at::timestamp with time zone;"]
ALTER TABLE audit.dead_letters ADD COLUMN created_at timestamp with time zone;
--@ ["column","audit.dead_letters","frame","","ALTER TABLE audit.dead_letters ALTER COLUMN frame TYPE bytea USING frame::bytea;"]
ALTER TABLE audit.dead_letters ADD COLUMN frame bytea;
--@ ["column","audit.dead_letters","kind","","ALTER TABLE audit.dead_letters ALTER COLUMN kind TYPE text USING kind::text;"]
ALTER TABLE audit.dead_letters ADD COLUMN kind text;
--@ ["column","audit.dead_letters","reason","","ALTER TABLE audit.dead_letters ALTER COLUMN reason TYPE text USING reason::text;"]
ALTER TABLE audit.dead_letters ADD COLUMN reason text;
--@ ["column","audit.dead_letters","record_id","","ALTER TABLE audit.dead_letters ALTER COLUMN record_id TYPE uuid USING record_id::uuid;"]
ALTER TABLE audit.dead_letters ADD COLUMN record_id uuid;
--@ ["column","audit.dead_letters","salt","","ALTER TABLE audit.dead_letters ALTER COLUMN salt TYPE bytea USING salt::bytea;"]
ALTER TABLE audit.dead_letters ADD COLUMN salt bytea;
--@ ["column","audit.dead_letters","seq","","ALTER TABLE audit.dead_letters ALTER COLUMN seq TYPE bigint USING seq::bigint;"]
ALTER TABLE audit.dead_letters ADD COLUMN seq bigint;
--@ ["column","audit.dead_letters","sqlstate","","ALTER TABLE audit.dead_letters ALTER COLUMN sqlstate TYPE text USING sqlstate::text;"]
ALTER TABLE audit.dead_letters ADD COLUMN sqlstate text;
--@ ["column","audit.dead_letters","writer_id","","ALTER TABLE audit.dead_letters ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.dead_letters ADD COLUMN writer_id uuid;
--@ ["column default","audit.dead_letters","created_at","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN created_at SET DEFAULT clock_timestamp();
--@ ["column not null","audit.dead_letters","created_at","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN created_at SET NOT NULL;
--@ ["column not null","audit.dead_letters","frame","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN frame SET NOT NULL;
--@ ["column not null","audit.dead_letters","kind","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN kind SET NOT NULL;
--@ ["column not null","audit.dead_letters","reason","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN reason SET NOT NULL;
--@ ["column not null","audit.dead_letters","salt","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN salt SET NOT NULL;
--@ ["column not null","audit.dead_letters","seq","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN seq SET NOT NULL;
--@ ["column not null","audit.dead_letters","writer_id","",null]
ALTER TABLE audit.dead_letters ALTER COLUMN writer_id SET NOT NULL;
--@ ["columns","audit.dead_letters","","[[\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"], [\"record_id\", \"uuid\"], [\"kind\", \"text\"], [\"sqlstate\", \"text\"], [\"reason\", \"text\"], [\"frame\", \"bytea\"], [\"salt\", \"bytea\"], [\"created_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.dead_letters","dead_letters_frame_check",null,null]
ALTER TABLE audit.dead_letters ADD CONSTRAINT dead_letters_frame_check CHECK ((octet_length(frame) <= 268435456));
--@ ["constraint","audit.dead_letters","dead_letters_kind_check",null,null]
ALTER TABLE audit.dead_letters ADD CONSTRAINT dead_letters_kind_check CHECK ((octet_length(kind) <= 256));
--@ ["constraint","audit.dead_letters","dead_letters_pkey",null,null]
ALTER TABLE audit.dead_letters ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (writer_id, seq);
--@ ["constraint","audit.dead_letters","dead_letters_reason_check",null,null]
ALTER TABLE audit.dead_letters ADD CONSTRAINT dead_letters_reason_check CHECK ((octet_length(reason) <= 65536));
--@ ["constraint","audit.dead_letters","dead_letters_salt_check",null,null]
ALTER TABLE audit.dead_letters ADD CONSTRAINT dead_letters_salt_check CHECK ((octet_length(salt) <= 64));
--@ ["constraint","audit.dead_letters","dead_letters_sqlstate_check",null,null]
ALTER TABLE audit.dead_letters ADD CONSTRAINT dead_letters_sqlstate_check CHECK ((octet_length(sqlstate) <= 16));
--@ ["forced row security","audit.dead_letters","","",null]
ALTER TABLE audit.dead_letters FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.dead_letters","","",null]
ALTER TABLE audit.dead_letters SET LOGGED;
--@ ["object","audit.dead_letters","table","",null]
--@ ["owner","audit.dead_letters","","",null]
ALTER TABLE audit.dead_letters OWNER TO audit_owner;
--@ ["policy","audit.dead_letters","adding",null,null]
CREATE POLICY adding ON audit.dead_letters FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.dead_letters","auditor",null,null]
CREATE POLICY auditor ON audit.dead_letters FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.dead_letters","maintainer",null,null]
CREATE POLICY maintainer ON audit.dead_letters FOR SELECT TO audit_maintainer USING (true);
--@ ["privilege","audit.dead_letters","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.dead_letters TO audit_auditor;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["privilege","audit.dead_letters","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.dead_letters TO audit_maintainer;
--@ ["row security","audit.dead_letters","","",null]
ALTER TABLE audit.dead_letters ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.dead_letters","","r ","[\"audit\", \"dead_letters\"]"]
--@ ["trigger","audit.dead_letters","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.dead_letters FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.dead_letters ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.dead_letters FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.dead_letters ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.dead_letters","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.dead_letters FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.dead_letters ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.dead_letters FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.dead_letters ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.depending(text)","","f (leaf text) SETOF text",null]
CREATE OR REPLACE FUNCTION audit.depending(leaf text)
 RETURNS SETOF text
 LANGUAGE sql
 STABLE STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT DISTINCT format('%s %s depends on it', o.type, o.identity)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = c.reltype
    JOIN pg_depend d ON d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
        OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray))
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    CROSS JOIN LATERAL pg_identify_object(
        CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(r.ev_class, d.objid),
        CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END) o
    WHERE n.nspname = 'audit_parts' AND c.relname = leaf AND coalesce(k.conparentid, 0) = 0
        AND NOT EXISTS (SELECT FROM pg_depend own WHERE own.classid = d.classid AND own.objid = d.objid
            AND own.deptype <> 'n' AND own.refclassid = 'pg_class'::regclass AND own.refobjid = c.oid)
    ORDER BY 1
$function$
;
--@ ["object","audit.depending(text)","function","",null]
--@ ["owner","audit.depending(text)","","",null]
ALTER FUNCTION audit.depending(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.depending(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.depending(text) TO audit_maintainer;
--@ ["function","audit.destroy_subject_keys(uuid,text,uuid)","","f (erasure uuid, of_user text, of_tenant uuid) bigint",null]
CREATE OR REPLACE FUNCTION audit.destroy_subject_keys(erasure uuid, of_user text, of_tenant uuid)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    name  constant bytea := CASE WHEN of_user IS NOT NULL THEN audit.subject_of(of_user) END;
    holds text;
    destroyed bigint;
BEGIN
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.subject_keys IN SHARE ROW EXCLUSIVE MODE');
    SELECT string_agg(DISTINCT h.id::text, ', ') INTO holds FROM audit.subject_keys k
        JOIN audit.legal_holds h ON (h.tenant_id IS NULL OR h.tenant_id = k.tenant_id) AND h.from_time < k.month + interval '1 month' AND h.to_time > k.month::timestamptz
        WHERE k.erasure_id IS NULL AND (name IS NULL OR k.subject = name) AND (of_tenant IS NULL OR k.tenant_id = of_tenant)
            AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id);
    IF holds IS NOT NULL THEN
        RAISE EXCEPTION 'audit trail: archived content is not erased: held by the legal hold %', holds USING ERRCODE = 'object_in_use';
    END IF;
    IF NOT EXISTS (SELECT FROM audit.subject_keys k WHERE k.erasure_id IS NULL AND (name IS NULL OR k.subject = name) AND (of_tenant IS NULL OR k.tenant_id = of_tenant)) THEN
        RETURN 0;
    END IF;
    ALTER TABLE audit.subject_keys DISABLE TRIGGER append_only, DISABLE TRIGGER append_only_rows;
    UPDATE audit.subject_keys k SET key = NULL, subject = NULL, erasure_id = erasure
        WHERE k.erasure_id IS NULL AND (name IS NULL OR k.subject = name) AND (of_tenant IS NULL OR k.tenant_id = of_tenant);
    GET DIAGNOSTICS destroyed = ROW_COUNT;
    ALTER TABLE audit.subject_keys ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_rows;
    RETURN destroyed;
END
$function$
;
--@ ["object","audit.destroy_subject_keys(uuid,text,uuid)","function","",null]
--@ ["owner","audit.destroy_subject_keys(uuid,text,uuid)","","",null]
ALTER FUNCTION audit.destroy_subject_keys(uuid,text,uuid) OWNER TO audit_maintainer;
--@ ["privilege","audit.destroy_subject_keys(uuid,text,uuid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.destroy_subject_keys(uuid,text,uuid) TO audit_maintainer;
--@ ["function","audit.differs_expression(smallint,oid)","","f (attnum smallint, type oid) text",null]
CREATE OR REPLACE FUNCTION audit.differs_expression(attnum smallint, type oid)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format(CASE
        WHEN type = ANY ('{int2,int4,int8,bool,uuid,date,timestamp,timestamptz,bytea}'::regtype[]) THEN '(o%1$s IS DISTINCT FROM n%1$s)'
        WHEN type = ANY ('{text,varchar}'::regtype[]) THEN '(o%1$s IS DISTINCT FROM n%1$s COLLATE "C")'
        ELSE 'record_image_ne(ROW(o%1$s), ROW(n%1$s))' END, attnum)
$function$
;
--@ ["object","audit.differs_expression(smallint,oid)","function","",null]
--@ ["owner","audit.differs_expression(smallint,oid)","","",null]
ALTER FUNCTION audit.differs_expression(smallint,oid) OWNER TO audit_maintainer;
--@ ["privilege","audit.differs_expression(smallint,oid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.differs_expression(smallint,oid) TO audit_maintainer;
--@ ["function","audit.digests_of(jsonb)","","f (changes jsonb) jsonb",null]
CREATE OR REPLACE FUNCTION audit.digests_of(changes jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT coalesce(jsonb_object_agg(f.key, jsonb_strip_nulls(jsonb_build_object('old', hashtextextended((f.value -> 'old')::text, 0), 'new', hashtextextended((f.value -> 'new')::text, 0)))), '{}')
    FROM jsonb_each(changes) f
$function$
;
--@ ["object","audit.digests_of(jsonb)","function","",null]
--@ ["owner","audit.digests_of(jsonb)","","",null]
ALTER FUNCTION audit.digests_of(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.digests_of(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.digests_of(jsonb) TO audit_auditor;
--@ ["privilege","audit.digests_of(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.digests_of(jsonb) TO audit_reader;
--@ ["privilege","audit.digests_of(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.digests_of(jsonb) TO audit_maintainer;
--@ ["function","audit.drop_trigger(regclass,text)","","f (relation regclass, name text) void",null]
CREATE OR REPLACE FUNCTION audit.drop_trigger(relation regclass, name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = name) THEN
        EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
    END IF;
END
$function$
;
--@ ["object","audit.drop_trigger(regclass,text)","function","",null]
--@ ["owner","audit.drop_trigger(regclass,text)","","",null]
ALTER FUNCTION audit.drop_trigger(regclass,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.drop_trigger(regclass,text)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.drop_trigger(regclass,text) TO audit_operator;
--@ ["privilege","audit.drop_trigger(regclass,text)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.drop_trigger(regclass,text) TO audit_writer;
--@ ["privilege","audit.drop_trigger(regclass,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.drop_trigger(regclass,text) TO audit_maintainer;
--@ ["function","audit.emptying(text,text[])","","f (parent text, fields text[]) text",null]
CREATE OR REPLACE FUNCTION audit.emptying(parent text, fields text[])
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(CASE
        WHEN c.name IN ('problems', 'redactions') THEN format('%I = ''{}''', c.name)
        WHEN c.name <> 'metadata' THEN format('%I = NULL', c.name)
        WHEN fields IS NULL OR 'metadata' = ANY (fields) THEN 'metadata = ''{}'''
        ELSE format('metadata = r.metadata - %L::text[]', members.names) END, ', ')
    FROM unnest(audit.leaf_columns(parent, false)) c (name), (SELECT array_agg(substring(f FROM 10)) AS names FROM unnest(fields) f WHERE f LIKE 'metadata.%') members
    WHERE c.name <> 'salt' AND (fields IS NULL OR c.name = ANY (fields) OR c.name = 'metadata' AND members.names IS NOT NULL)
$function$
;
--@ ["object","audit.emptying(text,text[])","function","",null]
--@ ["owner","audit.emptying(text,text[])","","",null]
ALTER FUNCTION audit.emptying(text,text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.emptying(text,text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.emptying(text,text[]) TO audit_maintainer;
--@ ["function","audit.end_change(audit.change_context,bigint)","","f (c audit.change_context, rows bigint) void",null]
CREATE OR REPLACE FUNCTION audit.end_change(c audit.change_context, rows bigint)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF rows > 0 THEN
        INSERT INTO audit.batches (writer_id, first_seq, last_seq, records, dead_letters, first_id, last_id, service_name, library_version)
            VALUES (c.writer, 1, rows, concat('{"events": ', rows, '}')::jsonb, 0,
                (c.id_head || lpad(to_hex(c.id_tail + 1), 15, '0'))::uuid, (c.id_head || lpad(to_hex(c.id_tail + rows), 15, '0'))::uuid, 'postgres', 'sql');
    END IF;
END
$function$
;
--@ ["object","audit.end_change(audit.change_context,bigint)","function","",null]
--@ ["owner","audit.end_change(audit.change_context,bigint)","","",null]
ALTER FUNCTION audit.end_change(audit.change_context,bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.end_change(audit.change_context,bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.end_change(audit.change_context,bigint) TO audit_maintainer;
--@ ["function","audit.ensure_partition(text,timestamp with time zone)","","f (parent text, at timestamp with time zone) text",null]
CREATE OR REPLACE FUNCTION audit.ensure_partition(parent text, at timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    net       constant text := parent || '_default';
    leaf      text;
    is_leaf   boolean;
    span      record;
    is_in_net boolean;
BEGIN
    IF audit.time_column(parent) IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', left(parent, 64) USING ERRCODE = 'undefined_table';
    END IF;
    IF at < '1970-01-01 00:00+00' OR at >= '10000-01-01 00:00+00' THEN
        RAISE EXCEPTION 'audit.%: no partition for a time outside the years 1970 to 9999', parent
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    SELECT l.leaf, l.is_leaf INTO leaf, is_leaf FROM audit.leaves_over(parent, at, at) l ORDER BY l.is_leaf DESC LIMIT 1;
    IF leaf IS NULL THEN
        -- A clock that is wrong makes no partitions: its rows are kept in the default one. Each partition costs every
        -- reader some time, so nobody but an operator makes those of long ago.
        span := audit.free_span(parent, at);
        IF span.from_time > now() + interval '2 months'
            OR span.to_time <= now() - interval '1 year' AND NOT pg_has_role(session_user, 'audit_operator', 'MEMBER')
        THEN
            RETURN net;
        END IF;
        -- Writers that need the same partition at the same moment wait for each other here, and not for ever: where one is
        -- idle in its transaction, readings and holds are refused rather than hang.
        PERFORM audit.run_with_short_waits('LOCK TABLE audit.partition_lock IN SHARE UPDATE EXCLUSIVE MODE', 4);
        SELECT l.leaf, l.is_leaf INTO leaf, is_leaf FROM audit.leaves_over(parent, at, at) l ORDER BY l.is_leaf DESC LIMIT 1;
    END IF;
    IF leaf IS NOT NULL THEN
        -- Rows written to a detached table would be missing from the trail; rows written to another owner's table
        -- would be under that owner's control.
        IF NOT is_leaf THEN
            RAISE EXCEPTION 'audit_parts.%: not a partition of audit.% (any more)', leaf, parent
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Attach it again, as a table of audit_owner, or rename it so that a new partition can be made.';
        END IF;
        RETURN leaf;
    END IF;
    IF net NOT IN (SELECT audit.leaves(parent)) THEN
        RAISE EXCEPTION 'audit_parts.%: not the default partition of audit.%', net, parent
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- By what others have made, and by the interval that somebody has set, before the lock was free.
    span := audit.free_span(parent, at);
    -- A time that has rows in the default partition already stays there until they are settled.
    EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE id >= $1 AND id < $2)', net)
        INTO is_in_net USING audit.id_at(span.from_time), audit.id_at(span.to_time);
    IF is_in_net THEN
        RETURN net;
    END IF;
    leaf := audit.leaf_name(parent, span.from_time, span.to_time);
    -- Another session has made it since this transaction's snapshot, in which it cannot be seen.
    IF to_regclass(format('audit_parts.%I', leaf)) IS NOT NULL THEN
        RETURN leaf;
    END IF;
    PERFORM audit.make_leaf(parent, leaf, span.from_time, span.to_time);
    -- One attempt only: the caller runs this in a transaction of its own and retries.
    PERFORM audit.attach_leaf(parent, leaf, span.from_time, span.to_time, 1);
    RETURN leaf;
END
$function$
;
--@ ["object","audit.ensure_partition(text,timestamp with time zone)","function","",null]
--@ ["owner","audit.ensure_partition(text,timestamp with time zone)","","",null]
ALTER FUNCTION audit.ensure_partition(text,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.ensure_partition(text,timestamp with time zone)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.ensure_partition(text,timestamp with time zone) TO audit_operator;
--@ ["privilege","audit.ensure_partition(text,timestamp with time zone)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.ensure_partition(text,timestamp with time zone) TO audit_writer;
--@ ["privilege","audit.ensure_partition(text,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.ensure_partition(text,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.erase(text,text,text,text,uuid,uuid,text[])","","f (reason text, requested_by text, of_user text DEFAULT NULL::text, of_request text DEFAULT NULL::text, of_tenant uuid DEFAULT NULL::uuid, of_record uuid DEFAULT NULL::uuid, fields text[] DEFAULT NULL::text[], OUT event uuid, OUT rows bigint, OUT dead_letters bigint, OUT keys bigint) record",null]
CREATE OR REPLACE FUNCTION audit.erase(reason text, requested_by text, of_user text DEFAULT NULL::text, of_request text DEFAULT NULL::text, of_tenant uuid DEFAULT NULL::uuid, of_record uuid DEFAULT NULL::uuid, fields text[] DEFAULT NULL::text[], OUT event uuid, OUT rows bigint, OUT dead_letters bigint, OUT keys bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET "TimeZone" TO 'UTC'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    erasure constant uuid := gen_random_uuid();
    -- Not what the trail says about itself; and not what is empty already.
    chosen  constant text := '($1 IS NULL OR r.user_id = $1) AND ($2 IS NULL OR r.request_id = $2) AND ($3 IS NULL OR r.tenant_id = $3) AND ($4 IS NULL OR r.id = $4)
        AND (r.salt <> '''' OR NOT EXISTS (SELECT FROM audit.erasures e WHERE e.id = r.id AND e.writer_id = r.writer_id AND e.seq = r.seq))';
    known   constant text[] := ARRAY(SELECT DISTINCT c FROM unnest(audit.record_tables()) t, unnest(audit.leaf_columns(t, false)) c WHERE c <> 'salt' ORDER BY c);
    parent  text;
    leaf    text;
    which   text;
    holds   text;
    changed bigint;
    hashed  bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    PERFORM audit.check_text('the reason of an erasure', reason, 4096);
    PERFORM audit.check_text('who asked for an erasure', requested_by, 4096);
    IF num_nonnulls(of_user, of_request, of_tenant, of_record) = 0 THEN
        RAISE EXCEPTION 'audit trail: an erasure is of a user, a request, a tenant or a record' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    fields := CASE WHEN fields IS NOT NULL THEN ARRAY(SELECT DISTINCT f FROM unnest(fields) f ORDER BY f) END;
    IF cardinality(fields) = 0 OR EXISTS (SELECT FROM unnest(fields) f WHERE (f = ANY (known) OR f LIKE 'metadata._%') IS NOT TRUE) THEN
        RAISE EXCEPTION 'audit trail: what can be erased are %, and metadata.NAME', array_to_string(known, ', ') USING ERRCODE = 'undefined_column';
    END IF;
    -- No hold is placed from here on.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.legal_holds, audit.legal_hold_lifts IN SHARE MODE');
    rows := 0;
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        CONTINUE WHEN audit.emptying(parent, fields) IS NULL;
        -- A program may say of its records that the database has made them.
        which := concat(chosen, ' AND (EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = r.writer_id) OR ', replace(audit.by_the_host(parent), 'service_name', 'r.service_name'), ')');
        FOR leaf IN SELECT audit.leaves(parent) LOOP
            -- Whoever writes to a partition waits from here on: only where there is something to erase.
            EXECUTE format('SELECT count(*) FROM (SELECT FROM audit_parts.%I r WHERE %s LIMIT 1) one', leaf, which) INTO changed USING of_user, of_request, of_tenant, of_record;
            CONTINUE WHEN changed = 0;
            PERFORM audit.run_with_short_waits(format('LOCK TABLE audit_parts.%I IN SHARE ROW EXCLUSIVE MODE', leaf));
            EXECUTE format('SELECT count(*), string_agg(DISTINCT h.id::text, '', '') FROM audit_parts.%1$I r LEFT JOIN audit.held(%2$L, ''-infinity'', ''infinity'') o ON o.tenant_id IS NULL OR o.tenant_id = r.tenant_id
                LEFT JOIN audit.legal_holds h ON h.id = o.id AND r.%3$I >= h.from_time AND r.%3$I < h.to_time WHERE %4$s', leaf, parent, audit.time_column(parent), which)
                INTO changed, holds USING of_user, of_request, of_tenant, of_record;
            IF holds IS NOT NULL THEN
                RAISE EXCEPTION 'audit_parts.%: not erased: held by the legal hold %', leaf, holds USING ERRCODE = 'object_in_use';
            END IF;
            CONTINUE WHEN changed = 0;
            EXECUTE format('ALTER TABLE audit_parts.%I DISABLE TRIGGER append_only, DISABLE TRIGGER append_only_rows', leaf);
            EXECUTE format(
                'WITH before AS MATERIALIZED (SELECT r.id, r.writer_id, r.seq, r.ctid AS place, sha256(%1$s) AS content_hash FROM audit_parts.%2$I r WHERE %3$s),
                    after AS (
                        UPDATE audit_parts.%2$I r SET %4$s, salt = %5$s FROM before b WHERE r.ctid = b.place
                        RETURNING b.*, sha256(%1$s) AS remaining_hash)
                 INSERT INTO audit.erasures (erasure_id, table_name, id, writer_id, seq, fields, content_hash, remaining_hash)
                 SELECT $5, %6$L, a.id, a.writer_id, a.seq, coalesce($6, ''{}''), a.content_hash, a.remaining_hash FROM after a ORDER BY a.id',
                audit.images_expression(parent, false), leaf, which, audit.emptying(parent, fields),
                CASE WHEN fields IS NULL THEN '''''' ELSE 'substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16)' END, parent)
                USING of_user, of_request, of_tenant, of_record, erasure, fields;
            GET DIAGNOSTICS changed = ROW_COUNT;
            EXECUTE format('ALTER TABLE audit_parts.%I ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_rows', leaf);
            rows := rows + changed;
        END LOOP;
    END LOOP;
    -- A key is of all that an archive has of a user and a month: whoever erases less leaves it.
    keys := CASE WHEN fields IS NULL AND num_nonnulls(of_request, of_record) = 0 THEN audit.destroy_subject_keys(erasure, of_user, of_tenant) ELSE 0 END;
    -- Records that Postgres refused are kept as bytes.
    SELECT count(*) INTO dead_letters FROM audit.dead_letters d
        WHERE d.record_id = of_record OR position(convert_to(coalesce(of_user, of_request), 'UTF8') IN d.frame) > 0;
    IF rows > 0 OR keys > 0 THEN
        SELECT sha256(string_agg(audit.row_sha256(e), '' ORDER BY e.number)) INTO hashed FROM audit.erasures e WHERE e.erasure_id = erasure;
        -- Not what was erased: the event stays.
        event := audit.append_event('audit.erased', 'erasure', erasure::text, reason, NULL, of_tenant, jsonb_build_object(
            'rows', rows, 'fields', coalesce(fields, '{}'), 'requested_by', requested_by, 'sha256', encode(hashed, 'hex'),
            'of', CASE WHEN of_user IS NOT NULL THEN 'user' WHEN of_request IS NOT NULL THEN 'request' WHEN of_record IS NOT NULL THEN 'record' ELSE 'tenant' END)
            || CASE WHEN keys > 0 THEN jsonb_build_object('keys', keys) ELSE '{}' END);
    END IF;
END
$function$
;
--@ ["object","audit.erase(text,text,text,text,uuid,uuid,text[])","function","",null]
--@ ["owner","audit.erase(text,text,text,text,uuid,uuid,text[])","","",null]
ALTER FUNCTION audit.erase(text,text,text,text,uuid,uuid,text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.erase(text,text,text,text,uuid,uuid,text[])","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.erase(text,text,text,text,uuid,uuid,text[]) TO audit_operator;
--@ ["privilege","audit.erase(text,text,text,text,uuid,uuid,text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.erase(text,text,text,text,uuid,uuid,text[]) TO audit_maintainer;
--@ ["column","audit.erasures","content_hash","","ALTER TABLE audit.erasures ALTER COLUMN content_hash TYPE bytea USING content_hash::bytea;"]
ALTER TABLE audit.erasures ADD COLUMN content_hash bytea;
--@ ["column","audit.erasures","erasure_id","","ALTER TABLE audit.erasures ALTER COLUMN erasure_id TYPE uuid USING erasure_id::uuid;"]
ALTER TABLE audit.erasures ADD COLUMN erasure_id uuid;
--@ ["column","audit.erasures","fields","","ALTER TABLE audit.erasures ALTER COLUMN fields TYPE text[] USING fields::text[];"]
ALTER TABLE audit.erasures ADD COLUMN fields text[];
--@ ["column","audit.erasures","id","","ALTER TABLE audit.erasures ALTER COLUMN id TYPE uuid USING id::uuid;"]
ALTER TABLE audit.erasures ADD COLUMN id uuid;
--@ ["column","audit.erasures","number","","ALTER TABLE audit.erasures ALTER COLUMN number TYPE bigint USING number::bigint;"]
ALTER TABLE audit.erasures ADD COLUMN number bigint;
--@ ["column","audit.erasures","remaining_hash","","ALTER TABLE audit.erasures ALTER COLUMN remaining_hash TYPE bytea USING remaining_hash::bytea;"]
ALTER TABLE audit.erasures ADD COLUMN remaining_hash bytea;
--@ ["column","audit.erasures","seq","","ALTER TABLE audit.erasures ALTER COLUMN seq TYPE bigint USING seq::bigint;"]
ALTER TABLE audit.erasures ADD COLUMN seq bigint;
--@ ["column","audit.erasures","table_name","","ALTER TABLE audit.erasures ALTER COLUMN table_name TYPE text USING table_name::text;"]
ALTER TABLE audit.erasures ADD COLUMN table_name text;
--@ ["column","audit.erasures","writer_id","","ALTER TABLE audit.erasures ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.erasures ADD COLUMN writer_id uuid;
--@ ["column identity","audit.erasures","number","","ALTER TABLE audit.erasures ALTER COLUMN number SET GENERATED BY DEFAULT;"]
ALTER TABLE audit.erasures ALTER COLUMN number ADD GENERATED BY DEFAULT AS IDENTITY;
--@ ["column not null","audit.erasures","content_hash","",null]
ALTER TABLE audit.erasures ALTER COLUMN content_hash SET NOT NULL;
--@ ["column not null","audit.erasures","erasure_id","",null]
ALTER TABLE audit.erasures ALTER COLUMN erasure_id SET NOT NULL;
--@ ["column not null","audit.erasures","fields","",null]
ALTER TABLE audit.erasures ALTER COLUMN fields SET NOT NULL;
--@ ["column not null","audit.erasures","id","",null]
ALTER TABLE audit.erasures ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.erasures","number","",null]
ALTER TABLE audit.erasures ALTER COLUMN number SET NOT NULL;
--@ ["column not null","audit.erasures","remaining_hash","",null]
ALTER TABLE audit.erasures ALTER COLUMN remaining_hash SET NOT NULL;
--@ ["column not null","audit.erasures","seq","",null]
ALTER TABLE audit.erasures ALTER COLUMN seq SET NOT NULL;
--@ ["column not null","audit.erasures","table_name","",null]
ALTER TABLE audit.erasures ALTER COLUMN table_name SET NOT NULL;
--@ ["column not null","audit.erasures","writer_id","",null]
ALTER TABLE audit.erasures ALTER COLUMN writer_id SET NOT NULL;
--@ ["columns","audit.erasures","","[[\"number\", \"bigint\"], [\"erasure_id\", \"uuid\"], [\"table_name\", \"text\"], [\"id\", \"uuid\"], [\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"], [\"fields\", \"text[]\"], [\"content_hash\", \"bytea\"], [\"remaining_hash\", \"bytea\"]]",null]
--@ ["constraint","audit.erasures","erasures_content_hash_check",null,null]
ALTER TABLE audit.erasures ADD CONSTRAINT erasures_content_hash_check CHECK ((octet_length(content_hash) = 32));
--@ ["constraint","audit.erasures","erasures_pkey",null,null]
ALTER TABLE audit.erasures ADD CONSTRAINT erasures_pkey PRIMARY KEY (number);
--@ ["constraint","audit.erasures","erasures_remaining_hash_check",null,null]
ALTER TABLE audit.erasures ADD CONSTRAINT erasures_remaining_hash_check CHECK ((octet_length(remaining_hash) = 32));
--@ ["forced row security","audit.erasures","","",null]
ALTER TABLE audit.erasures FORCE ROW LEVEL SECURITY;
--@ ["index","audit.erasures","audit.erasures USING btree (erasure_id)","harmless",null]
CREATE INDEX ON audit.erasures USING btree (erasure_id);
--@ ["index","audit.erasures","audit.erasures USING btree (id)","harmless",null]
CREATE INDEX ON audit.erasures USING btree (id);
--@ ["logged","audit.erasures","","",null]
ALTER TABLE audit.erasures SET LOGGED;
--@ ["object","audit.erasures","table","",null]
--@ ["owner","audit.erasures","","",null]
ALTER TABLE audit.erasures OWNER TO audit_owner;
--@ ["policy","audit.erasures","adding",null,null]
CREATE POLICY adding ON audit.erasures FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.erasures","auditor",null,null]
CREATE POLICY auditor ON audit.erasures FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.erasures","maintainer",null,null]
CREATE POLICY maintainer ON audit.erasures FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.erasures","operator",null,null]
CREATE POLICY operator ON audit.erasures FOR SELECT TO audit_operator USING (true);
--@ ["policy","audit.erasures","sealer",null,null]
CREATE POLICY sealer ON audit.erasures FOR SELECT TO audit_sealer USING (true);
--@ ["privilege","audit.erasures","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.erasures TO audit_auditor;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.erasures TO audit_maintainer;
--@ ["privilege","audit.erasures","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.erasures TO audit_operator;
--@ ["privilege","audit.erasures","[\"audit_sealer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.erasures TO audit_sealer;
--@ ["row security","audit.erasures","","",null]
ALTER TABLE audit.erasures ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.erasures","","r ","[\"audit\", \"erasures\"]"]
--@ ["trigger","audit.erasures","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.erasures FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.erasures ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.erasures FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.erasures ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.erasures","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.erasures FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.erasures ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.erasures FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.erasures ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["logged","audit.erasures_number_seq","","",null]
ALTER SEQUENCE audit.erasures_number_seq SET LOGGED;
--@ ["object","audit.erasures_number_seq","sequence","",null]
--@ ["owner","audit.erasures_number_seq","","",null]
ALTER SEQUENCE audit.erasures_number_seq OWNER TO audit_owner;
--@ ["sequence","audit.erasures_number_seq","","",null]
ALTER SEQUENCE audit.erasures_number_seq AS bigint INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 START 1 CACHE 1 NO CYCLE;
--@ ["object","audit.escalations","view","",null]
--@ ["owner","audit.escalations","","",null]
ALTER VIEW audit.escalations OWNER TO audit_owner;
--@ ["privilege","audit.escalations","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.escalations TO audit_auditor;
--@ ["privilege","audit.escalations","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.escalations TO audit_reader;
--@ ["privilege","audit.escalations","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.escalations TO audit_owner;
--@ ["privilege","audit.escalations","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.escalations TO audit_owner;
--@ ["privilege","audit.escalations","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.escalations TO audit_owner;
--@ ["privilege","audit.escalations","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.escalations TO audit_owner;
--@ ["privilege","audit.escalations","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.escalations TO audit_owner;
--@ ["privilege","audit.escalations","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.escalations TO audit_owner;
--@ ["privilege","audit.escalations","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.escalations TO audit_owner;
--@ ["view","audit.escalations","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"reason\", \"text\"], [\"severity\", \"text\"], [\"escalated_to\", \"text\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.escalations WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'reason'::text) AS reason,
    (events.metadata ->> 'severity'::text) AS severity,
    (events.metadata ->> 'escalated_to'::text) AS escalated_to,
    events.input_summary,
    events.output_summary,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'escalation'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'reason'::text) AS reason,
    (activities.metadata ->> 'severity'::text) AS severity,
    (activities.metadata ->> 'escalated_to'::text) AS escalated_to,
    activities.input_summary,
    activities.output_summary,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'escalation'::text);
--@ ["column","audit.events","action_type","","ALTER TABLE audit.events ALTER COLUMN action_type TYPE text USING action_type::text;"]
ALTER TABLE audit.events ADD COLUMN action_type text;
--@ ["column","audit.events","agent_id","","ALTER TABLE audit.events ALTER COLUMN agent_id TYPE uuid USING agent_id::uuid;"]
ALTER TABLE audit.events ADD COLUMN agent_id uuid;
--@ ["column","audit.events","conversation_id","","ALTER TABLE audit.events ALTER COLUMN conversation_id TYPE text USING conversation_id::text;"]
ALTER TABLE audit.events ADD COLUMN conversation_id text;
--@ ["column","audit.events","created_at","","ALTER TABLE audit.events ALTER COLUMN created_at TYPE timestamp with time zone USING created_at::timestamp with time zone;"]
ALTER TABLE audit.events ADD COLUMN created_at timestamp with time zone;
--@ ["column","audit.events","error_code","","ALTER TABLE audit.events ALTER COLUMN error_code TYPE text USING error_code::text;"]
ALTER TABLE audit.events ADD COLUMN error_code text;
--@ ["column","audit.events","error_message","","ALTER TABLE audit.events ALTER COLUMN error_message TYPE text USING error_message::text;"]
ALTER TABLE audit.events ADD COLUMN error_message text;
--@ ["column","audit.events","id","","ALTER TABLE audit.events ALTER COLUMN id TYPE uuid USING id::uuid;"]
ALTER TABLE audit.events ADD COLUMN id uuid;
--@ ["column","audit.events","input_summary","","ALTER TABLE audit.events ALTER COLUMN input_summary TYPE text USING input_summary::text;"]
ALTER TABLE audit.events ADD COLUMN input_summary text;
--@ ["column","audit.events","latency_ms","","ALTER TABLE audit.events ALTER COLUMN latency_ms TYPE bigint USING latency_ms::bigint;"]
ALTER TABLE audit.events ADD COLUMN latency_ms bigint;
--@ ["column","audit.events","llm_session_id","","ALTER TABLE audit.events ALTER COLUMN llm_session_id TYPE uuid USING llm_session_id::uuid;"]
ALTER TABLE audit.events ADD COLUMN llm_session_id uuid;
--@ ["column","audit.events","metadata","","ALTER TABLE audit.events ALTER COLUMN metadata TYPE jsonb USING metadata::jsonb;"]
ALTER TABLE audit.events ADD COLUMN metadata jsonb;
--@ ["column","audit.events","output_summary","","ALTER TABLE audit.events ALTER COLUMN output_summary TYPE text USING output_summary::text;"]
ALTER TABLE audit.events ADD COLUMN output_summary text;
--@ ["column","audit.events","parent_id","","ALTER TABLE audit.events ALTER COLUMN parent_id TYPE uuid USING parent_id::uuid;"]
ALTER TABLE audit.events ADD COLUMN parent_id uuid;
--@ ["column","audit.events","problems","","ALTER TABLE audit.events ALTER COLUMN problems TYPE text[] USING problems::text[];"]
ALTER TABLE audit.events ADD COLUMN problems text[];
--@ ["column","audit.events","redactions","","ALTER TABLE audit.events ALTER COLUMN redactions TYPE text[] USING redactions::text[];"]
ALTER TABLE audit.events ADD COLUMN redactions text[];
--@ ["column","audit.events","request_id","","ALTER TABLE audit.events ALTER COLUMN request_id TYPE text USING request_id::text;"]
ALTER TABLE audit.events ADD COLUMN request_id text;
--@ ["column","audit.events","salt","","ALTER TABLE audit.events ALTER COLUMN salt TYPE bytea USING salt::bytea;"]
ALTER TABLE audit.events ADD COLUMN salt bytea;
--@ ["column","audit.events","seq","","ALTER TABLE audit.events ALTER COLUMN seq TYPE bigint USING seq::bigint;"]
ALTER TABLE audit.events ADD COLUMN seq bigint;
--@ ["column","audit.events","service_name","","ALTER TABLE audit.events ALTER COLUMN service_name TYPE text USING service_name::text;"]
ALTER TABLE audit.events ADD COLUMN service_name text;
--@ ["column","audit.events","span_id","","ALTER TABLE audit.events ALTER COLUMN span_id TYPE text USING span_id::text;"]
ALTER TABLE audit.events ADD COLUMN span_id text;
--@ ["column","audit.events","status","","ALTER TABLE audit.events ALTER COLUMN status TYPE audit.run_status USING status::audit.run_status;"]
ALTER TABLE audit.events ADD COLUMN status audit.run_status;
--@ ["column","audit.events","target_id","","ALTER TABLE audit.events ALTER COLUMN target_id TYPE text USING target_id::text;"]
ALTER TABLE audit.events ADD COLUMN target_id text;
--@ ["column","audit.events","target_type","","ALTER TABLE audit.events ALTER COLUMN target_type TYPE text USING target_type::text;"]
ALTER TABLE audit.events ADD COLUMN target_type text;
--@ ["column","audit.events","tenant_id","","ALTER TABLE audit.events ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid;"]
ALTER TABLE audit.events ADD COLUMN tenant_id uuid;
--@ ["column","audit.events","trace_id","","ALTER TABLE audit.events ALTER COLUMN trace_id TYPE text USING trace_id::text;"]
ALTER TABLE audit.events ADD COLUMN trace_id text;
--@ ["column","audit.events","user_id","","ALTER TABLE audit.events ALTER COLUMN user_id TYPE text USING user_id::text;"]
ALTER TABLE audit.events ADD COLUMN user_id text;
--@ ["column","audit.events","user_role","","ALTER TABLE audit.events ALTER COLUMN user_role TYPE text USING user_role::text;"]
ALTER TABLE audit.events ADD COLUMN user_role text;
--@ ["column","audit.events","writer_id","","ALTER TABLE audit.events ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.events ADD COLUMN writer_id uuid;
--@ ["column default","audit.events","metadata","",null]
ALTER TABLE audit.events ALTER COLUMN metadata SET DEFAULT '{}'::jsonb;
--@ ["column default","audit.events","problems","",null]
ALTER TABLE audit.events ALTER COLUMN problems SET DEFAULT '{}'::text[];
--@ ["column default","audit.events","redactions","",null]
ALTER TABLE audit.events ALTER COLUMN redactions SET DEFAULT '{}'::text[];
--@ ["column not null","audit.events","created_at","",null]
ALTER TABLE audit.events ALTER COLUMN created_at SET NOT NULL;
--@ ["column not null","audit.events","id","",null]
ALTER TABLE audit.events ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.events","metadata","",null]
ALTER TABLE audit.events ALTER COLUMN metadata SET NOT NULL;
--@ ["column not null","audit.events","problems","",null]
ALTER TABLE audit.events ALTER COLUMN problems SET NOT NULL;
--@ ["column not null","audit.events","redactions","",null]
ALTER TABLE audit.events ALTER COLUMN redactions SET NOT NULL;
--@ ["column not null","audit.events","salt","",null]
ALTER TABLE audit.events ALTER COLUMN salt SET NOT NULL;
--@ ["column not null","audit.events","seq","",null]
ALTER TABLE audit.events ALTER COLUMN seq SET NOT NULL;
--@ ["column not null","audit.events","status","",null]
ALTER TABLE audit.events ALTER COLUMN status SET NOT NULL;
--@ ["column not null","audit.events","writer_id","",null]
ALTER TABLE audit.events ALTER COLUMN writer_id SET NOT NULL;
--@ ["column statistics","audit.events","action_type","",null]
ALTER TABLE audit.events ALTER COLUMN action_type SET STATISTICS 0;
--@ ["column statistics","audit.events","agent_id","",null]
ALTER TABLE audit.events ALTER COLUMN agent_id SET STATISTICS 0;
--@ ["column statistics","audit.events","conversation_id","",null]
ALTER TABLE audit.events ALTER COLUMN conversation_id SET STATISTICS 0;
--@ ["column statistics","audit.events","error_code","",null]
ALTER TABLE audit.events ALTER COLUMN error_code SET STATISTICS 0;
--@ ["column statistics","audit.events","error_message","",null]
ALTER TABLE audit.events ALTER COLUMN error_message SET STATISTICS 0;
--@ ["column statistics","audit.events","input_summary","",null]
ALTER TABLE audit.events ALTER COLUMN input_summary SET STATISTICS 0;
--@ ["column statistics","audit.events","latency_ms","",null]
ALTER TABLE audit.events ALTER COLUMN latency_ms SET STATISTICS 0;
--@ ["column statistics","audit.events","llm_session_id","",null]
ALTER TABLE audit.events ALTER COLUMN llm_session_id SET STATISTICS 0;
--@ ["column statistics","audit.events","metadata","",null]
ALTER TABLE audit.events ALTER COLUMN metadata SET STATISTICS 0;
--@ ["column statistics","audit.events","output_summary","",null]
ALTER TABLE audit.events ALTER COLUMN output_summary SET STATISTICS 0;
--@ ["column statistics","audit.events","parent_id","",null]
ALTER TABLE audit.events ALTER COLUMN parent_id SET STATISTICS 0;
--@ ["column statistics","audit.events","problems","",null]
ALTER TABLE audit.events ALTER COLUMN problems SET STATISTICS 0;
--@ ["column statistics","audit.events","redactions","",null]
ALTER TABLE audit.events ALTER COLUMN redactions SET STATISTICS 0;
--@ ["column statistics","audit.events","request_id","",null]
ALTER TABLE audit.events ALTER COLUMN request_id SET STATISTICS 0;
--@ ["column statistics","audit.events","salt","",null]
ALTER TABLE audit.events ALTER COLUMN salt SET STATISTICS 0;
--@ ["column statistics","audit.events","seq","",null]
ALTER TABLE audit.events ALTER COLUMN seq SET STATISTICS 0;
--@ ["column statistics","audit.events","service_name","",null]
ALTER TABLE audit.events ALTER COLUMN service_name SET STATISTICS 0;
--@ ["column statistics","audit.events","span_id","",null]
ALTER TABLE audit.events ALTER COLUMN span_id SET STATISTICS 0;
--@ ["column statistics","audit.events","status","",null]
ALTER TABLE audit.events ALTER COLUMN status SET STATISTICS 0;
--@ ["column statistics","audit.events","target_id","",null]
ALTER TABLE audit.events ALTER COLUMN target_id SET STATISTICS 0;
--@ ["column statistics","audit.events","target_type","",null]
ALTER TABLE audit.events ALTER COLUMN target_type SET STATISTICS 0;
--@ ["column statistics","audit.events","tenant_id","",null]
ALTER TABLE audit.events ALTER COLUMN tenant_id SET STATISTICS 0;
--@ ["column statistics","audit.events","trace_id","",null]
ALTER TABLE audit.events ALTER COLUMN trace_id SET STATISTICS 0;
--@ ["column statistics","audit.events","user_id","",null]
ALTER TABLE audit.events ALTER COLUMN user_id SET STATISTICS 0;
--@ ["column statistics","audit.events","user_role","",null]
ALTER TABLE audit.events ALTER COLUMN user_role SET STATISTICS 0;
--@ ["column statistics","audit.events","writer_id","",null]
ALTER TABLE audit.events ALTER COLUMN writer_id SET STATISTICS 0;
--@ ["columns","audit.events","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"agent_id\", \"uuid\"], [\"llm_session_id\", \"uuid\"], [\"parent_id\", \"uuid\"], [\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"], [\"created_at\", \"timestamp with time zone\"], [\"latency_ms\", \"bigint\"], [\"status\", \"audit.run_status\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"request_id\", \"text\"], [\"conversation_id\", \"text\"], [\"trace_id\", \"text\"], [\"span_id\", \"text\"], [\"service_name\", \"text\"], [\"action_type\", \"text\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"metadata\", \"jsonb\"], [\"problems\", \"text[]\"], [\"redactions\", \"text[]\"], [\"salt\", \"bytea\"]]",null]
--@ ["constraint","audit.events","events_created_at_check",null,null]
ALTER TABLE audit.events ADD CONSTRAINT events_created_at_check CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone)));
--@ ["constraint","audit.events","events_pkey",null,null]
ALTER TABLE audit.events ADD CONSTRAINT events_pkey PRIMARY KEY (id);
--@ ["constraint","audit.events","events_size",null,null]
ALTER TABLE audit.events ADD CONSTRAINT events_size CHECK ((((((((((((((((COALESCE(octet_length(user_id), 0) + COALESCE(octet_length(user_role), 0)) + COALESCE(octet_length(request_id), 0)) + COALESCE(octet_length(conversation_id), 0)) + COALESCE(octet_length(trace_id), 0)) + COALESCE(octet_length(span_id), 0)) + COALESCE(octet_length(service_name), 0)) + COALESCE(octet_length(action_type), 0)) + COALESCE(octet_length(target_type), 0)) + COALESCE(octet_length(target_id), 0)) + COALESCE(octet_length(input_summary), 0)) + COALESCE(octet_length(output_summary), 0)) + COALESCE(octet_length(error_code), 0)) + COALESCE(octet_length(error_message), 0)) <= 150994944) AND (octet_length(salt) <= 64) AND
CASE
    WHEN ((pg_column_size(metadata) > 2000) OR (pg_column_compression(metadata) IS NOT NULL)) THEN (octet_length((metadata)::text) <= 150994944)
    ELSE true
END AND (cardinality(problems) <= 101) AND
CASE
    WHEN ((pg_column_size(problems) > 2000) OR (pg_column_compression(problems) IS NOT NULL)) THEN (octet_length(array_to_string(problems, ','::text)) <= 1048576)
    ELSE true
END AND (cardinality(redactions) <= 101) AND
CASE
    WHEN ((pg_column_size(redactions) > 2000) OR (pg_column_compression(redactions) IS NOT NULL)) THEN (octet_length(array_to_string(redactions, ','::text)) <= 1048576)
    ELSE true
END));
--@ ["forced row security","audit.events","","",null]
ALTER TABLE audit.events FORCE ROW LEVEL SECURITY;
--@ ["index","audit.events","audit.events USING btree (request_id, tenant_id)","long",null]
CREATE INDEX ON audit.events USING btree (request_id, tenant_id);
--@ ["index","audit.events","audit.events USING btree (target_id, target_type) WHERE ((COALESCE(octet_length(target_id), 0) <= 1100) AND (metadata ? 'changes'::text))","long",null]
CREATE INDEX ON audit.events USING btree (target_id, target_type) WHERE ((COALESCE(octet_length(target_id), 0) <= 1100) AND (metadata ? 'changes'::text));
--@ ["index","audit.events","audit.events USING btree (tenant_id, id)","harmless",null]
CREATE INDEX ON audit.events USING btree (tenant_id, id);
--@ ["object","audit.events","table","",null]
--@ ["owner","audit.events","","",null]
ALTER TABLE audit.events OWNER TO audit_owner;
--@ ["policy","audit.events","adding",null,null]
CREATE POLICY adding ON audit.events FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.events","auditor",null,null]
CREATE POLICY auditor ON audit.events FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.events","maintainer",null,null]
CREATE POLICY maintainer ON audit.events FOR SELECT TO audit_maintainer USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["policy","audit.events","tenant",null,null]
CREATE POLICY tenant ON audit.events FOR SELECT TO audit_reader USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["privilege","audit.events","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.events TO audit_auditor;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.events TO audit_maintainer;
--@ ["privilege","audit.events","[\"audit_owner\", \"SELECT\", \" (id)\"]","",null]
GRANT SELECT (id) ON TABLE audit.events TO audit_owner;
--@ ["privilege","audit.events","[\"audit_owner\", \"UPDATE\", \" (id)\"]","",null]
GRANT UPDATE (id) ON TABLE audit.events TO audit_owner;
--@ ["privilege","audit.events","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.events TO audit_reader;
--@ ["row security","audit.events","","",null]
ALTER TABLE audit.events ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.events","","p RANGE (id)","[\"audit\", \"events\"]"]
--@ ["trigger","audit.events","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.events FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.events FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only;
--@ ["object","audit.feedback","view","",null]
--@ ["owner","audit.feedback","","",null]
ALTER VIEW audit.feedback OWNER TO audit_owner;
--@ ["privilege","audit.feedback","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.feedback TO audit_auditor;
--@ ["privilege","audit.feedback","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.feedback TO audit_reader;
--@ ["privilege","audit.feedback","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.feedback TO audit_owner;
--@ ["privilege","audit.feedback","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.feedback TO audit_owner;
--@ ["privilege","audit.feedback","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.feedback TO audit_owner;
--@ ["privilege","audit.feedback","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.feedback TO audit_owner;
--@ ["privilege","audit.feedback","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.feedback TO audit_owner;
--@ ["privilege","audit.feedback","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.feedback TO audit_owner;
--@ ["privilege","audit.feedback","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.feedback TO audit_owner;
--@ ["view","audit.feedback","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"run_id\", \"uuid\"], [\"rating\", \"bigint\"], [\"comment\", \"text\"], [\"favourite\", \"boolean\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.feedback WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    audit.uuid_of((events.metadata -> 'run_id'::text)) AS run_id,
    audit.integer_of((events.metadata -> 'rating'::text)) AS rating,
    (events.metadata ->> 'comment'::text) AS comment,
    audit.boolean_of((events.metadata -> 'favourite'::text)) AS favourite,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'feedback'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    audit.uuid_of((activities.metadata -> 'run_id'::text)) AS run_id,
    audit.integer_of((activities.metadata -> 'rating'::text)) AS rating,
    (activities.metadata ->> 'comment'::text) AS comment,
    audit.boolean_of((activities.metadata -> 'favourite'::text)) AS favourite,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'feedback'::text);
--@ ["function","audit.finish_tracking(regclass)","","f (target regclass) void",null]
CREATE OR REPLACE FUNCTION audit.finish_tracking(target regclass)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    t audit.tracked_tables;
BEGIN
    SELECT * INTO t FROM audit.tracked_tables r WHERE r.target = finish_tracking.target;
    IF NOT FOUND OR NOT audit.is_lent(t.target) THEN
        RAISE EXCEPTION 'audit trail: this table is not being tracked by you' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM audit.append_event('audit.table_tracked', 'table', t.name, NULL, NULL, NULL, to_jsonb(t) - '{id,target,name,columns,target_oid,places_out,places_masked,place_tenant,tracked_by,tracked_at}'::text[]);
END
$function$
;
--@ ["object","audit.finish_tracking(regclass)","function","",null]
--@ ["owner","audit.finish_tracking(regclass)","","",null]
ALTER FUNCTION audit.finish_tracking(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.finish_tracking(regclass)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.finish_tracking(regclass) TO audit_operator;
--@ ["privilege","audit.finish_tracking(regclass)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.finish_tracking(regclass) TO audit_writer;
--@ ["privilege","audit.finish_tracking(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.finish_tracking(regclass) TO audit_maintainer;
--@ ["function","audit.forget_dropped_tables()","","f () void",null]
CREATE OR REPLACE FUNCTION audit.forget_dropped_tables()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    t audit.tracked_tables;
BEGIN
    FOR t IN SELECT * FROM audit.tracked_tables r WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = r.target) LOOP
        PERFORM audit.forget_function(t.id);
        DELETE FROM audit.tracked_tables r WHERE r.id = t.id;
        PERFORM audit.append_event('audit.table_untracked', 'table', t.name, 'the table was dropped', NULL, NULL, NULL);
    END LOOP;
END
$function$
;
--@ ["object","audit.forget_dropped_tables()","function","",null]
--@ ["owner","audit.forget_dropped_tables()","","",null]
ALTER FUNCTION audit.forget_dropped_tables() OWNER TO audit_maintainer;
--@ ["privilege","audit.forget_dropped_tables()","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_dropped_tables() TO audit_operator;
--@ ["privilege","audit.forget_dropped_tables()","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_dropped_tables() TO audit_writer;
--@ ["privilege","audit.forget_dropped_tables()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_dropped_tables() TO audit_maintainer;
--@ ["function","audit.forget_function(bigint)","","f (tracking bigint) void",null]
CREATE OR REPLACE FUNCTION audit.forget_function(tracking bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    name constant text := format('audit.%I()', 'record_change_' || tracking);
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure(name)) THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION %s RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L', name, 'BEGIN RETURN NULL; END');
    ELSE
        EXECUTE format('DROP FUNCTION IF EXISTS %s', name);
    END IF;
END
$function$
;
--@ ["object","audit.forget_function(bigint)","function","",null]
--@ ["owner","audit.forget_function(bigint)","","",null]
ALTER FUNCTION audit.forget_function(bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.forget_function(bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_function(bigint) TO audit_maintainer;
--@ ["function","audit.forget_tracking(regclass)","","f (target regclass) void",null]
CREATE OR REPLACE FUNCTION audit.forget_tracking(target regclass)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    t audit.tracked_tables;
BEGIN
    SELECT * INTO t FROM audit.tracked_tables r WHERE r.target = forget_tracking.target;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: this table is not tracked' USING ERRCODE = 'undefined_object';
    END IF;
    IF NOT audit.is_lent(t.target) THEN
        RAISE EXCEPTION 'audit trail: % is not yours to track', t.name USING ERRCODE = 'insufficient_privilege', HINT = 'Its owner may, and a superuser, by audit.untrack.';
    END IF;
    PERFORM audit.forget_function(t.id);
    DELETE FROM audit.tracked_tables r WHERE r.id = t.id;
    PERFORM audit.append_event('audit.table_untracked', 'table', t.name, NULL, NULL, NULL, NULL);
END
$function$
;
--@ ["object","audit.forget_tracking(regclass)","function","",null]
--@ ["owner","audit.forget_tracking(regclass)","","",null]
ALTER FUNCTION audit.forget_tracking(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.forget_tracking(regclass)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_tracking(regclass) TO audit_operator;
--@ ["privilege","audit.forget_tracking(regclass)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_tracking(regclass) TO audit_writer;
--@ ["privilege","audit.forget_tracking(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.forget_tracking(regclass) TO audit_maintainer;
--@ ["function","audit.free_span(text,timestamp with time zone)","","f (parent text, at timestamp with time zone, OUT from_time timestamp with time zone, OUT to_time timestamp with time zone) record",null]
CREATE OR REPLACE FUNCTION audit.free_span(parent text, at timestamp with time zone, OUT from_time timestamp with time zone, OUT to_time timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 STABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    every  constant text := audit.partition_interval(parent);
    before timestamptz;
    after  timestamptz;
BEGIN
    from_time := date_trunc(every, at);
    to_time := from_time + ('1 ' || every)::interval;
    SELECT max(CASE WHEN l.to_time <= at THEN l.to_time WHEN l.from_time <= at THEN l.from_time END),
            min(CASE WHEN l.from_time > at THEN l.from_time WHEN l.to_time > at THEN l.to_time END) INTO before, after
        FROM (SELECT t.from_time, t.to_time FROM audit.leaves_over(parent, free_span.from_time, free_span.to_time) t
            UNION ALL SELECT t.from_time, t.to_time FROM audit.removed_over(parent, free_span.from_time, free_span.to_time) t) l;
    -- No id is earlier than 1970.
    from_time := greatest(from_time, before, '1970-01-01 00:00+00');
    to_time := least(to_time, after);
END
$function$
;
--@ ["object","audit.free_span(text,timestamp with time zone)","function","",null]
--@ ["owner","audit.free_span(text,timestamp with time zone)","","",null]
ALTER FUNCTION audit.free_span(text,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.free_span(text,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.free_span(text,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.give_to_owner(regclass)","","f (target regclass) void",null]
CREATE OR REPLACE FUNCTION audit.give_to_owner(target regclass)
 RETURNS void
 LANGUAGE plpgsql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    EXECUTE format('ALTER TABLE %s OWNER TO audit_owner', target);
    EXECUTE format('GRANT ALL ON %s TO audit_maintainer', target);
    EXECUTE format('REVOKE ALL ON %s FROM audit_owner', target);
    IF target = to_regclass('audit.legal_holds') OR target IN (SELECT to_regclass(format('audit.%I', name)) FROM unnest(audit.record_tables()) name) THEN
        EXECUTE format('GRANT SELECT (id), UPDATE (id) ON %s TO audit_owner', target);
    END IF;
END
$function$
;
--@ ["object","audit.give_to_owner(regclass)","function","",null]
--@ ["owner","audit.give_to_owner(regclass)","","",null]
ALTER FUNCTION audit.give_to_owner(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.give_to_owner(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.give_to_owner(regclass) TO audit_maintainer;
--@ ["function","audit.hash_batches(uuid[],bigint[])","","f (writers uuid[], firsts bigint[]) TABLE(writer_id uuid, first_seq bigint, root bytea, fingerprints bytea)",null]
CREATE OR REPLACE FUNCTION audit.hash_batches(writers uuid[], firsts bigint[])
 RETURNS TABLE(writer_id uuid, first_seq bigint, root bytea, fingerprints bytea)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET jit TO 'off'
 SET enable_seqscan TO 'off'
 SET max_parallel_workers_per_gather TO '0'
AS $function$
DECLARE
    -- Each row has an id, and all lie within the batch's.
    of_batch constant text := 'b.records ? %L AND r.id BETWEEN b.first_id AND b.last_id AND r.writer_id = b.writer_id AND r.seq BETWEEN b.first_seq AND b.last_seq';
    chosen   constant text := 'SELECT b.writer_id, b.first_seq, b.last_seq, b.records, b.dead_letters, b.first_id, b.last_id FROM unnest($1, $2) k (writer_id, first_seq)
        JOIN audit.batches b ON b.writer_id = k.writer_id AND b.first_seq = k.first_seq
        WHERE coalesce(audit.day_of(b.last_id) - audit.day_of(b.first_id), 0) <= 61 OR NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = b.writer_id)';
    first    integer;
    last     integer;
    parents  text[];
    queries  text;
BEGIN
    EXECUTE format('SELECT min(audit.day_of(b.first_id)), max(audit.day_of(b.last_id)), ARRAY[%s] FROM (%s) b',
            (SELECT string_agg(format('CASE WHEN bool_or(b.records ? %L) THEN %L END', t, t), ', ') FROM unnest(audit.record_tables()) t), chosen)
        INTO first, last, parents USING writers, firsts;
    SELECT string_agg(audit.leaves_query(parent, leaf, format(of_batch, parent)), ' UNION ALL ') INTO queries
    FROM unnest(audit.record_tables()) parent, LATERAL (
        SELECT l.leaf FROM audit.leaves_over(parent, to_timestamp(first * 86400.0), to_timestamp(last * 86400.0)) l WHERE l.is_leaf
        UNION ALL SELECT l FROM audit.leaves(parent) l WHERE l = parent || '_default') of_days (leaf)
    WHERE parent = ANY (parents);
    queries := concat_ws(' UNION ALL ', queries,
        'SELECT 1000 AS place, 0 AS day, d.seq, d.record_id AS id, d.writer_id, d.content_hash, sha256(d.core || d.content_hash) AS leaf_hash FROM (
            SELECT r.seq, r.record_id, r.writer_id, ''\x0001''::bytea || audit.text_image(''dead_letters'') || audit.image(uuid_send(r.writer_id)) || audit.image(int8send(r.seq))
                    || audit.image(uuid_send(r.record_id)) || audit.text_image(r.kind) || audit.text_image(r.sqlstate) AS core,
                sha256(audit.image(r.salt) || audit.text_image(r.reason) || audit.image(r.frame)) AS content_hash
            FROM audit.dead_letters r WHERE b.dead_letters > 0 AND r.writer_id = b.writer_id AND r.seq BETWEEN b.first_seq AND b.last_seq OFFSET 0) d');
    -- By parts of 2^20 leaves, each a full subtree: the hashes of many more are too long for one value.
    RETURN QUERY EXECUTE format(
        'SELECT p.writer_id, p.first_seq, audit.tree_root(string_agg(p.root, '''' ORDER BY p.part)),
            CASE WHEN sum(p.rows) <= 100000000 THEN string_agg(p.fingerprints, '''' ORDER BY p.part) END
         FROM (
             SELECT h.writer_id, h.first_seq, h.last_seq, h.number >> 20 AS part, count(*) AS rows, audit.tree_root(string_agg(h.leaf_hash, '''' ORDER BY h.number)) AS root,
                 string_agg(substring(h.leaf_hash FROM 1 FOR 4) || substring(h.content_hash FROM 1 FOR 4), '''' ORDER BY h.number) AS fingerprints
             FROM (
                 SELECT b.writer_id, b.first_seq, b.last_seq, l.leaf_hash, l.content_hash,
                     row_number() OVER (PARTITION BY b.writer_id, b.first_seq ORDER BY l.place, l.day, l.seq, l.id) - 1 AS number
                 FROM (%s) b, LATERAL (%s) l) h
             GROUP BY 1, 2, 3, 4) p
         GROUP BY p.writer_id, p.first_seq, p.last_seq HAVING sum(p.rows) = p.last_seq - p.first_seq + 1', chosen, queries)
        USING writers, firsts;
END
$function$
;
--@ ["object","audit.hash_batches(uuid[],bigint[])","function","",null]
--@ ["owner","audit.hash_batches(uuid[],bigint[])","","",null]
ALTER FUNCTION audit.hash_batches(uuid[],bigint[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.hash_batches(uuid[],bigint[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.hash_batches(uuid[],bigint[]) TO audit_maintainer;
--@ ["function","audit.held(text,timestamp with time zone,timestamp with time zone)","","f (parent text, from_time timestamp with time zone, to_time timestamp with time zone) TABLE(id uuid, tenant_id uuid)",null]
CREATE OR REPLACE FUNCTION audit.held(parent text, from_time timestamp with time zone, to_time timestamp with time zone)
 RETURNS TABLE(id uuid, tenant_id uuid)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT h.id, h.tenant_id FROM audit.legal_holds h
    WHERE h.from_time < held.to_time AND h.to_time > held.from_time AND (h.kinds IS NULL OR parent = ANY (h.kinds))
        AND NOT EXISTS (SELECT FROM audit.legal_hold_lifts l WHERE l.hold_id = h.id)
    ORDER BY h.placed_at, h.id
$function$
;
--@ ["object","audit.held(text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.held(text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.held(text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.held(text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.held(text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.hold_coverage(uuid)","","f (hold uuid) TABLE(partitions bigint, records bigint, tenant_key text)",null]
CREATE OR REPLACE FUNCTION audit.hold_coverage(hold uuid)
 RETURNS TABLE(partitions bigint, records bigint, tenant_key text)
 LANGUAGE sql
 STABLE STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT c.* FROM audit.legal_holds h, audit.covered(h.tenant_id, h.from_time, h.to_time, h.kinds) c WHERE h.id = hold
$function$
;
--@ ["object","audit.hold_coverage(uuid)","function","",null]
--@ ["owner","audit.hold_coverage(uuid)","","",null]
ALTER FUNCTION audit.hold_coverage(uuid) OWNER TO audit_maintainer;
--@ ["privilege","audit.hold_coverage(uuid)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.hold_coverage(uuid) TO audit_auditor;
--@ ["privilege","audit.hold_coverage(uuid)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.hold_coverage(uuid) TO audit_operator;
--@ ["privilege","audit.hold_coverage(uuid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.hold_coverage(uuid) TO audit_maintainer;
--@ ["function","audit.id_at(timestamp with time zone)","","f (at timestamp with time zone) uuid",null]
CREATE OR REPLACE FUNCTION audit.id_at(at timestamp with time zone)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT (lpad(to_hex(least(greatest(floor(extract(epoch FROM at) * 1000), 0), 281474976710655)::bigint), 12, '0') || repeat('0', 20))::uuid
$function$
;
--@ ["object","audit.id_at(timestamp with time zone)","function","",null]
--@ ["owner","audit.id_at(timestamp with time zone)","","",null]
ALTER FUNCTION audit.id_at(timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.id_at(timestamp with time zone)","[\"PUBLIC\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.id_at(timestamp with time zone) TO PUBLIC;
--@ ["privilege","audit.id_at(timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.id_at(timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.image(bytea)","","f (value bytea) bytea",null]
CREATE OR REPLACE FUNCTION audit.image(value bytea)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN COALESCE((int4send(octet_length(value)) || value), '\xffffffff'::bytea)
;
--@ ["object","audit.image(bytea)","function","",null]
--@ ["owner","audit.image(bytea)","","",null]
ALTER FUNCTION audit.image(bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.image(bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.image(bytea) TO audit_maintainer;
--@ ["function","audit.images_expression(text,boolean)","","f (parent text, is_core boolean) text",null]
CREATE OR REPLACE FUNCTION audit.images_expression(parent text, is_core boolean)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
AS $function$
    SELECT string_agg(CASE a.atttypid
        WHEN 'uuid'::regtype THEN format('audit.image(uuid_send(r.%I))', a.attname)
        WHEN 'text'::regtype THEN format('audit.text_image(r.%I)', a.attname)
        WHEN 'integer'::regtype THEN format('audit.image(int4send(r.%I))', a.attname)
        WHEN 'bigint'::regtype THEN format('audit.image(int8send(r.%I))', a.attname)
        WHEN 'timestamptz'::regtype THEN format('audit.image(timestamptz_send(r.%I))', a.attname)
        WHEN 'bytea'::regtype THEN format('audit.image(r.%I)', a.attname)
        WHEN 'jsonb'::regtype THEN format('audit.image(''\x01'' || convert_to(r.%I::text, ''UTF8''))', a.attname)
        WHEN 'text[]'::regtype THEN format('audit.notes_image(r.%I)', a.attname)
        WHEN 'audit.run_status'::regtype THEN format('audit.text_image(r.%I::text)', a.attname) ELSE 'NULL::bytea' END, ' || ' ORDER BY c.place)
    FROM unnest(audit.leaf_columns(parent, is_core)) WITH ORDINALITY AS c (name, place)
    JOIN pg_attribute a ON a.attrelid = format('audit.%I', parent)::regclass AND a.attname = c.name
$function$
;
--@ ["object","audit.images_expression(text,boolean)","function","",null]
--@ ["owner","audit.images_expression(text,boolean)","","",null]
ALTER FUNCTION audit.images_expression(text,boolean) OWNER TO audit_maintainer;
--@ ["privilege","audit.images_expression(text,boolean)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.images_expression(text,boolean) TO audit_maintainer;
--@ ["function","audit.integer_of(jsonb)","","f (value jsonb) bigint",null]
CREATE OR REPLACE FUNCTION audit.integer_of(value jsonb)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((jsonb_typeof(value) = 'number'::text) AND (((value)::numeric >= ('-9223372036854775808'::bigint)::numeric) AND ((value)::numeric <= ('9223372036854775807'::bigint)::numeric))) THEN ((value)::numeric)::bigint WHEN ((jsonb_typeof(value) = 'string'::text) AND ((value #>> '{}'::text[]) ~ '^[-+]?[0-9]{1,18}$'::text)) THEN ((value #>> '{}'::text[]))::bigint ELSE NULL::bigint END
;
--@ ["object","audit.integer_of(jsonb)","function","",null]
--@ ["owner","audit.integer_of(jsonb)","","",null]
ALTER FUNCTION audit.integer_of(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.integer_of(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.integer_of(jsonb) TO audit_auditor;
--@ ["privilege","audit.integer_of(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.integer_of(jsonb) TO audit_reader;
--@ ["privilege","audit.integer_of(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.integer_of(jsonb) TO audit_maintainer;
--@ ["function","audit.is_lent(regclass)","","f (relation regclass) boolean",null]
CREATE OR REPLACE FUNCTION audit.is_lent(relation regclass)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = relation AND a.grantor = c.relowner AND a.grantee = to_regrole('audit_maintainer') AND a.privilege_type = 'TRIGGER' AND a.is_grantable)
$function$
;
--@ ["object","audit.is_lent(regclass)","function","",null]
--@ ["owner","audit.is_lent(regclass)","","",null]
ALTER FUNCTION audit.is_lent(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.is_lent(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.is_lent(regclass) TO audit_maintainer;
--@ ["function","audit.join_expressions(text[])","","f (expressions text[]) text",null]
CREATE OR REPLACE FUNCTION audit.join_expressions(expressions text[])
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT coalesce('concat_ws('','', ' || string_agg(of_group, E',\n') || ')', '''''') FROM (
        SELECT format('nullif(concat_ws('','', %s), '''')', string_agg(e, E',\n' ORDER BY n)) AS of_group
        FROM unnest(expressions) WITH ORDINALITY AS x (e, n) GROUP BY (n - 1) / 50 ORDER BY (n - 1) / 50) AS groups
$function$
;
--@ ["object","audit.join_expressions(text[])","function","",null]
--@ ["owner","audit.join_expressions(text[])","","",null]
ALTER FUNCTION audit.join_expressions(text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.join_expressions(text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.join_expressions(text[]) TO audit_maintainer;
--@ ["function","audit.keep_no_statistics(regclass)","","f (target regclass) void",null]
CREATE OR REPLACE FUNCTION audit.keep_no_statistics(target regclass)
 RETURNS void
 LANGUAGE plpgsql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    EXECUTE (
        SELECT format('ALTER TABLE %s %s', target, string_agg(format('ALTER COLUMN %I SET STATISTICS 0', attname), ', '))
        FROM pg_attribute
        WHERE attrelid = target AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'started_at', 'created_at'));
END
$function$
;
--@ ["object","audit.keep_no_statistics(regclass)","function","",null]
--@ ["owner","audit.keep_no_statistics(regclass)","","",null]
ALTER FUNCTION audit.keep_no_statistics(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.keep_no_statistics(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.keep_no_statistics(regclass) TO audit_maintainer;
--@ ["function","audit.lacking_partitions()","","f () TABLE(parent text, from_time timestamp with time zone)",null]
CREATE OR REPLACE FUNCTION audit.lacking_partitions()
 RETURNS TABLE(parent text, from_time timestamp with time zone)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    ends timestamptz;
BEGIN
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        from_time := date_trunc('day', now());
        WHILE from_time < date_trunc('month', now()) + interval '2 months' LOOP
            ends := (SELECT max(l.to_time) FROM audit.leaves_over(parent, from_time, from_time) l WHERE l.is_leaf);
            IF ends IS NULL THEN
                ends := (SELECT s.to_time FROM audit.free_span(parent, from_time) s);
                RETURN NEXT;
            END IF;
            from_time := ends;
        END LOOP;
    END LOOP;
END
$function$
;
--@ ["object","audit.lacking_partitions()","function","",null]
--@ ["owner","audit.lacking_partitions()","","",null]
ALTER FUNCTION audit.lacking_partitions() OWNER TO audit_maintainer;
--@ ["privilege","audit.lacking_partitions()","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lacking_partitions() TO audit_operator;
--@ ["privilege","audit.lacking_partitions()","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lacking_partitions() TO audit_writer;
--@ ["privilege","audit.lacking_partitions()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lacking_partitions() TO audit_maintainer;
--@ ["function","audit.layout_of(oid)","","f (relation oid, OUT names text, OUT types text) record",null]
CREATE OR REPLACE FUNCTION audit.layout_of(relation oid, OUT names text, OUT types text)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat('{', string_agg(to_json(attname::text) || ':null', ',' ORDER BY attnum), '}'), concat('(', string_agg(least(atttypid, 16384)::text, ',' ORDER BY attnum), ')')
    FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$function$
;
--@ ["object","audit.layout_of(oid)","function","",null]
--@ ["owner","audit.layout_of(oid)","","",null]
ALTER FUNCTION audit.layout_of(oid) OWNER TO audit_maintainer;
--@ ["privilege","audit.layout_of(oid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.layout_of(oid) TO audit_maintainer;
--@ ["function","audit.leaf_columns(text,boolean)","","f (parent text, is_core boolean) text[]",null]
CREATE OR REPLACE FUNCTION audit.leaf_columns(parent text, is_core boolean)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN is_core THEN
        ARRAY['id', 'writer_id', 'seq', 'tenant_id', 'parent_id', 'agent_id', 'llm_session_id', 'request_id', 'trace_id', 'span_id', 'service_name', 'status', audit.time_column(parent)]
        || CASE parent
            WHEN 'query_runs' THEN ARRAY['finished_at', 'duration_ms', 'datasource_id', 'row_count', 'rows_affected']
            WHEN 'prompt_runs' THEN ARRAY['finished_at', 'duration_ms', 'model_name', 'provider', 'prompt_template_version', 'input_token_count', 'output_token_count']
            ELSE ARRAY['latency_ms', 'action_type'] END
    ELSE
        ARRAY['salt', 'user_id', 'user_role', 'conversation_id', 'error_code', 'error_message']
        || CASE parent
            WHEN 'query_runs' THEN ARRAY['question_text', 'sql_text', 'sql_summary']
            WHEN 'prompt_runs' THEN ARRAY['prompt_template_name', 'rendered_prompt', 'response_text', 'role']
            ELSE ARRAY['target_type', 'target_id', 'input_summary', 'output_summary'] END
        || ARRAY['metadata', 'problems', 'redactions']
    END
$function$
;
--@ ["object","audit.leaf_columns(text,boolean)","function","",null]
--@ ["owner","audit.leaf_columns(text,boolean)","","",null]
ALTER FUNCTION audit.leaf_columns(text,boolean) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaf_columns(text,boolean)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaf_columns(text,boolean) TO audit_maintainer;
--@ ["function","audit.leaf_name(text,timestamp with time zone,timestamp with time zone)","","f (parent text, from_time timestamp with time zone, to_time timestamp with time zone) text",null]
CREATE OR REPLACE FUNCTION audit.leaf_name(parent text, from_time timestamp with time zone, to_time timestamp with time zone)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN parent || CASE
        WHEN from_time = date_trunc('month', from_time) AND to_time = from_time + interval '1 month' THEN to_char(from_time, '_YYYY_MM')
        WHEN to_time = from_time + interval '1 day' THEN to_char(from_time, '_YYYY_MM_DD')
        ELSE to_char(from_time, '_YYYY_MM_DD') || to_char(to_time - interval '1 day', '"_to_"YYYY_MM_DD') END;
END
$function$
;
--@ ["object","audit.leaf_name(text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.leaf_name(text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.leaf_name(text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaf_name(text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaf_name(text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.leaf_span(text,text)","","f (parent text, leaf text, OUT from_time timestamp with time zone, OUT to_time timestamp with time zone) record",null]
CREATE OR REPLACE FUNCTION audit.leaf_span(parent text, leaf text, OUT from_time timestamp with time zone, OUT to_time timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    d constant text[] := regexp_match(leaf, concat('^', parent,
        '_(19[7-9][0-9]|[2-9][0-9]{3})_(0[1-9]|1[0-2])(?:_([0-3][0-9])(?:_to_(19[7-9][0-9]|[2-9][0-9]{3})_(0[1-9]|1[0-2])_([0-3][0-9]))?)?$'));
BEGIN
    from_time := make_timestamptz(d[1]::integer, d[2]::integer, 1, 0, 0, 0);
    IF d[3] IS NULL THEN
        to_time := from_time + interval '1 month';
    ELSE
        -- No day of a month is invalid here: one that the month does not have makes another name.
        from_time := from_time + make_interval(days => d[3]::integer - 1);
        to_time := coalesce(make_timestamptz(d[4]::integer, d[5]::integer, 1, 0, 0, 0) + make_interval(days => d[6]::integer), from_time + interval '1 day');
    END IF;
    -- No partition is of more than a month.
    IF to_time <= from_time OR to_time > from_time + interval '31 days' OR audit.leaf_name(parent, from_time, to_time) <> leaf THEN
        from_time := NULL;
        to_time := NULL;
    END IF;
END
$function$
;
--@ ["object","audit.leaf_span(text,text)","function","",null]
--@ ["owner","audit.leaf_span(text,text)","","",null]
ALTER FUNCTION audit.leaf_span(text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaf_span(text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaf_span(text,text) TO audit_maintainer;
--@ ["function","audit.least_age()","","f () interval",null]
CREATE OR REPLACE FUNCTION audit.least_age()
 RETURNS interval
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT coalesce((SELECT s.least_age FROM audit.settings s WHERE s.least_age IS NOT NULL ORDER BY s.id DESC LIMIT 1), interval '30 days')
$function$
;
--@ ["object","audit.least_age()","function","",null]
--@ ["owner","audit.least_age()","","",null]
ALTER FUNCTION audit.least_age() OWNER TO audit_maintainer;
--@ ["privilege","audit.least_age()","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.least_age() TO audit_auditor;
--@ ["privilege","audit.least_age()","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.least_age() TO audit_operator;
--@ ["privilege","audit.least_age()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.least_age() TO audit_maintainer;
--@ ["function","audit.leaves(text)","","f (parent text) SETOF text",null]
CREATE OR REPLACE FUNCTION audit.leaves(parent text)
 RETURNS SETOF text
 LANGUAGE sql
 STABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
    WHERE p.relnamespace = 'audit'::regnamespace AND p.relname = parent AND c.relnamespace = 'audit_parts'::regnamespace
        AND c.relkind = 'r' AND c.relowner = 'audit_owner'::regrole AND NOT i.inhdetachpending
    ORDER BY 1
$function$
;
--@ ["object","audit.leaves(text)","function","",null]
--@ ["owner","audit.leaves(text)","","",null]
ALTER FUNCTION audit.leaves(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaves(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaves(text) TO audit_maintainer;
--@ ["function","audit.leaves_before(integer,integer,uuid,bigint)","","f (place integer, day integer, writer uuid, batch bigint) bigint",null]
CREATE OR REPLACE FUNCTION audit.leaves_before(place integer, day integer, writer uuid, batch bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    of_table constant text := (audit.record_tables())[place];
    b        audit.batches;
    leaf     text;
    part     bigint;
    before   bigint;
BEGIN
    SELECT * INTO b FROM audit.batches a WHERE a.writer_id = writer AND a.first_seq = batch;
    before := (SELECT coalesce(sum((b.records ->> t)::bigint), 0) FROM unnest((audit.record_tables())[1:place - 1]) t);
    IF audit.day_of(b.first_id) < day THEN
        FOR leaf IN SELECT l.leaf FROM audit.leaves_over(of_table, to_timestamp(audit.day_of(b.first_id) * 86400.0), to_timestamp(day * 86400.0)) l WHERE l.is_leaf
            UNION ALL SELECT l FROM audit.leaves(of_table) l WHERE l = of_table || '_default'
        LOOP
            EXECUTE format('SELECT count(*) FROM audit_parts.%I r WHERE r.id BETWEEN $1 AND $2 AND r.writer_id = $3 AND r.seq BETWEEN $4 AND $5 AND audit.day_of(r.id) < $6', leaf)
                INTO part USING b.first_id, b.last_id, writer, b.first_seq, b.last_seq, day;
            before := before + part;
        END LOOP;
        before := before + (SELECT coalesce(sum(r.rows), 0) FROM audit.removals r, audit.leaf_span(r.parent, r.partition) s
            WHERE r.writer_id = writer AND r.batch = leaves_before.batch AND r.parent = of_table AND s.to_time <= to_timestamp(day * 86400.0));
    END IF;
    RETURN before;
END
$function$
;
--@ ["object","audit.leaves_before(integer,integer,uuid,bigint)","function","",null]
--@ ["owner","audit.leaves_before(integer,integer,uuid,bigint)","","",null]
ALTER FUNCTION audit.leaves_before(integer,integer,uuid,bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaves_before(integer,integer,uuid,bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaves_before(integer,integer,uuid,bigint) TO audit_maintainer;
--@ ["function","audit.leaves_over(text,timestamp with time zone,timestamp with time zone)","","f (parent text, first_time timestamp with time zone, last_time timestamp with time zone) TABLE(leaf text, from_time timestamp with time zone, to_time timestamp with time zone, is_leaf boolean)",null]
CREATE OR REPLACE FUNCTION audit.leaves_over(parent text, first_time timestamp with time zone, last_time timestamp with time zone)
 RETURNS TABLE(leaf text, from_time timestamp with time zone, to_time timestamp with time zone, is_leaf boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
BEGIN
    RETURN QUERY SELECT c.relname::text, s.from_time, s.to_time, c.relkind = 'r' AND c.relowner = 'audit_owner'::regrole AND EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
        WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending AND p.relnamespace = 'audit'::regnamespace AND p.relname = parent)
    FROM pg_class c, LATERAL audit.leaf_span(leaves_over.parent, c.relname::text) s
    -- By the index on names; no partition is of more than a month.
    WHERE c.relnamespace = 'audit_parts'::regnamespace AND s.to_time > first_time AND s.from_time <= last_time
        AND c.relname >= (parent || to_char(first_time - interval '31 days', '_YYYY_MM'))::name
        AND c.relname <= (parent || to_char(least(last_time, '9999-12-31 00:00+00'), '_YYYY_MM_DD"_to_9"'))::name
    ORDER BY s.from_time, c.relname;
END
$function$
;
--@ ["object","audit.leaves_over(text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.leaves_over(text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.leaves_over(text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaves_over(text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaves_over(text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.leaves_query(text,text,text)","","f (parent text, leaf text, condition text) text",null]
CREATE OR REPLACE FUNCTION audit.leaves_query(parent text, leaf text, condition text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
AS $function$
    SELECT format(
        'SELECT %s AS place, h.day, h.seq, h.id, h.writer_id, h.content_hash, sha256(h.core || h.content_hash) AS leaf_hash FROM (
            SELECT r.id, r.writer_id, r.seq, audit.day_of(r.id) AS day, ''\x0001''::bytea || audit.text_image(%L) || %s AS core,
                -- What was erased is proven by the hash that it had.
                coalesce((SELECT e.content_hash FROM audit.erasures e WHERE e.id = r.id AND e.writer_id = r.writer_id AND e.seq = r.seq ORDER BY e.number LIMIT 1), sha256(%s)) AS content_hash
            FROM audit_parts.%I r WHERE %s OFFSET 0) h',
        array_position(audit.record_tables(), parent), parent, audit.images_expression(parent, true), audit.images_expression(parent, false), leaf, condition)
$function$
;
--@ ["object","audit.leaves_query(text,text,text)","function","",null]
--@ ["owner","audit.leaves_query(text,text,text)","","",null]
ALTER FUNCTION audit.leaves_query(text,text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.leaves_query(text,text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.leaves_query(text,text,text) TO audit_maintainer;
--@ ["column","audit.ledger","entry_hash","","ALTER TABLE audit.ledger ALTER COLUMN entry_hash TYPE bytea USING entry_hash::bytea;"]
ALTER TABLE audit.ledger ADD COLUMN entry_hash bytea;
--@ ["column","audit.ledger","fingerprints","","ALTER TABLE audit.ledger ALTER COLUMN fingerprints TYPE bytea USING fingerprints::bytea;"]
ALTER TABLE audit.ledger ADD COLUMN fingerprints bytea;
--@ ["column","audit.ledger","first_seq","","ALTER TABLE audit.ledger ALTER COLUMN first_seq TYPE bigint USING first_seq::bigint;"]
ALTER TABLE audit.ledger ADD COLUMN first_seq bigint;
--@ ["column","audit.ledger","index","","ALTER TABLE audit.ledger ALTER COLUMN index TYPE bigint USING index::bigint;"]
ALTER TABLE audit.ledger ADD COLUMN index bigint;
--@ ["column","audit.ledger","previous","","ALTER TABLE audit.ledger ALTER COLUMN previous TYPE bytea USING previous::bytea;"]
ALTER TABLE audit.ledger ADD COLUMN previous bytea;
--@ ["column","audit.ledger","root","","ALTER TABLE audit.ledger ALTER COLUMN root TYPE bytea USING root::bytea;"]
ALTER TABLE audit.ledger ADD COLUMN root bytea;
--@ ["column","audit.ledger","writer_id","","ALTER TABLE audit.ledger ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.ledger ADD COLUMN writer_id uuid;
--@ ["column not null","audit.ledger","entry_hash","",null]
ALTER TABLE audit.ledger ALTER COLUMN entry_hash SET NOT NULL;
--@ ["column not null","audit.ledger","first_seq","",null]
ALTER TABLE audit.ledger ALTER COLUMN first_seq SET NOT NULL;
--@ ["column not null","audit.ledger","index","",null]
ALTER TABLE audit.ledger ALTER COLUMN index SET NOT NULL;
--@ ["column not null","audit.ledger","writer_id","",null]
ALTER TABLE audit.ledger ALTER COLUMN writer_id SET NOT NULL;
--@ ["columns","audit.ledger","","[[\"index\", \"bigint\"], [\"writer_id\", \"uuid\"], [\"first_seq\", \"bigint\"], [\"root\", \"bytea\"], [\"previous\", \"bytea\"], [\"fingerprints\", \"bytea\"], [\"entry_hash\", \"bytea\"]]",null]
--@ ["constraint","audit.ledger","ledger_entry_hash_check",null,null]
ALTER TABLE audit.ledger ADD CONSTRAINT ledger_entry_hash_check CHECK ((octet_length(entry_hash) = 32));
--@ ["constraint","audit.ledger","ledger_index_check",null,null]
ALTER TABLE audit.ledger ADD CONSTRAINT ledger_index_check CHECK ((index >= 0));
--@ ["constraint","audit.ledger","ledger_pkey",null,null]
ALTER TABLE audit.ledger ADD CONSTRAINT ledger_pkey PRIMARY KEY (index);
--@ ["constraint","audit.ledger","ledger_previous_check",null,null]
ALTER TABLE audit.ledger ADD CONSTRAINT ledger_previous_check CHECK ((octet_length(previous) = 32));
--@ ["constraint","audit.ledger","ledger_root_check",null,null]
ALTER TABLE audit.ledger ADD CONSTRAINT ledger_root_check CHECK ((octet_length(root) = 32));
--@ ["constraint","audit.ledger","ledger_writer_id_first_seq_key",null,null]
ALTER TABLE audit.ledger ADD CONSTRAINT ledger_writer_id_first_seq_key UNIQUE (writer_id, first_seq);
--@ ["forced row security","audit.ledger","","",null]
ALTER TABLE audit.ledger FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.ledger","","",null]
ALTER TABLE audit.ledger SET LOGGED;
--@ ["object","audit.ledger","table","",null]
--@ ["owner","audit.ledger","","",null]
ALTER TABLE audit.ledger OWNER TO audit_owner;
--@ ["policy","audit.ledger","adding",null,null]
CREATE POLICY adding ON audit.ledger FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.ledger","auditor",null,null]
CREATE POLICY auditor ON audit.ledger FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.ledger","maintainer",null,null]
CREATE POLICY maintainer ON audit.ledger FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.ledger","operator",null,null]
CREATE POLICY operator ON audit.ledger FOR SELECT TO audit_operator USING (true);
--@ ["policy","audit.ledger","sealer",null,null]
CREATE POLICY sealer ON audit.ledger FOR SELECT TO audit_sealer USING (true);
--@ ["privilege","audit.ledger","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger TO audit_auditor;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.ledger TO audit_maintainer;
--@ ["privilege","audit.ledger","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger TO audit_operator;
--@ ["privilege","audit.ledger","[\"audit_sealer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger TO audit_sealer;
--@ ["row security","audit.ledger","","",null]
ALTER TABLE audit.ledger ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.ledger","","r ","[\"audit\", \"ledger\"]"]
--@ ["trigger","audit.ledger","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.ledger FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.ledger ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.ledger FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.ledger ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.ledger","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.ledger FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.ledger ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.ledger FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.ledger ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.ledger_entries(bigint,integer)","","f (from_index bigint, most integer) TABLE(index bigint, entry bytea, entry_hash bytea)",null]
CREATE OR REPLACE FUNCTION audit.ledger_entries(from_index bigint, most integer)
 RETURNS TABLE(index bigint, entry bytea, entry_hash bytea)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT l.index, audit.ledger_entry(l.writer_id, l.first_seq, l.root, l.previous), l.entry_hash FROM audit.ledger l
    WHERE l.index >= from_index AND l.index < from_index + least(greatest(most, 0), 100000) ORDER BY l.index
$function$
;
--@ ["object","audit.ledger_entries(bigint,integer)","function","",null]
--@ ["owner","audit.ledger_entries(bigint,integer)","","",null]
ALTER FUNCTION audit.ledger_entries(bigint,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.ledger_entries(bigint,integer)","[\"audit_sealer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.ledger_entries(bigint,integer) TO audit_sealer;
--@ ["privilege","audit.ledger_entries(bigint,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.ledger_entries(bigint,integer) TO audit_maintainer;
--@ ["function","audit.ledger_entry(uuid,bigint,bytea,bytea)","","f (writer uuid, batch bigint, root bytea, previous bytea) bytea",null]
CREATE OR REPLACE FUNCTION audit.ledger_entry(writer uuid, batch bigint, root bytea, previous bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
AS $function$
BEGIN
    RETURN (
        SELECT '\x01'::bytea || audit.image(uuid_send(b.writer_id)) || audit.image(int8send(b.first_seq)) || audit.image(int8send(b.last_seq))
            || audit.image('\x01'::bytea || convert_to(b.records::text, 'UTF8')) || audit.image(int4send(b.dead_letters))
            || audit.image(uuid_send(b.first_id)) || audit.image(uuid_send(b.last_id)) || audit.image(b.mark)
            || audit.text_image(b.service_name) || audit.text_image(b.library_version) || audit.image(timestamptz_send(b.committed_at)) || audit.image(xid8send(b.added_by))
            || audit.image(ledger_entry.root) || audit.image(previous)
            || audit.image(CASE WHEN b.first_seq = 1 THEN (
                SELECT sha256(audit.image(uuid_send(w.writer_id)) || audit.text_image(w.login) || audit.image(w.secret_sha256) || audit.text_image(w.service_name)
                    || audit.image(timestamptz_send(w.registered_at)))
                FROM audit.writers w WHERE w.writer_id = b.writer_id) END)
        FROM audit.batches b WHERE b.writer_id = writer AND b.first_seq = batch);
END
$function$
;
--@ ["object","audit.ledger_entry(uuid,bigint,bytea,bytea)","function","",null]
--@ ["owner","audit.ledger_entry(uuid,bigint,bytea,bytea)","","",null]
ALTER FUNCTION audit.ledger_entry(uuid,bigint,bytea,bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.ledger_entry(uuid,bigint,bytea,bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.ledger_entry(uuid,bigint,bytea,bytea) TO audit_maintainer;
--@ ["column","audit.ledger_nodes","hash","","ALTER TABLE audit.ledger_nodes ALTER COLUMN hash TYPE bytea USING hash::bytea;"]
ALTER TABLE audit.ledger_nodes ADD COLUMN hash bytea;
--@ ["column","audit.ledger_nodes","index","","ALTER TABLE audit.ledger_nodes ALTER COLUMN index TYPE bigint USING index::bigint;"]
ALTER TABLE audit.ledger_nodes ADD COLUMN index bigint;
--@ ["column","audit.ledger_nodes","level","","ALTER TABLE audit.ledger_nodes ALTER COLUMN level TYPE smallint USING level::smallint;"]
ALTER TABLE audit.ledger_nodes ADD COLUMN level smallint;
--@ ["column not null","audit.ledger_nodes","hash","",null]
ALTER TABLE audit.ledger_nodes ALTER COLUMN hash SET NOT NULL;
--@ ["column not null","audit.ledger_nodes","index","",null]
ALTER TABLE audit.ledger_nodes ALTER COLUMN index SET NOT NULL;
--@ ["column not null","audit.ledger_nodes","level","",null]
ALTER TABLE audit.ledger_nodes ALTER COLUMN level SET NOT NULL;
--@ ["columns","audit.ledger_nodes","","[[\"level\", \"smallint\"], [\"index\", \"bigint\"], [\"hash\", \"bytea\"]]",null]
--@ ["constraint","audit.ledger_nodes","ledger_nodes_hash_check",null,null]
ALTER TABLE audit.ledger_nodes ADD CONSTRAINT ledger_nodes_hash_check CHECK ((octet_length(hash) = 32));
--@ ["constraint","audit.ledger_nodes","ledger_nodes_index_check",null,null]
ALTER TABLE audit.ledger_nodes ADD CONSTRAINT ledger_nodes_index_check CHECK ((index >= 0));
--@ ["constraint","audit.ledger_nodes","ledger_nodes_level_check",null,null]
ALTER TABLE audit.ledger_nodes ADD CONSTRAINT ledger_nodes_level_check CHECK (((level >= 1) AND (level <= 7)));
--@ ["constraint","audit.ledger_nodes","ledger_nodes_pkey",null,null]
ALTER TABLE audit.ledger_nodes ADD CONSTRAINT ledger_nodes_pkey PRIMARY KEY (level, index);
--@ ["forced row security","audit.ledger_nodes","","",null]
ALTER TABLE audit.ledger_nodes FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.ledger_nodes","","",null]
ALTER TABLE audit.ledger_nodes SET LOGGED;
--@ ["object","audit.ledger_nodes","table","",null]
--@ ["owner","audit.ledger_nodes","","",null]
ALTER TABLE audit.ledger_nodes OWNER TO audit_owner;
--@ ["policy","audit.ledger_nodes","adding",null,null]
CREATE POLICY adding ON audit.ledger_nodes FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.ledger_nodes","auditor",null,null]
CREATE POLICY auditor ON audit.ledger_nodes FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.ledger_nodes","maintainer",null,null]
CREATE POLICY maintainer ON audit.ledger_nodes FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.ledger_nodes","operator",null,null]
CREATE POLICY operator ON audit.ledger_nodes FOR SELECT TO audit_operator USING (true);
--@ ["policy","audit.ledger_nodes","sealer",null,null]
CREATE POLICY sealer ON audit.ledger_nodes FOR SELECT TO audit_sealer USING (true);
--@ ["privilege","audit.ledger_nodes","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger_nodes TO audit_auditor;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.ledger_nodes TO audit_maintainer;
--@ ["privilege","audit.ledger_nodes","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger_nodes TO audit_operator;
--@ ["privilege","audit.ledger_nodes","[\"audit_sealer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.ledger_nodes TO audit_sealer;
--@ ["row security","audit.ledger_nodes","","",null]
ALTER TABLE audit.ledger_nodes ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.ledger_nodes","","r ","[\"audit\", \"ledger_nodes\"]"]
--@ ["trigger","audit.ledger_nodes","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.ledger_nodes FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.ledger_nodes ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.ledger_nodes FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.ledger_nodes ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.ledger_nodes","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.ledger_nodes FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.ledger_nodes ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.ledger_nodes FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.ledger_nodes ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["column","audit.legal_hold_lifts","hold_id","","ALTER TABLE audit.legal_hold_lifts ALTER COLUMN hold_id TYPE uuid USING hold_id::uuid;"]
ALTER TABLE audit.legal_hold_lifts ADD COLUMN hold_id uuid;
--@ ["column","audit.legal_hold_lifts","lifted_at","","ALTER TABLE audit.legal_hold_lifts ALTER COLUMN lifted_at TYPE timestamp with time zone USING lifted_at::timestamp with time zone;"]
ALTER TABLE audit.legal_hold_lifts ADD COLUMN lifted_at timestamp with time zone;
--@ ["column","audit.legal_hold_lifts","lifted_by","","ALTER TABLE audit.legal_hold_lifts ALTER COLUMN lifted_by TYPE text USING lifted_by::text;"]
ALTER TABLE audit.legal_hold_lifts ADD COLUMN lifted_by text;
--@ ["column","audit.legal_hold_lifts","reason","","ALTER TABLE audit.legal_hold_lifts ALTER COLUMN reason TYPE text USING reason::text;"]
ALTER TABLE audit.legal_hold_lifts ADD COLUMN reason text;
--@ ["column default","audit.legal_hold_lifts","lifted_at","",null]
ALTER TABLE audit.legal_hold_lifts ALTER COLUMN lifted_at SET DEFAULT clock_timestamp();
--@ ["column not null","audit.legal_hold_lifts","hold_id","",null]
ALTER TABLE audit.legal_hold_lifts ALTER COLUMN hold_id SET NOT NULL;
--@ ["column not null","audit.legal_hold_lifts","lifted_at","",null]
ALTER TABLE audit.legal_hold_lifts ALTER COLUMN lifted_at SET NOT NULL;
--@ ["column not null","audit.legal_hold_lifts","lifted_by","",null]
ALTER TABLE audit.legal_hold_lifts ALTER COLUMN lifted_by SET NOT NULL;
--@ ["column not null","audit.legal_hold_lifts","reason","",null]
ALTER TABLE audit.legal_hold_lifts ALTER COLUMN reason SET NOT NULL;
--@ ["columns","audit.legal_hold_lifts","","[[\"hold_id\", \"uuid\"], [\"reason\", \"text\"], [\"lifted_by\", \"text\"], [\"lifted_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.legal_hold_lifts","legal_hold_lifts_hold_id_fkey",null,null]
ALTER TABLE audit.legal_hold_lifts ADD CONSTRAINT legal_hold_lifts_hold_id_fkey FOREIGN KEY (hold_id) REFERENCES audit.legal_holds(id);
--@ ["constraint","audit.legal_hold_lifts","legal_hold_lifts_pkey",null,null]
ALTER TABLE audit.legal_hold_lifts ADD CONSTRAINT legal_hold_lifts_pkey PRIMARY KEY (hold_id);
--@ ["constraint","audit.legal_hold_lifts","legal_hold_lifts_reason_check",null,null]
ALTER TABLE audit.legal_hold_lifts ADD CONSTRAINT legal_hold_lifts_reason_check CHECK (((octet_length(reason) >= 1) AND (octet_length(reason) <= 4096)));
--@ ["forced row security","audit.legal_hold_lifts","","",null]
ALTER TABLE audit.legal_hold_lifts FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.legal_hold_lifts","","",null]
ALTER TABLE audit.legal_hold_lifts SET LOGGED;
--@ ["object","audit.legal_hold_lifts","table","",null]
--@ ["owner","audit.legal_hold_lifts","","",null]
ALTER TABLE audit.legal_hold_lifts OWNER TO audit_owner;
--@ ["policy","audit.legal_hold_lifts","adding",null,null]
CREATE POLICY adding ON audit.legal_hold_lifts FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.legal_hold_lifts","auditor",null,null]
CREATE POLICY auditor ON audit.legal_hold_lifts FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.legal_hold_lifts","maintainer",null,null]
CREATE POLICY maintainer ON audit.legal_hold_lifts FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.legal_hold_lifts","operator",null,null]
CREATE POLICY operator ON audit.legal_hold_lifts FOR SELECT TO audit_operator USING (true);
--@ ["privilege","audit.legal_hold_lifts","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.legal_hold_lifts TO audit_auditor;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.legal_hold_lifts TO audit_maintainer;
--@ ["privilege","audit.legal_hold_lifts","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.legal_hold_lifts TO audit_operator;
--@ ["row security","audit.legal_hold_lifts","","",null]
ALTER TABLE audit.legal_hold_lifts ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.legal_hold_lifts","","r ","[\"audit\", \"legal_hold_lifts\"]"]
--@ ["trigger","audit.legal_hold_lifts","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.legal_hold_lifts FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.legal_hold_lifts ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.legal_hold_lifts FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.legal_hold_lifts ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.legal_hold_lifts","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.legal_hold_lifts FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.legal_hold_lifts ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.legal_hold_lifts FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.legal_hold_lifts ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["column","audit.legal_holds","from_time","","ALTER TABLE audit.legal_holds ALTER COLUMN from_time TYPE timestamp with time zone USING from_time::timestamp with time zone;"]
ALTER TABLE audit.legal_holds ADD COLUMN from_time timestamp with time zone;
--@ ["column","audit.legal_holds","id","","ALTER TABLE audit.legal_holds ALTER COLUMN id TYPE uuid USING id::uuid;"]
ALTER TABLE audit.legal_holds ADD COLUMN id uuid;
--@ ["column","audit.legal_holds","kinds","","ALTER TABLE audit.legal_holds ALTER COLUMN kinds TYPE text[] USING kinds::text[];"]
ALTER TABLE audit.legal_holds ADD COLUMN kinds text[];
--@ ["column","audit.legal_holds","placed_at","","ALTER TABLE audit.legal_holds ALTER COLUMN placed_at TYPE timestamp with time zone USING placed_at::timestamp with time zone;"]
ALTER TABLE audit.legal_holds ADD COLUMN placed_at timestamp with time zone;
--@ ["column","audit.legal_holds","placed_by","","ALTER TABLE audit.legal_holds ALTER COLUMN placed_by TYPE text USING placed_by::text;"]
ALTER TABLE audit.legal_holds ADD COLUMN placed_by text;
--@ ["column","audit.legal_holds","reason","","ALTER TABLE audit.legal_holds ALTER COLUMN reason TYPE text USING reason::text;"]
ALTER TABLE audit.legal_holds ADD COLUMN reason text;
--@ ["column","audit.legal_holds","tenant_id","","ALTER TABLE audit.legal_holds ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid;"]
ALTER TABLE audit.legal_holds ADD COLUMN tenant_id uuid;
--@ ["column","audit.legal_holds","to_time","","ALTER TABLE audit.legal_holds ALTER COLUMN to_time TYPE timestamp with time zone USING to_time::timestamp with time zone;"]
ALTER TABLE audit.legal_holds ADD COLUMN to_time timestamp with time zone;
--@ ["column default","audit.legal_holds","id","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN id SET DEFAULT gen_random_uuid();
--@ ["column default","audit.legal_holds","placed_at","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN placed_at SET DEFAULT clock_timestamp();
--@ ["column not null","audit.legal_holds","from_time","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN from_time SET NOT NULL;
--@ ["column not null","audit.legal_holds","id","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.legal_holds","placed_at","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN placed_at SET NOT NULL;
--@ ["column not null","audit.legal_holds","placed_by","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN placed_by SET NOT NULL;
--@ ["column not null","audit.legal_holds","reason","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN reason SET NOT NULL;
--@ ["column not null","audit.legal_holds","to_time","",null]
ALTER TABLE audit.legal_holds ALTER COLUMN to_time SET NOT NULL;
--@ ["columns","audit.legal_holds","","[[\"id\", \"uuid\"], [\"reason\", \"text\"], [\"tenant_id\", \"uuid\"], [\"kinds\", \"text[]\"], [\"from_time\", \"timestamp with time zone\"], [\"to_time\", \"timestamp with time zone\"], [\"placed_by\", \"text\"], [\"placed_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.legal_holds","legal_holds_check",null,null]
ALTER TABLE audit.legal_holds ADD CONSTRAINT legal_holds_check CHECK ((to_time > from_time));
--@ ["constraint","audit.legal_holds","legal_holds_kinds_check",null,null]
ALTER TABLE audit.legal_holds ADD CONSTRAINT legal_holds_kinds_check CHECK (((cardinality(kinds) > 0) AND (array_position(kinds, NULL::text) IS NULL)));
--@ ["constraint","audit.legal_holds","legal_holds_pkey",null,null]
ALTER TABLE audit.legal_holds ADD CONSTRAINT legal_holds_pkey PRIMARY KEY (id);
--@ ["constraint","audit.legal_holds","legal_holds_reason_check",null,null]
ALTER TABLE audit.legal_holds ADD CONSTRAINT legal_holds_reason_check CHECK (((octet_length(reason) >= 1) AND (octet_length(reason) <= 4096)));
--@ ["forced row security","audit.legal_holds","","",null]
ALTER TABLE audit.legal_holds FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.legal_holds","","",null]
ALTER TABLE audit.legal_holds SET LOGGED;
--@ ["object","audit.legal_holds","table","",null]
--@ ["owner","audit.legal_holds","","",null]
ALTER TABLE audit.legal_holds OWNER TO audit_owner;
--@ ["policy","audit.legal_holds","adding",null,null]
CREATE POLICY adding ON audit.legal_holds FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.legal_holds","auditor",null,null]
CREATE POLICY auditor ON audit.legal_holds FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.legal_holds","maintainer",null,null]
CREATE POLICY maintainer ON audit.legal_holds FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.legal_holds","operator",null,null]
CREATE POLICY operator ON audit.legal_holds FOR SELECT TO audit_operator USING (true);
--@ ["privilege","audit.legal_holds","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.legal_holds TO audit_auditor;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.legal_holds TO audit_maintainer;
--@ ["privilege","audit.legal_holds","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.legal_holds TO audit_operator;
--@ ["privilege","audit.legal_holds","[\"audit_owner\", \"SELECT\", \" (id)\"]","",null]
GRANT SELECT (id) ON TABLE audit.legal_holds TO audit_owner;
--@ ["privilege","audit.legal_holds","[\"audit_owner\", \"UPDATE\", \" (id)\"]","",null]
GRANT UPDATE (id) ON TABLE audit.legal_holds TO audit_owner;
--@ ["row security","audit.legal_holds","","",null]
ALTER TABLE audit.legal_holds ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.legal_holds","","r ","[\"audit\", \"legal_holds\"]"]
--@ ["trigger","audit.legal_holds","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.legal_holds FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.legal_holds ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.legal_holds FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.legal_holds ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.legal_holds","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.legal_holds FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.legal_holds ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.legal_holds FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.legal_holds ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.lend(regclass,boolean)","","f (relation regclass, is_lent boolean) void",null]
CREATE OR REPLACE FUNCTION audit.lend(relation regclass, is_lent boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = relation AND relkind IN ('r', 'p')) THEN
        -- Said by audit.prepare_tracking.
        RETURN;
    END IF;
    EXECUTE CASE WHEN is_lent THEN format('GRANT TRIGGER ON TABLE %s TO audit_maintainer WITH GRANT OPTION', relation)
        ELSE format('REVOKE TRIGGER ON TABLE %s FROM audit_maintainer', relation) END;
END
$function$
;
--@ ["object","audit.lend(regclass,boolean)","function","",null]
--@ ["owner","audit.lend(regclass,boolean)","","",null]
ALTER FUNCTION audit.lend(regclass,boolean) OWNER TO audit_maintainer;
--@ ["privilege","audit.lend(regclass,boolean)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lend(regclass,boolean) TO audit_operator;
--@ ["privilege","audit.lend(regclass,boolean)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lend(regclass,boolean) TO audit_writer;
--@ ["privilege","audit.lend(regclass,boolean)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lend(regclass,boolean) TO audit_maintainer;
--@ ["function","audit.let_in(regnamespace)","","f (schema regnamespace) void",null]
CREATE OR REPLACE FUNCTION audit.let_in(schema regnamespace)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    FOR attempt IN 1 .. 3 LOOP
        IF has_schema_privilege('audit_maintainer', schema, 'USAGE') THEN
            RETURN;
        END IF;
        BEGIN
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO audit_maintainer', schema);
        EXCEPTION WHEN internal_error THEN
            -- Somebody else has done it meanwhile.
            NULL;
        END;
    END LOOP;
    IF NOT has_schema_privilege('audit_maintainer', schema, 'USAGE') THEN
        RAISE EXCEPTION 'audit trail: schema % is not yours to let the trail in', schema USING ERRCODE = 'insufficient_privilege',
            HINT = format('Its owner may: GRANT USAGE ON SCHEMA %s TO audit_maintainer;', schema);
    END IF;
END
$function$
;
--@ ["object","audit.let_in(regnamespace)","function","",null]
--@ ["owner","audit.let_in(regnamespace)","","",null]
ALTER FUNCTION audit.let_in(regnamespace) OWNER TO audit_maintainer;
--@ ["privilege","audit.let_in(regnamespace)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.let_in(regnamespace) TO audit_operator;
--@ ["privilege","audit.let_in(regnamespace)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.let_in(regnamespace) TO audit_writer;
--@ ["privilege","audit.let_in(regnamespace)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.let_in(regnamespace) TO audit_maintainer;
--@ ["function","audit.lift_hold(uuid,text)","","f (hold uuid, reason text) void",null]
CREATE OR REPLACE FUNCTION audit.lift_hold(hold uuid, reason text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    tenant uuid;
    hashed bytea;
BEGIN
    PERFORM audit.check_text('the reason why a hold ends', reason, 4096);
    SELECT h.tenant_id INTO tenant FROM audit.legal_holds h WHERE h.id = hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: no such hold' USING ERRCODE = 'no_data_found';
    END IF;
    -- Another may lift it at the same moment.
    INSERT INTO audit.legal_hold_lifts AS l (hold_id, reason, lifted_by) VALUES (hold, reason, session_user) ON CONFLICT DO NOTHING
        RETURNING audit.row_sha256(l) INTO hashed;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: the hold was lifted before' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM audit.append_event('audit.hold_lifted', 'legal_hold', hold::text, reason, NULL, tenant, jsonb_build_object('sha256', encode(hashed, 'hex')));
END
$function$
;
--@ ["object","audit.lift_hold(uuid,text)","function","",null]
--@ ["owner","audit.lift_hold(uuid,text)","","",null]
ALTER FUNCTION audit.lift_hold(uuid,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.lift_hold(uuid,text)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lift_hold(uuid,text) TO audit_auditor;
--@ ["privilege","audit.lift_hold(uuid,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.lift_hold(uuid,text) TO audit_maintainer;
--@ ["object","audit.llm_calls","view","",null]
--@ ["owner","audit.llm_calls","","",null]
ALTER VIEW audit.llm_calls OWNER TO audit_owner;
--@ ["privilege","audit.llm_calls","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.llm_calls TO audit_auditor;
--@ ["privilege","audit.llm_calls","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.llm_calls TO audit_reader;
--@ ["privilege","audit.llm_calls","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.llm_calls TO audit_owner;
--@ ["privilege","audit.llm_calls","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.llm_calls TO audit_owner;
--@ ["privilege","audit.llm_calls","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.llm_calls TO audit_owner;
--@ ["privilege","audit.llm_calls","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.llm_calls TO audit_owner;
--@ ["privilege","audit.llm_calls","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.llm_calls TO audit_owner;
--@ ["privilege","audit.llm_calls","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.llm_calls TO audit_owner;
--@ ["privilege","audit.llm_calls","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.llm_calls TO audit_owner;
--@ ["view","audit.llm_calls","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"model\", \"text\"], [\"provider\", \"text\"], [\"prompt_template_name\", \"text\"], [\"prompt_template_version\", \"bigint\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"input_token_count\", \"bigint\"], [\"output_token_count\", \"bigint\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.llm_calls WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'model'::text) AS model,
    (events.metadata ->> 'provider'::text) AS provider,
    (events.metadata ->> 'prompt_template_name'::text) AS prompt_template_name,
    audit.integer_of((events.metadata -> 'prompt_template_version'::text)) AS prompt_template_version,
    events.input_summary,
    events.output_summary,
    audit.integer_of((events.metadata -> 'input_token_count'::text)) AS input_token_count,
    audit.integer_of((events.metadata -> 'output_token_count'::text)) AS output_token_count,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'llm_call'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'model'::text) AS model,
    (activities.metadata ->> 'provider'::text) AS provider,
    (activities.metadata ->> 'prompt_template_name'::text) AS prompt_template_name,
    audit.integer_of((activities.metadata -> 'prompt_template_version'::text)) AS prompt_template_version,
    activities.input_summary,
    activities.output_summary,
    audit.integer_of((activities.metadata -> 'input_token_count'::text)) AS input_token_count,
    audit.integer_of((activities.metadata -> 'output_token_count'::text)) AS output_token_count,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'llm_call'::text);
--@ ["logged","audit.lost_changes","","",null]
ALTER SEQUENCE audit.lost_changes SET LOGGED;
--@ ["object","audit.lost_changes","sequence","",null]
--@ ["owner","audit.lost_changes","","",null]
ALTER SEQUENCE audit.lost_changes OWNER TO audit_maintainer;
--@ ["privilege","audit.lost_changes","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON SEQUENCE audit.lost_changes TO audit_auditor;
--@ ["privilege","audit.lost_changes","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON SEQUENCE audit.lost_changes TO audit_operator;
--@ ["privilege","audit.lost_changes","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON SEQUENCE audit.lost_changes TO audit_maintainer;
--@ ["privilege","audit.lost_changes","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON SEQUENCE audit.lost_changes TO audit_maintainer;
--@ ["privilege","audit.lost_changes","[null, \"USAGE\", \"\"]","",null]
GRANT USAGE ON SEQUENCE audit.lost_changes TO audit_maintainer;
--@ ["sequence","audit.lost_changes","","",null]
ALTER SEQUENCE audit.lost_changes AS bigint INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 START 1 CACHE 1 NO CYCLE;
--@ ["function","audit.make_append_only(regclass)","","f (target regclass) void",null]
CREATE OR REPLACE FUNCTION audit.make_append_only(target regclass)
 RETURNS void
 LANGUAGE plpgsql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', target);
    -- Those of a partitioned table are cloned to its leaves; each leaf has its own.
    IF (SELECT relkind FROM pg_class WHERE oid = target) = 'r' THEN
        EXECUTE format('CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', target);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only_rows', target);
    END IF;
END
$function$
;
--@ ["object","audit.make_append_only(regclass)","function","",null]
--@ ["owner","audit.make_append_only(regclass)","","",null]
ALTER FUNCTION audit.make_append_only(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.make_append_only(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.make_append_only(regclass) TO audit_maintainer;
--@ ["function","audit.make_leaf(text,text,timestamp with time zone,timestamp with time zone)","","f (parent text, leaf text, from_time timestamp with time zone, to_time timestamp with time zone) void",null]
CREATE OR REPLACE FUNCTION audit.make_leaf(parent text, leaf text, from_time timestamp with time zone, to_time timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO'
 SET default_tablespace TO ''
AS $function$
BEGIN
    EXECUTE format(
        'CREATE TABLE audit_parts.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)',
        leaf, parent);
    -- Lets a query by time skip the partition although it is partitioned by id.
    EXECUTE format(
        'ALTER TABLE audit_parts.%I ADD CONSTRAINT %I CHECK (%I >= %L AND %I < %L)',
        leaf, leaf || '_time', audit.time_column(parent), from_time, audit.time_column(parent), to_time);
    PERFORM audit.make_leaf_safe(format('audit_parts.%I', leaf)::regclass);
END
$function$
;
--@ ["object","audit.make_leaf(text,text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.make_leaf(text,text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.make_leaf(text,text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.make_leaf(text,text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.make_leaf(text,text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.make_leaf_safe(regclass)","","f (leaf regclass) void",null]
CREATE OR REPLACE FUNCTION audit.make_leaf_safe(leaf regclass)
 RETURNS void
 LANGUAGE plpgsql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    grantee oid;
    net     text := (SELECT relname FROM pg_class WHERE oid = leaf AND relname LIKE '%\_default');
BEGIN
    -- The id and the time are of one day, as in a partition for any interval: else the row could never be settled.
    IF net IS NOT NULL THEN
        EXECUTE format(
            'ALTER TABLE %s ADD CONSTRAINT %I CHECK (date_trunc(''day'', %I AT TIME ZONE ''UTC'') = date_trunc(''day'',
                to_timestamp((''x'' || translate(left(id::text, 13), ''-'', ''''))::bit(48)::bigint / 1000) AT TIME ZONE ''UTC''))',
            leaf, net || '_time', audit.time_column(left(net, -8)));
    END IF;
    -- What default privileges of any kind have given to others; it belongs to whoever has made it just now.
    FOR grantee IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = leaf AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', leaf, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END);
    END LOOP;
    EXECUTE format('GRANT INSERT ON %s TO audit_writer', leaf);
    PERFORM audit.make_append_only(leaf);
    PERFORM audit.keep_no_statistics(leaf);
    PERFORM audit.give_to_owner(leaf);
END
$function$
;
--@ ["object","audit.make_leaf_safe(regclass)","function","",null]
--@ ["owner","audit.make_leaf_safe(regclass)","","",null]
ALTER FUNCTION audit.make_leaf_safe(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.make_leaf_safe(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.make_leaf_safe(regclass) TO audit_maintainer;
--@ ["function","audit.make_triggers(bigint,regclass)","","f (tracking bigint, relation regclass) void",null]
CREATE OR REPLACE FUNCTION audit.make_triggers(tracking bigint, relation regclass)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    t         audit.tracked_tables;
    prefix    text;
    operation text;
    tables    text;
BEGIN
    SELECT * INTO t FROM audit.tracked_tables r WHERE r.id = tracking;
    IF NOT FOUND OR relation NOT IN (SELECT audit.relations_of(t.target)) OR NOT audit.is_lent(t.target) OR NOT audit.is_lent(relation) THEN
        RAISE EXCEPTION 'audit trail: this table is not being tracked by you' USING ERRCODE = 'insufficient_privilege';
    END IF;
    prefix := CASE WHEN relation = t.target THEN 'audit_change_' ELSE 'audit_part_' END;
    FOR operation, tables IN VALUES ('insert', 'NEW TABLE AS new_rows'), ('update', 'OLD TABLE AS old_rows NEW TABLE AS new_rows'), ('delete', 'OLD TABLE AS old_rows') LOOP
        IF operation = ANY (t.operations) THEN
            EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION audit.%I()',
                prefix || operation, operation, relation, tables, 'record_change_' || tracking);
        END IF;
    END LOOP;
    IF 'truncate' = ANY (t.operations) THEN
        -- The one before the other, by their names.
        EXECUTE format('CREATE OR REPLACE TRIGGER %I BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit.count_before_truncate()', prefix || 'count', relation);
        EXECUTE format('CREATE OR REPLACE TRIGGER %I BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit.%I()', prefix || 'truncate', relation, 'record_change_' || tracking);
    END IF;
    -- Another table may have got the name while they waited for its lock.
    IF cardinality(t.operations) <> (SELECT count(*) FROM pg_trigger WHERE tgrelid = relation AND tgfoid = to_regprocedure(format('audit.%I()', 'record_change_' || tracking))
        AND tgname IN (SELECT prefix || o FROM unnest(t.operations) o))
    THEN
        RAISE EXCEPTION 'audit trail: % was renamed meanwhile', relation USING ERRCODE = 'object_in_use';
    END IF;
END
$function$
;
--@ ["object","audit.make_triggers(bigint,regclass)","function","",null]
--@ ["owner","audit.make_triggers(bigint,regclass)","","",null]
ALTER FUNCTION audit.make_triggers(bigint,regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.make_triggers(bigint,regclass)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.make_triggers(bigint,regclass) TO audit_operator;
--@ ["privilege","audit.make_triggers(bigint,regclass)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.make_triggers(bigint,regclass) TO audit_writer;
--@ ["privilege","audit.make_triggers(bigint,regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.make_triggers(bigint,regclass) TO audit_maintainer;
--@ ["object","audit.mandates","view","",null]
--@ ["owner","audit.mandates","","",null]
ALTER VIEW audit.mandates OWNER TO audit_owner;
--@ ["privilege","audit.mandates","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.mandates TO audit_auditor;
--@ ["privilege","audit.mandates","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.mandates TO audit_reader;
--@ ["privilege","audit.mandates","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.mandates TO audit_owner;
--@ ["privilege","audit.mandates","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.mandates TO audit_owner;
--@ ["privilege","audit.mandates","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.mandates TO audit_owner;
--@ ["privilege","audit.mandates","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.mandates TO audit_owner;
--@ ["privilege","audit.mandates","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.mandates TO audit_owner;
--@ ["privilege","audit.mandates","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.mandates TO audit_owner;
--@ ["privilege","audit.mandates","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.mandates TO audit_owner;
--@ ["view","audit.mandates","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"mandate_id\", \"text\"], [\"limit_cents\", \"bigint\"], [\"currency\", \"text\"], [\"period\", \"text\"], [\"state\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.mandates WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    events.target_id AS mandate_id,
    audit.integer_of((events.metadata -> 'limit_cents'::text)) AS limit_cents,
    (events.metadata ->> 'currency'::text) AS currency,
    (events.metadata ->> 'period'::text) AS period,
    (events.metadata ->> 'state'::text) AS state,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'mandate'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    activities.target_id AS mandate_id,
    audit.integer_of((activities.metadata -> 'limit_cents'::text)) AS limit_cents,
    (activities.metadata ->> 'currency'::text) AS currency,
    (activities.metadata ->> 'period'::text) AS period,
    (activities.metadata ->> 'state'::text) AS state,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'mandate'::text);
--@ ["object","audit.model_usage","view","",null]
--@ ["owner","audit.model_usage","","",null]
ALTER VIEW audit.model_usage OWNER TO audit_owner;
--@ ["privilege","audit.model_usage","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.model_usage TO audit_auditor;
--@ ["privilege","audit.model_usage","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.model_usage TO audit_reader;
--@ ["privilege","audit.model_usage","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.model_usage TO audit_owner;
--@ ["privilege","audit.model_usage","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.model_usage TO audit_owner;
--@ ["privilege","audit.model_usage","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.model_usage TO audit_owner;
--@ ["privilege","audit.model_usage","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.model_usage TO audit_owner;
--@ ["privilege","audit.model_usage","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.model_usage TO audit_owner;
--@ ["privilege","audit.model_usage","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.model_usage TO audit_owner;
--@ ["privilege","audit.model_usage","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.model_usage TO audit_owner;
--@ ["view","audit.model_usage","","[[\"day\", \"timestamp with time zone\"], [\"tenant_id\", \"uuid\"], [\"model_name\", \"text\"], [\"provider\", \"text\"], [\"prompt_template_name\", \"text\"], [\"prompt_template_version\", \"bigint\"], [\"calls\", \"bigint\"], [\"failed\", \"bigint\"], [\"input_token_count\", \"bigint\"], [\"output_token_count\", \"bigint\"], [\"average_duration_ms\", \"double precision\"], [\"p95_duration_ms\", \"bigint\"]]",null]
CREATE OR REPLACE VIEW audit.model_usage WITH (security_invoker = true) AS
 SELECT b.day,
    m.tenant_id,
    m.model_name,
    m.provider,
    m.prompt_template_name,
    m.prompt_template_version,
    m.calls,
    m.failed,
    m.input_token_count,
    m.output_token_count,
    m.average_duration_ms,
    m.p95_duration_ms
   FROM generate_series(date_trunc('day'::text, audit.time_of(( SELECT r.id
           FROM (( SELECT events.id
                   FROM audit.events
                  ORDER BY events.id
                 LIMIT 1)
                UNION ALL
                ( SELECT activities.id
                   FROM audit.activities
                  ORDER BY activities.id
                 LIMIT 1)
                UNION ALL
                ( SELECT prompt_runs.id
                   FROM audit.prompt_runs
                  ORDER BY prompt_runs.id
                 LIMIT 1)) r
          ORDER BY r.id
         LIMIT 1)), 'UTC'::text), LEAST(audit.time_of(( SELECT r.id
           FROM (( SELECT events.id
                   FROM audit.events
                  ORDER BY events.id DESC
                 LIMIT 1)
                UNION ALL
                ( SELECT activities.id
                   FROM audit.activities
                  ORDER BY activities.id DESC
                 LIMIT 1)
                UNION ALL
                ( SELECT prompt_runs.id
                   FROM audit.prompt_runs
                  ORDER BY prompt_runs.id DESC
                 LIMIT 1)) r
          ORDER BY r.id DESC
         LIMIT 1)), now()), '24:00:00'::interval) b(day),
    LATERAL ( SELECT r.tenant_id,
            r.model_name,
            r.provider,
            r.prompt_template_name,
            r.prompt_template_version,
            count(*) AS calls,
            count(*) FILTER (WHERE (r.status = ANY (ARRAY['failed'::audit.run_status, 'rejected'::audit.run_status, 'cancelled'::audit.run_status]))) AS failed,
                CASE
                    WHEN (sum(r.input_token_count) <= ('9223372036854775807'::bigint)::numeric) THEN (sum(r.input_token_count))::bigint
                    ELSE NULL::bigint
                END AS input_token_count,
                CASE
                    WHEN (sum(r.output_token_count) <= ('9223372036854775807'::bigint)::numeric) THEN (sum(r.output_token_count))::bigint
                    ELSE NULL::bigint
                END AS output_token_count,
            (avg(r.duration_ms))::double precision AS average_duration_ms,
            percentile_disc('0.95'::double precision) WITHIN GROUP (ORDER BY r.duration_ms) AS p95_duration_ms
           FROM ( SELECT prompt_runs.id,
                    prompt_runs.tenant_id,
                    prompt_runs.model_name,
                    prompt_runs.provider,
                    prompt_runs.prompt_template_name,
                    (prompt_runs.prompt_template_version)::bigint AS prompt_template_version,
                    prompt_runs.status,
                    prompt_runs.created_at,
                    prompt_runs.duration_ms,
                        CASE
                            WHEN (prompt_runs.input_token_count >= 0) THEN (prompt_runs.input_token_count)::bigint
                            ELSE NULL::bigint
                        END AS input_token_count,
                        CASE
                            WHEN (prompt_runs.output_token_count >= 0) THEN (prompt_runs.output_token_count)::bigint
                            ELSE NULL::bigint
                        END AS output_token_count
                   FROM audit.prompt_runs
                UNION ALL
                 SELECT events.id,
                    events.tenant_id,
                    (events.metadata ->> 'model'::text) AS model_name,
                    (events.metadata ->> 'provider'::text) AS provider,
                    (events.metadata ->> 'prompt_template_name'::text) AS prompt_template_name,
                    audit.integer_of((events.metadata -> 'prompt_template_version'::text)) AS prompt_template_version,
                    events.status,
                    events.created_at,
                    events.latency_ms AS duration_ms,
                    audit.tokens_of((events.metadata -> 'input_token_count'::text)) AS input_token_count,
                    audit.tokens_of((events.metadata -> 'output_token_count'::text)) AS output_token_count
                   FROM audit.events
                  WHERE (events.action_type = 'llm_call'::text)
                UNION ALL
                 SELECT activities.id,
                    activities.tenant_id,
                    (activities.metadata ->> 'model'::text) AS model_name,
                    (activities.metadata ->> 'provider'::text) AS provider,
                    (activities.metadata ->> 'prompt_template_name'::text) AS prompt_template_name,
                    audit.integer_of((activities.metadata -> 'prompt_template_version'::text)) AS prompt_template_version,
                    activities.status,
                    activities.created_at,
                    activities.latency_ms AS duration_ms,
                    audit.tokens_of((activities.metadata -> 'input_token_count'::text)) AS input_token_count,
                    audit.tokens_of((activities.metadata -> 'output_token_count'::text)) AS output_token_count
                   FROM audit.activities
                  WHERE (activities.action_type = 'llm_call'::text)) r
          WHERE ((r.id >= audit.id_at(b.day)) AND (r.id < audit.id_at((b.day + '24:00:00'::interval))))
          GROUP BY r.tenant_id, r.model_name, r.provider, r.prompt_template_name, r.prompt_template_version) m;
--@ ["function","audit.moved_expression(bigint,oid)","","f (tracking bigint, relation oid) text",null]
CREATE OR REPLACE FUNCTION audit.moved_expression(tracking bigint, relation oid)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT coalesce(string_agg(audit.differs_expression(a.attnum, a.atttypid), ' OR ' ORDER BY a.attnum), 'false')
    FROM audit.tracked_tables t JOIN pg_attribute a ON a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
    WHERE t.id = tracking AND (a.attname = t.tenant_column OR a.attname IN (SELECT k.attname FROM pg_index i JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = ANY (i.indkey)
        WHERE i.indrelid = t.target AND i.indisprimary))
$function$
;
--@ ["object","audit.moved_expression(bigint,oid)","function","",null]
--@ ["owner","audit.moved_expression(bigint,oid)","","",null]
ALTER FUNCTION audit.moved_expression(bigint,oid) OWNER TO audit_maintainer;
--@ ["privilege","audit.moved_expression(bigint,oid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.moved_expression(bigint,oid) TO audit_maintainer;
--@ ["function","audit.names_query(text)","","f (rows text) text",null]
CREATE OR REPLACE FUNCTION audit.names_query(rows text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('SELECT row_to_json(r.*)::text FROM (SELECT x.* FROM (SELECT) AS one LEFT JOIN %s AS x ON false) AS r', rows)
$function$
;
--@ ["object","audit.names_query(text)","function","",null]
--@ ["owner","audit.names_query(text)","","",null]
ALTER FUNCTION audit.names_query(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.names_query(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.names_query(text) TO audit_maintainer;
--@ ["function","audit.note_checkpoint(text,bigint,text,timestamp with time zone)","","f (origin text, size bigint, note text, signed_at timestamp with time zone) void",null]
CREATE OR REPLACE FUNCTION audit.note_checkpoint(origin text, size bigint, note text, signed_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    IF size > coalesce((SELECT max(l.index) + 1 FROM audit.ledger l), 0) THEN
        RAISE EXCEPTION 'audit trail: the checkpoint is of more entries than the log has' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- No later than now, so that its age can be told by it.
    INSERT INTO audit.checkpoint AS c (origin, size, note, signed_at) VALUES (origin, size, note, least(signed_at, clock_timestamp()))
        ON CONFLICT (is_newest) DO UPDATE SET origin = excluded.origin, size = excluded.size, note = excluded.note, signed_at = excluded.signed_at
        WHERE c.size <= excluded.size;
END
$function$
;
--@ ["object","audit.note_checkpoint(text,bigint,text,timestamp with time zone)","function","",null]
--@ ["owner","audit.note_checkpoint(text,bigint,text,timestamp with time zone)","","",null]
ALTER FUNCTION audit.note_checkpoint(text,bigint,text,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.note_checkpoint(text,bigint,text,timestamp with time zone)","[\"audit_sealer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.note_checkpoint(text,bigint,text,timestamp with time zone) TO audit_sealer;
--@ ["privilege","audit.note_checkpoint(text,bigint,text,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.note_checkpoint(text,bigint,text,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.notes_image(text[])","","f (list text[]) bytea",null]
CREATE OR REPLACE FUNCTION audit.notes_image(list text[])
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN CASE WHEN (list = '{}'::text[]) THEN '\x0000000c000000000000000000000019'::bytea ELSE audit.texts_image(list) END
;
--@ ["object","audit.notes_image(text[])","function","",null]
--@ ["owner","audit.notes_image(text[])","","",null]
ALTER FUNCTION audit.notes_image(text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.notes_image(text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.notes_image(text[]) TO audit_maintainer;
--@ ["function","audit.number_of(jsonb)","","f (value jsonb) double precision",null]
CREATE OR REPLACE FUNCTION audit.number_of(value jsonb)
 RETURNS double precision
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((jsonb_typeof(value) = 'number'::text) AND (abs((value)::numeric) < 0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001)) THEN (0)::double precision WHEN ((jsonb_typeof(value) = 'number'::text) AND (abs((value)::numeric) < '1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000'::numeric)) THEN ((value)::numeric)::double precision WHEN ((jsonb_typeof(value) = 'string'::text) AND ((value #>> '{}'::text[]) ~ '^[-+]?[0-9]{1,18}([.][0-9]{1,18})?$'::text)) THEN ((value #>> '{}'::text[]))::double precision ELSE NULL::double precision END
;
--@ ["object","audit.number_of(jsonb)","function","",null]
--@ ["owner","audit.number_of(jsonb)","","",null]
ALTER FUNCTION audit.number_of(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.number_of(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.number_of(jsonb) TO audit_auditor;
--@ ["privilege","audit.number_of(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.number_of(jsonb) TO audit_reader;
--@ ["privilege","audit.number_of(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.number_of(jsonb) TO audit_maintainer;
--@ ["function","audit.obstacles(text,text,timestamp with time zone,timestamp with time zone)","","f (parent text, leaf text, from_time timestamp with time zone, to_time timestamp with time zone) text[]",null]
CREATE OR REPLACE FUNCTION audit.obstacles(parent text, leaf text, from_time timestamp with time zone, to_time timestamp with time zone)
 RETURNS text[]
 LANGUAGE plpgsql
 STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    against  text[] := '{}';
    hold     record;
    is_there boolean;
    strays   bigint;
BEGIN
    FOR hold IN SELECT h.id, h.tenant_id FROM audit.held(parent, from_time, to_time) h LOOP
        is_there := true;
        IF hold.tenant_id IS NOT NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE tenant_id = $1)', leaf) INTO is_there USING hold.tenant_id;
        END IF;
        IF is_there THEN
            against := against || format('held by the legal hold %s', hold.id);
        END IF;
    END LOOP;
    -- Its time is in its name, which a superuser can change.
    EXECUTE format('SELECT count(*) FROM audit_parts.%1$I WHERE %2$I < $1 OR %2$I >= $2 OR id < $3 OR id >= $4', leaf, audit.time_column(parent))
        INTO strays USING from_time, to_time, audit.id_at(from_time), audit.id_at(to_time);
    IF strays > 0 THEN
        against := against || format('%s rows are not of the time that its name says', strays);
    END IF;
    RETURN against || ARRAY(SELECT audit.depending(leaf));
END
$function$
;
--@ ["object","audit.obstacles(text,text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.obstacles(text,text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.obstacles(text,text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.obstacles(text,text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.obstacles(text,text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.order_changes(text[],jsonb[],text[],bigint[])","","f (operations text[], changes jsonb[], transactions text[], depths bigint[]) integer[]",null]
CREATE OR REPLACE FUNCTION audit.order_changes(operations text[], changes jsonb[], transactions text[], depths bigint[])
 RETURNS integer[]
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    -- More changes of a row in one transaction are left in the order of their numbers: it would take too long.
    most     constant integer := 200;
    ordered  integer[] := '{}';
    -- Those before this one are of other transactions.
    begun    integer := 1;
    -- Before each of the transaction's that are ordered, and after the last.
    states   jsonb[] := '{"{}"}';
    count    integer := 0;
    first    integer;
    near     integer[];
    place    integer;
    state    jsonb;
    is_known boolean;
BEGIN
    FOR n IN 1 .. cardinality(operations) LOOP
        IF n > 1 AND transactions[n] IS DISTINCT FROM transactions[n - 1] THEN
            states := ARRAY[states[count - begun + 2]];
            begun := n;
        END IF;
        first := count + 1;
        WHILE first > begun AND count - begun < most AND depths[ordered[first - 1]] > depths[n] LOOP
            first := first - 1;
        END LOOP;
        state := NULL;
        -- The change before it may not be known yet: then only what it leaves must fit.
        FOREACH is_known IN ARRAY '{true,false}'::boolean[] LOOP
            -- Before all of the deeper ones, as what fired them; after them, as fired by something else; among them. What is deleted is
            -- seldom there again.
            near := ARRAY(SELECT generate_series(count, first + 1, -1));
            FOREACH place IN ARRAY CASE WHEN NOT is_known THEN first || near || (count + 1) WHEN operations[n] = 'delete' THEN ARRAY[count + 1, first] || near
                ELSE ARRAY[first, count + 1] || near END LOOP
                state := audit.row_after(CASE WHEN is_known THEN states[place - begun + 1] ELSE '{}' END, operations[n], changes[n]);
                FOR later IN place .. count LOOP
                    EXIT WHEN state IS NULL;
                    state := audit.row_after(state, operations[ordered[later]], changes[ordered[later]]);
                END LOOP;
                EXIT WHEN state IS NOT NULL;
            END LOOP;
            EXIT WHEN state IS NOT NULL;
        END LOOP;
        FOR later IN REVERSE count .. place LOOP
            ordered[later + 1] := ordered[later];
        END LOOP;
        ordered[place] := n;
        count := count + 1;
        FOR later IN place .. count LOOP
            states[later - begun + 2] := coalesce(audit.row_after(states[later - begun + 1], operations[ordered[later]], changes[ordered[later]]),
                audit.row_after('{}', operations[ordered[later]], changes[ordered[later]]));
        END LOOP;
    END LOOP;
    RETURN ordered;
END
$function$
;
--@ ["object","audit.order_changes(text[],jsonb[],text[],bigint[])","function","",null]
--@ ["owner","audit.order_changes(text[],jsonb[],text[],bigint[])","","",null]
ALTER FUNCTION audit.order_changes(text[],jsonb[],text[],bigint[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.order_changes(text[],jsonb[],text[],bigint[])","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.order_changes(text[],jsonb[],text[],bigint[]) TO audit_auditor;
--@ ["privilege","audit.order_changes(text[],jsonb[],text[],bigint[])","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.order_changes(text[],jsonb[],text[],bigint[]) TO audit_reader;
--@ ["privilege","audit.order_changes(text[],jsonb[],text[],bigint[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.order_changes(text[],jsonb[],text[],bigint[]) TO audit_maintainer;
--@ ["function","audit.partition_interval(text)","","f (parent text) text",null]
CREATE OR REPLACE FUNCTION audit.partition_interval(parent text)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT coalesce((SELECT s.partition_interval FROM audit.settings s WHERE s.of_table = parent ORDER BY s.id DESC LIMIT 1), 'month')
$function$
;
--@ ["object","audit.partition_interval(text)","function","",null]
--@ ["owner","audit.partition_interval(text)","","",null]
ALTER FUNCTION audit.partition_interval(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.partition_interval(text)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.partition_interval(text) TO audit_auditor;
--@ ["privilege","audit.partition_interval(text)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.partition_interval(text) TO audit_operator;
--@ ["privilege","audit.partition_interval(text)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.partition_interval(text) TO audit_writer;
--@ ["privilege","audit.partition_interval(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.partition_interval(text) TO audit_maintainer;
--@ ["forced row security","audit.partition_lock","","",null]
ALTER TABLE audit.partition_lock NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.partition_lock","","",null]
ALTER TABLE audit.partition_lock SET LOGGED;
--@ ["object","audit.partition_lock","table","",null]
--@ ["owner","audit.partition_lock","","",null]
ALTER TABLE audit.partition_lock OWNER TO audit_owner;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["privilege","audit.partition_lock","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.partition_lock TO audit_maintainer;
--@ ["row security","audit.partition_lock","","",null]
ALTER TABLE audit.partition_lock DISABLE ROW LEVEL SECURITY;
--@ ["table","audit.partition_lock","","r ","[\"audit\", \"partition_lock\"]"]
--@ ["function","audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)","","f (reason text, tenant_id uuid DEFAULT NULL::uuid, from_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, to_time timestamp with time zone DEFAULT 'infinity'::timestamp with time zone, kinds text[] DEFAULT NULL::text[], even_if_unknown boolean DEFAULT false) uuid",null]
CREATE OR REPLACE FUNCTION audit.place_hold(reason text, tenant_id uuid DEFAULT NULL::uuid, from_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, to_time timestamp with time zone DEFAULT 'infinity'::timestamp with time zone, kinds text[] DEFAULT NULL::text[], even_if_unknown boolean DEFAULT false)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    hold     uuid;
    hashed   bytea;
    parent   text;
    leaf     text;
    is_known boolean := tenant_id IS NULL OR coalesce(even_if_unknown, false);
BEGIN
    PERFORM audit.check_text('the reason of a hold', reason, 4096);
    PERFORM audit.check_kinds(kinds);
    IF from_time IS NULL OR to_time IS NULL OR from_time >= to_time THEN
        RAISE EXCEPTION 'audit trail: a hold covers no time unless its beginning is before its end' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_time <= '1970-01-01 00:00+00' OR from_time >= '10000-01-01 00:00+00' THEN
        RAISE EXCEPTION 'audit trail: no record is of a time outside the years 1970 to 9999, so the hold would hold nothing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY audit.record_tables() LOOP
        FOR leaf IN SELECT audit.leaves(parent) LOOP
            EXIT WHEN is_known;
            BEGIN
                EXECUTE format('SELECT EXISTS (SELECT FROM audit_parts.%I WHERE tenant_id = $1 AND %s)', leaf, audit.by_the_host(parent)) INTO is_known USING tenant_id;
            EXCEPTION WHEN undefined_table THEN
                -- It was removed meanwhile.
                CONTINUE;
            END;
        END LOOP;
    END LOOP;
    IF NOT is_known THEN
        RAISE EXCEPTION 'audit trail: no record is of this tenant, so the hold would hold nothing; if its key is not misspelt, say --even-if-unknown (even_if_unknown => true)'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO audit.legal_holds (reason, tenant_id, kinds, from_time, to_time, placed_by)
        VALUES (reason, tenant_id, CASE WHEN kinds IS NOT NULL THEN audit.check_kinds(kinds) END, from_time, to_time, session_user)
        RETURNING id, audit.row_sha256(legal_holds) INTO hold, hashed;
    PERFORM audit.append_event('audit.hold_placed', 'legal_hold', hold::text, reason, NULL, tenant_id, jsonb_build_object('sha256', encode(hashed, 'hex')));
    RETURN hold;
END
$function$
;
--@ ["object","audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)","function","",null]
--@ ["owner","audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)","","",null]
ALTER FUNCTION audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean) OWNER TO audit_maintainer;
--@ ["privilege","audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean) TO audit_auditor;
--@ ["privilege","audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean) TO audit_operator;
--@ ["privilege","audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.place_hold(text,uuid,timestamp with time zone,timestamp with time zone,text[],boolean) TO audit_maintainer;
--@ ["function","audit.plan_removals(interval,text[],text)","","f (keep interval, kinds text[], of_leaf text) TABLE(parent text, partition text, from_time timestamp with time zone, to_time timestamp with time zone, rows bigint, bytes bigint, obstacles text[])",null]
CREATE OR REPLACE FUNCTION audit.plan_removals(keep interval, kinds text[], of_leaf text)
 RETURNS TABLE(parent text, partition text, from_time timestamp with time zone, to_time timestamp with time zone, rows bigint, bytes bigint, obstacles text[])
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    leaf      text;
    floor     constant interval := audit.least_age();
    young     timestamptz;
    referring text[];
BEGIN
    -- By the calendar, at this moment: a span can be longer than another in days and shorter in months.
    BEGIN
        young := now() - keep;
    EXCEPTION WHEN datetime_field_overflow THEN
        -- Beyond all time that there is.
        young := NULL;
    END;
    IF young IS NULL OR NOT isfinite(young) OR young > now() - interval '1 day' OR young > now() - floor THEN
        RAISE EXCEPTION 'audit trail: records are kept for % at least, which is the least age that an auditor has set, or the default; audit.set_least_age changes it', floor
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY audit.check_kinds(kinds) LOOP
        referring := ARRAY(SELECT audit.referring(format('audit.%I', parent)::regclass));
        FOR leaf, from_time, to_time IN SELECT l, s.from_time, s.to_time FROM audit.leaves(parent) l, audit.leaf_span(parent, l) s WHERE s.to_time <= young AND (of_leaf IS NULL OR l = of_leaf) LOOP
            partition := leaf;
            BEGIN
                EXECUTE format('SELECT count(*) FROM audit_parts.%I', leaf) INTO rows;
                bytes := pg_total_relation_size(format('audit_parts.%I', leaf)::regclass);
                obstacles := audit.obstacles(parent, leaf, from_time, to_time) || referring;
            EXCEPTION WHEN undefined_table THEN
                -- It was removed meanwhile.
                CONTINUE;
            END;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$function$
;
--@ ["object","audit.plan_removals(interval,text[],text)","function","",null]
--@ ["owner","audit.plan_removals(interval,text[],text)","","",null]
ALTER FUNCTION audit.plan_removals(interval,text[],text) OWNER TO audit_maintainer;
--@ ["privilege","audit.plan_removals(interval,text[],text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.plan_removals(interval,text[],text) TO audit_maintainer;
--@ ["function","audit.plan_retention(interval,text[])","","f (keep interval, kinds text[] DEFAULT NULL::text[]) TABLE(parent text, partition text, from_time timestamp with time zone, to_time timestamp with time zone, rows bigint, bytes bigint, obstacles text[])",null]
CREATE OR REPLACE FUNCTION audit.plan_retention(keep interval, kinds text[] DEFAULT NULL::text[])
 RETURNS TABLE(parent text, partition text, from_time timestamp with time zone, to_time timestamp with time zone, rows bigint, bytes bigint, obstacles text[])
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT * FROM audit.plan_removals(keep, kinds, NULL)
$function$
;
--@ ["object","audit.plan_retention(interval,text[])","function","",null]
--@ ["owner","audit.plan_retention(interval,text[])","","",null]
ALTER FUNCTION audit.plan_retention(interval,text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.plan_retention(interval,text[])","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.plan_retention(interval,text[]) TO audit_operator;
--@ ["privilege","audit.plan_retention(interval,text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.plan_retention(interval,text[]) TO audit_maintainer;
--@ ["function","audit.plan_settling(text[],timestamp with time zone)","","f (kinds text[] DEFAULT NULL::text[], at timestamp with time zone DEFAULT NULL::timestamp with time zone) TABLE(parent text, partition text, from_time timestamp with time zone, to_time timestamp with time zone, rows bigint, obstacles text[])",null]
CREATE OR REPLACE FUNCTION audit.plan_settling(kinds text[] DEFAULT NULL::text[], at timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS TABLE(parent text, partition text, from_time timestamp with time zone, to_time timestamp with time zone, rows bigint, obstacles text[])
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    strays    bigint;
    other     text;
    referring text[];
    first     uuid;
    last      uuid;
BEGIN
    FOREACH parent IN ARRAY audit.check_kinds(kinds) LOOP
        CONTINUE WHEN parent || '_default' NOT IN (SELECT audit.leaves(parent));
        -- Also to the default partition alone: rows leave it by a DELETE.
        referring := ARRAY(SELECT audit.referring(format('audit.%I', parent)::regclass))
            || ARRAY(SELECT audit.referring(format('audit_parts.%I', parent || '_default')::regclass));
        SELECT audit.id_at(s.from_time), audit.id_at(s.to_time) INTO first, last FROM audit.free_span(parent, at) s;
        FOR from_time, to_time, rows, strays IN EXECUTE format(
            'SELECT s.from_time, s.to_time, sum(d.rows)::bigint, sum(d.strays)::bigint
             FROM (
                 SELECT d.day, count(*) AS rows, count(*) FILTER (WHERE d.%1$I < d.day OR d.%1$I >= d.day + interval ''1 day'') AS strays
                 FROM (SELECT %1$I, date_trunc(''day'', to_timestamp((''x'' || translate(left(id::text, 13), ''-'', ''''))::bit(48)::bigint / 1000)) AS day FROM audit_parts.%2$I
                     WHERE ($1 IS NULL OR id >= $1) AND ($2 IS NULL OR id < $2)) d
                 GROUP BY d.day) d, audit.free_span(%3$L, d.day) s
             GROUP BY s.from_time, s.to_time ORDER BY s.from_time', audit.time_column(parent), parent || '_default', parent)
            USING first, last
        LOOP
            partition := audit.leaf_name(parent, from_time, to_time);
            obstacles := referring;
            IF from_time > now() + interval '2 months' THEN
                obstacles := obstacles || 'its time is more than two months ahead'::text;
            END IF;
            IF strays > 0 THEN
                obstacles := obstacles || format('%s of the rows have a time that is not of the day of their id', strays);
            END IF;
            FOR other IN SELECT l.leaf FROM audit.leaves_over(parent, from_time, to_time) l WHERE l.from_time < plan_settling.to_time LOOP
                obstacles := obstacles || format('audit_parts.%I is there, and no partition', other);
            END LOOP;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$function$
;
--@ ["object","audit.plan_settling(text[],timestamp with time zone)","function","",null]
--@ ["owner","audit.plan_settling(text[],timestamp with time zone)","","",null]
ALTER FUNCTION audit.plan_settling(text[],timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.plan_settling(text[],timestamp with time zone)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.plan_settling(text[],timestamp with time zone) TO audit_operator;
--@ ["privilege","audit.plan_settling(text[],timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.plan_settling(text[],timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text)","","f (target regclass, tenant_column text, columns_out text[], columns_masked text[], max_value_bytes integer, action_type text, operations text[], on_failure text) bigint",null]
CREATE OR REPLACE FUNCTION audit.prepare_tracking(target regclass, tenant_column text, columns_out text[], columns_masked text[], max_value_bytes integer, action_type text, operations text[], on_failure text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    relation record;
    tracking bigint;
    wrong    text;
BEGIN
    SELECT c.relkind, c.relpersistence, c.relowner, c.relispartition, n.nspname, format('%I.%I', n.nspname, c.relname) AS name INTO relation
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit trail: no such table' USING ERRCODE = 'undefined_table';
    END IF;
    IF relation.relkind NOT IN ('r', 'p') OR relation.relpersistence = 't' OR relation.nspname IN ('pg_catalog', 'information_schema', 'audit', 'audit_parts', 'audit_guard') THEN
        RAISE EXCEPTION 'audit trail: % is no table of which changes can be recorded', relation.name USING ERRCODE = 'wrong_object_type',
            HINT = 'A table that is not temporary, and none of Postgres or of the trail.';
    END IF;
    IF NOT audit.is_lent(target) THEN
        RAISE EXCEPTION 'audit trail: % is not yours to track', relation.name USING ERRCODE = 'insufficient_privilege', HINT = 'Its owner may, and a superuser, by audit.track.';
    END IF;
    FOR wrong IN WITH RECURSIVE parts AS (SELECT inhrelid FROM pg_inherits WHERE inhparent = target UNION SELECT i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.inhrelid)
        SELECT format('%I.%I', n.nspname, c.relname) FROM parts p JOIN pg_class c ON c.oid = p.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f'
    LOOP
        RAISE EXCEPTION 'audit trail: % has a foreign table as a part: %', relation.name, wrong USING ERRCODE = 'wrong_object_type',
            HINT = 'Postgres refuses statements on a table with such a part if they are recorded.';
    END LOOP;
    IF relation.relispartition THEN
        RAISE EXCEPTION 'audit trail: % is a partition', relation.name USING ERRCODE = 'wrong_object_type', HINT = 'Track the table that it is a partition of.';
    END IF;
    operations := ARRAY(SELECT lower(o) FROM unnest(operations) o);
    SELECT o INTO wrong FROM unnest(operations) o WHERE o IS NULL OR o NOT IN ('insert', 'update', 'delete', 'truncate') LIMIT 1;
    IF FOUND OR cardinality(operations) IS DISTINCT FROM (SELECT count(DISTINCT o) FROM unnest(operations) o) OR operations = '{}' THEN
        RAISE EXCEPTION 'audit trail: operations are some of insert, update, delete and truncate, each once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF on_failure IS NULL OR on_failure NOT IN ('fail', 'warn') THEN
        RAISE EXCEPTION 'audit trail: on_failure is ''fail'' or ''warn''' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF max_value_bytes IS NULL OR max_value_bytes NOT BETWEEN 64 AND 1048576 THEN
        RAISE EXCEPTION 'audit trail: max_value_bytes is from 64 to 1048576' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_text('the action_type', action_type, 256);
    FOR wrong IN SELECT c FROM unnest(columns_out || columns_masked || tenant_column) c
        WHERE c IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = target AND a.attname = c AND a.attnum > 0 AND NOT a.attisdropped)
    LOOP
        RAISE EXCEPTION 'audit trail: % has no column %', relation.name, quote_ident(wrong) USING ERRCODE = 'undefined_column';
    END LOOP;
    FOR wrong IN SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = target AND i.indisprimary AND a.attname = ANY (columns_out || columns_masked)
    LOOP
        RAISE EXCEPTION 'audit trail: column % of % is in its primary key, by which a row is known', quote_ident(wrong), relation.name
            USING ERRCODE = 'invalid_parameter_value';
    END LOOP;
    PERFORM audit.forget_dropped_tables();
    INSERT INTO audit.tracked_tables AS t (target, name, action_type, operations, columns, target_oid, places_out, places_masked, place_tenant,
            tenant_column, columns_out, columns_masked, max_value_bytes, on_failure, tracked_by)
        VALUES (target, relation.name, action_type, operations,
            ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = prepare_tracking.target AND attnum > 0 AND NOT attisdropped ORDER BY attnum), target,
            ARRAY(SELECT attnum FROM pg_attribute WHERE attrelid = prepare_tracking.target AND attnum > 0 AND NOT attisdropped AND attname = ANY (columns_out)),
            ARRAY(SELECT attnum FROM pg_attribute WHERE attrelid = prepare_tracking.target AND attnum > 0 AND NOT attisdropped AND attname = ANY (columns_masked)),
            (SELECT attnum FROM pg_attribute WHERE attrelid = prepare_tracking.target AND attnum > 0 AND NOT attisdropped AND attname = tenant_column), tenant_column, coalesce(columns_out, '{}'), coalesce(columns_masked, '{}'), max_value_bytes, on_failure, session_user)
        ON CONFLICT ON CONSTRAINT tracked_tables_target_key DO UPDATE SET (name, action_type, operations, columns, target_oid, places_out, places_masked, place_tenant, tenant_column, columns_out, columns_masked, max_value_bytes, on_failure, tracked_by, tracked_at)
            = (excluded.name, excluded.action_type, excluded.operations, excluded.columns, excluded.target_oid, excluded.places_out, excluded.places_masked, excluded.place_tenant, excluded.tenant_column, excluded.columns_out, excluded.columns_masked, excluded.max_value_bytes,
                excluded.on_failure, excluded.tracked_by, excluded.tracked_at)
        RETURNING t.id INTO tracking;
    EXECUTE audit.change_function(tracking);
    EXECUTE format('REVOKE ALL ON FUNCTION audit.%I() FROM PUBLIC', 'record_change_' || tracking);
    RETURN tracking;
END
$function$
;
--@ ["object","audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text)","function","",null]
--@ ["owner","audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text)","","",null]
ALTER FUNCTION audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text) OWNER TO audit_maintainer;
--@ ["privilege","audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text) TO audit_operator;
--@ ["privilege","audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text) TO audit_writer;
--@ ["privilege","audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.prepare_tracking(regclass,text,text[],text[],integer,text,text[],text) TO audit_maintainer;
--@ ["column","audit.prompt_runs","agent_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN agent_id TYPE uuid USING agent_id::uuid;"]
ALTER TABLE audit.prompt_runs ADD COLUMN agent_id uuid;
--@ ["column","audit.prompt_runs","conversation_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN conversation_id TYPE text USING conversation_id::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN conversation_id text;
--@ ["column","audit.prompt_runs","created_at","","ALTER TABLE audit.prompt_runs ALTER COLUMN created_at TYPE timestamp with time zone USING created_at::timestamp with time zone;"]
ALTER TABLE audit.prompt_runs ADD COLUMN created_at timestamp with time zone;
--@ ["column","audit.prompt_runs","duration_ms","","ALTER TABLE audit.prompt_runs ALTER COLUMN duration_ms TYPE bigint USING duration_ms::bigint;"]
ALTER TABLE audit.prompt_runs ADD COLUMN duration_ms bigint;
--@ ["column","audit.prompt_runs","error_code","","ALTER TABLE audit.prompt_runs ALTER COLUMN error_code TYPE text USING error_code::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN error_code text;
--@ ["column","audit.prompt_runs","error_message","","ALTER TABLE audit.prompt_runs ALTER COLUMN error_message TYPE text USING error_message::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN error_message text;
--@ ["column","audit.prompt_runs","finished_at","","ALTER TABLE audit.prompt_runs ALTER COLUMN finished_at TYPE timestamp with time zone USING finished_at::timestamp with time zone;"]
ALTER TABLE audit.prompt_runs ADD COLUMN finished_at timestamp with time zone;
--@ ["column","audit.prompt_runs","id","","ALTER TABLE audit.prompt_runs ALTER COLUMN id TYPE uuid USING id::uuid;"]
ALTER TABLE audit.prompt_runs ADD COLUMN id uuid;
--@ ["column","audit.prompt_runs","input_token_count","","ALTER TABLE audit.prompt_runs ALTER COLUMN input_token_count TYPE integer USING input_token_count::integer;"]
ALTER TABLE audit.prompt_runs ADD COLUMN input_token_count integer;
--@ ["column","audit.prompt_runs","llm_session_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN llm_session_id TYPE uuid USING llm_session_id::uuid;"]
ALTER TABLE audit.prompt_runs ADD COLUMN llm_session_id uuid;
--@ ["column","audit.prompt_runs","metadata","","ALTER TABLE audit.prompt_runs ALTER COLUMN metadata TYPE jsonb USING metadata::jsonb;"]
ALTER TABLE audit.prompt_runs ADD COLUMN metadata jsonb;
--@ ["column","audit.prompt_runs","model_name","","ALTER TABLE audit.prompt_runs ALTER COLUMN model_name TYPE text USING model_name::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN model_name text;
--@ ["column","audit.prompt_runs","output_token_count","","ALTER TABLE audit.prompt_runs ALTER COLUMN output_token_count TYPE integer USING output_token_count::integer;"]
ALTER TABLE audit.prompt_runs ADD COLUMN output_token_count integer;
--@ ["column","audit.prompt_runs","parent_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN parent_id TYPE uuid USING parent_id::uuid;"]
ALTER TABLE audit.prompt_runs ADD COLUMN parent_id uuid;
--@ ["column","audit.prompt_runs","problems","","ALTER TABLE audit.prompt_runs ALTER COLUMN problems TYPE text[] USING problems::text[];"]
ALTER TABLE audit.prompt_runs ADD COLUMN problems text[];
--@ ["column","audit.prompt_runs","prompt_template_name","","ALTER TABLE audit.prompt_runs ALTER COLUMN prompt_template_name TYPE text USING prompt_template_name::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN prompt_template_name text;
--@ ["column","audit.prompt_runs","prompt_template_version","","ALTER TABLE audit.prompt_runs ALTER COLUMN prompt_template_version TYPE integer USING prompt_template_version::integer;"]
ALTER TABLE audit.prompt_runs ADD COLUMN prompt_template_version integer;
--@ ["column","audit.prompt_runs","provider","","ALTER TABLE audit.prompt_runs ALTER COLUMN provider TYPE text USING provider::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN provider text;
--@ ["column","audit.prompt_runs","redactions","","ALTER TABLE audit.prompt_runs ALTER COLUMN redactions TYPE text[] USING redactions::text[];"]
ALTER TABLE audit.prompt_runs ADD COLUMN redactions text[];
--@ ["column","audit.prompt_runs","rendered_prompt","","ALTER TABLE audit.prompt_runs ALTER COLUMN rendered_prompt TYPE text USING rendered_prompt::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN rendered_prompt text;
--@ ["column","audit.prompt_runs","request_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN request_id TYPE text USING request_id::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN request_id text;
--@ ["column","audit.prompt_runs","response_text","","ALTER TABLE audit.prompt_runs ALTER COLUMN response_text TYPE text USING response_text::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN response_text text;
--@ ["column","audit.prompt_runs","role","","ALTER TABLE audit.prompt_runs ALTER COLUMN role TYPE text USING role::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN role text;
--@ ["column","audit.prompt_runs","salt","","ALTER TABLE audit.prompt_runs ALTER COLUMN salt TYPE bytea USING salt::bytea;"]
ALTER TABLE audit.prompt_runs ADD COLUMN salt bytea;
--@ ["column","audit.prompt_runs","seq","","ALTER TABLE audit.prompt_runs ALTER COLUMN seq TYPE bigint USING seq::bigint;"]
ALTER TABLE audit.prompt_runs ADD COLUMN seq bigint;
--@ ["column","audit.prompt_runs","service_name","","ALTER TABLE audit.prompt_runs ALTER COLUMN service_name TYPE text USING service_name::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN service_name text;
--@ ["column","audit.prompt_runs","span_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN span_id TYPE text USING span_id::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN span_id text;
--@ ["column","audit.prompt_runs","status","","ALTER TABLE audit.prompt_runs ALTER COLUMN status TYPE audit.run_status USING status::audit.run_status;"]
ALTER TABLE audit.prompt_runs ADD COLUMN status audit.run_status;
--@ ["column","audit.prompt_runs","tenant_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid;"]
ALTER TABLE audit.prompt_runs ADD COLUMN tenant_id uuid;
--@ ["column","audit.prompt_runs","trace_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN trace_id TYPE text USING trace_id::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN trace_id text;
--@ ["column","audit.prompt_runs","user_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN user_id TYPE text USING user_id::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN user_id text;
--@ ["column","audit.prompt_runs","user_role","","ALTER TABLE audit.prompt_runs ALTER COLUMN user_role TYPE text USING user_role::text;"]
ALTER TABLE audit.prompt_runs ADD COLUMN user_role text;
--@ ["column","audit.prompt_runs","writer_id","","ALTER TABLE audit.prompt_runs ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.prompt_runs ADD COLUMN writer_id uuid;
--@ ["column default","audit.prompt_runs","metadata","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN metadata SET DEFAULT '{}'::jsonb;
--@ ["column default","audit.prompt_runs","problems","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN problems SET DEFAULT '{}'::text[];
--@ ["column default","audit.prompt_runs","redactions","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN redactions SET DEFAULT '{}'::text[];
--@ ["column not null","audit.prompt_runs","created_at","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN created_at SET NOT NULL;
--@ ["column not null","audit.prompt_runs","id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.prompt_runs","metadata","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN metadata SET NOT NULL;
--@ ["column not null","audit.prompt_runs","problems","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN problems SET NOT NULL;
--@ ["column not null","audit.prompt_runs","redactions","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN redactions SET NOT NULL;
--@ ["column not null","audit.prompt_runs","salt","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN salt SET NOT NULL;
--@ ["column not null","audit.prompt_runs","seq","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN seq SET NOT NULL;
--@ ["column not null","audit.prompt_runs","status","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN status SET NOT NULL;
--@ ["column not null","audit.prompt_runs","writer_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN writer_id SET NOT NULL;
--@ ["column statistics","audit.prompt_runs","agent_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN agent_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","conversation_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN conversation_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","duration_ms","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN duration_ms SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","error_code","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN error_code SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","error_message","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN error_message SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","finished_at","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN finished_at SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","input_token_count","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN input_token_count SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","llm_session_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN llm_session_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","metadata","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN metadata SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","model_name","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN model_name SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","output_token_count","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN output_token_count SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","parent_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN parent_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","problems","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN problems SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","prompt_template_name","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN prompt_template_name SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","prompt_template_version","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN prompt_template_version SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","provider","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN provider SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","redactions","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN redactions SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","rendered_prompt","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN rendered_prompt SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","request_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN request_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","response_text","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN response_text SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","role","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN role SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","salt","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN salt SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","seq","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN seq SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","service_name","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN service_name SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","span_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN span_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","status","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN status SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","tenant_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN tenant_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","trace_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN trace_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","user_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN user_id SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","user_role","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN user_role SET STATISTICS 0;
--@ ["column statistics","audit.prompt_runs","writer_id","",null]
ALTER TABLE audit.prompt_runs ALTER COLUMN writer_id SET STATISTICS 0;
--@ ["columns","audit.prompt_runs","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"agent_id\", \"uuid\"], [\"llm_session_id\", \"uuid\"], [\"parent_id\", \"uuid\"], [\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"], [\"created_at\", \"timestamp with time zone\"], [\"finished_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"prompt_template_version\", \"integer\"], [\"input_token_count\", \"integer\"], [\"output_token_count\", \"integer\"], [\"status\", \"audit.run_status\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"request_id\", \"text\"], [\"conversation_id\", \"text\"], [\"trace_id\", \"text\"], [\"span_id\", \"text\"], [\"service_name\", \"text\"], [\"model_name\", \"text\"], [\"provider\", \"text\"], [\"prompt_template_name\", \"text\"], [\"rendered_prompt\", \"text\"], [\"response_text\", \"text\"], [\"role\", \"text\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"metadata\", \"jsonb\"], [\"problems\", \"text[]\"], [\"redactions\", \"text[]\"], [\"salt\", \"bytea\"]]",null]
--@ ["constraint","audit.prompt_runs","prompt_runs_created_at_check",null,null]
ALTER TABLE audit.prompt_runs ADD CONSTRAINT prompt_runs_created_at_check CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone)));
--@ ["constraint","audit.prompt_runs","prompt_runs_finished_at_check",null,null]
ALTER TABLE audit.prompt_runs ADD CONSTRAINT prompt_runs_finished_at_check CHECK (((finished_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (finished_at < '10000-01-01 00:00:00+00'::timestamp with time zone)));
--@ ["constraint","audit.prompt_runs","prompt_runs_pkey",null,null]
ALTER TABLE audit.prompt_runs ADD CONSTRAINT prompt_runs_pkey PRIMARY KEY (id);
--@ ["constraint","audit.prompt_runs","prompt_runs_size",null,null]
ALTER TABLE audit.prompt_runs ADD CONSTRAINT prompt_runs_size CHECK (((((((((((((((((COALESCE(octet_length(user_id), 0) + COALESCE(octet_length(user_role), 0)) + COALESCE(octet_length(request_id), 0)) + COALESCE(octet_length(conversation_id), 0)) + COALESCE(octet_length(trace_id), 0)) + COALESCE(octet_length(span_id), 0)) + COALESCE(octet_length(service_name), 0)) + COALESCE(octet_length(model_name), 0)) + COALESCE(octet_length(provider), 0)) + COALESCE(octet_length(prompt_template_name), 0)) + COALESCE(octet_length(rendered_prompt), 0)) + COALESCE(octet_length(response_text), 0)) + COALESCE(octet_length(role), 0)) + COALESCE(octet_length(error_code), 0)) + COALESCE(octet_length(error_message), 0)) <= 150994944) AND (octet_length(salt) <= 64) AND
CASE
    WHEN ((pg_column_size(metadata) > 2000) OR (pg_column_compression(metadata) IS NOT NULL)) THEN (octet_length((metadata)::text) <= 150994944)
    ELSE true
END AND (cardinality(problems) <= 101) AND
CASE
    WHEN ((pg_column_size(problems) > 2000) OR (pg_column_compression(problems) IS NOT NULL)) THEN (octet_length(array_to_string(problems, ','::text)) <= 1048576)
    ELSE true
END AND (cardinality(redactions) <= 101) AND
CASE
    WHEN ((pg_column_size(redactions) > 2000) OR (pg_column_compression(redactions) IS NOT NULL)) THEN (octet_length(array_to_string(redactions, ','::text)) <= 1048576)
    ELSE true
END));
--@ ["forced row security","audit.prompt_runs","","",null]
ALTER TABLE audit.prompt_runs FORCE ROW LEVEL SECURITY;
--@ ["index","audit.prompt_runs","audit.prompt_runs USING btree (request_id, tenant_id)","long",null]
CREATE INDEX ON audit.prompt_runs USING btree (request_id, tenant_id);
--@ ["index","audit.prompt_runs","audit.prompt_runs USING btree (tenant_id, id)","harmless",null]
CREATE INDEX ON audit.prompt_runs USING btree (tenant_id, id);
--@ ["object","audit.prompt_runs","table","",null]
--@ ["owner","audit.prompt_runs","","",null]
ALTER TABLE audit.prompt_runs OWNER TO audit_owner;
--@ ["policy","audit.prompt_runs","adding",null,null]
CREATE POLICY adding ON audit.prompt_runs FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.prompt_runs","auditor",null,null]
CREATE POLICY auditor ON audit.prompt_runs FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.prompt_runs","maintainer",null,null]
CREATE POLICY maintainer ON audit.prompt_runs FOR SELECT TO audit_maintainer USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["policy","audit.prompt_runs","tenant",null,null]
CREATE POLICY tenant ON audit.prompt_runs FOR SELECT TO audit_reader USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["privilege","audit.prompt_runs","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.prompt_runs TO audit_auditor;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.prompt_runs TO audit_maintainer;
--@ ["privilege","audit.prompt_runs","[\"audit_owner\", \"SELECT\", \" (id)\"]","",null]
GRANT SELECT (id) ON TABLE audit.prompt_runs TO audit_owner;
--@ ["privilege","audit.prompt_runs","[\"audit_owner\", \"UPDATE\", \" (id)\"]","",null]
GRANT UPDATE (id) ON TABLE audit.prompt_runs TO audit_owner;
--@ ["privilege","audit.prompt_runs","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.prompt_runs TO audit_reader;
--@ ["row security","audit.prompt_runs","","",null]
ALTER TABLE audit.prompt_runs ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.prompt_runs","","p RANGE (id)","[\"audit\", \"prompt_runs\"]"]
--@ ["trigger","audit.prompt_runs","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.prompt_runs FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.prompt_runs ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.prompt_runs FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.prompt_runs ENABLE ALWAYS TRIGGER append_only;
--@ ["column","audit.query_runs","agent_id","","ALTER TABLE audit.query_runs ALTER COLUMN agent_id TYPE uuid USING agent_id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN agent_id uuid;
--@ ["column","audit.query_runs","conversation_id","","ALTER TABLE audit.query_runs ALTER COLUMN conversation_id TYPE text USING conversation_id::text;"]
ALTER TABLE audit.query_runs ADD COLUMN conversation_id text;
--@ ["column","audit.query_runs","datasource_id","","ALTER TABLE audit.query_runs ALTER COLUMN datasource_id TYPE uuid USING datasource_id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN datasource_id uuid;
--@ ["column","audit.query_runs","duration_ms","","ALTER TABLE audit.query_runs ALTER COLUMN duration_ms TYPE bigint USING duration_ms::bigint;"]
ALTER TABLE audit.query_runs ADD COLUMN duration_ms bigint;
--@ ["column","audit.query_runs","error_code","","ALTER TABLE audit.query_runs ALTER COLUMN error_code TYPE text USING error_code::text;"]
ALTER TABLE audit.query_runs ADD COLUMN error_code text;
--@ ["column","audit.query_runs","error_message","","ALTER TABLE audit.query_runs ALTER COLUMN error_message TYPE text USING error_message::text;"]
ALTER TABLE audit.query_runs ADD COLUMN error_message text;
--@ ["column","audit.query_runs","finished_at","","ALTER TABLE audit.query_runs ALTER COLUMN finished_at TYPE timestamp with time zone USING finished_at::timestamp with time zone;"]
ALTER TABLE audit.query_runs ADD COLUMN finished_at timestamp with time zone;
--@ ["column","audit.query_runs","id","","ALTER TABLE audit.query_runs ALTER COLUMN id TYPE uuid USING id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN id uuid;
--@ ["column","audit.query_runs","llm_session_id","","ALTER TABLE audit.query_runs ALTER COLUMN llm_session_id TYPE uuid USING llm_session_id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN llm_session_id uuid;
--@ ["column","audit.query_runs","metadata","","ALTER TABLE audit.query_runs ALTER COLUMN metadata TYPE jsonb USING metadata::jsonb;"]
ALTER TABLE audit.query_runs ADD COLUMN metadata jsonb;
--@ ["column","audit.query_runs","parent_id","","ALTER TABLE audit.query_runs ALTER COLUMN parent_id TYPE uuid USING parent_id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN parent_id uuid;
--@ ["column","audit.query_runs","problems","","ALTER TABLE audit.query_runs ALTER COLUMN problems TYPE text[] USING problems::text[];"]
ALTER TABLE audit.query_runs ADD COLUMN problems text[];
--@ ["column","audit.query_runs","question_text","","ALTER TABLE audit.query_runs ALTER COLUMN question_text TYPE text USING question_text::text;"]
ALTER TABLE audit.query_runs ADD COLUMN question_text text;
--@ ["column","audit.query_runs","redactions","","ALTER TABLE audit.query_runs ALTER COLUMN redactions TYPE text[] USING redactions::text[];"]
ALTER TABLE audit.query_runs ADD COLUMN redactions text[];
--@ ["column","audit.query_runs","request_id","","ALTER TABLE audit.query_runs ALTER COLUMN request_id TYPE text USING request_id::text;"]
ALTER TABLE audit.query_runs ADD COLUMN request_id text;
--@ ["column","audit.query_runs","row_count","","ALTER TABLE audit.query_runs ALTER COLUMN row_count TYPE integer USING row_count::integer;"]
ALTER TABLE audit.query_runs ADD COLUMN row_count integer;
--@ ["column","audit.query_runs","rows_affected","","ALTER TABLE audit.query_runs ALTER COLUMN rows_affected TYPE integer USING rows_affected::integer;"]
ALTER TABLE audit.query_runs ADD COLUMN rows_affected integer;
--@ ["column","audit.query_runs","salt","","ALTER TABLE audit.query_runs ALTER COLUMN salt TYPE bytea USING salt::bytea;"]
ALTER TABLE audit.query_runs ADD COLUMN salt bytea;
--@ ["column","audit.query_runs","seq","","ALTER TABLE audit.query_runs ALTER COLUMN seq TYPE bigint USING seq::bigint;"]
ALTER TABLE audit.query_runs ADD COLUMN seq bigint;
--@ ["column","audit.query_runs","service_name","","ALTER TABLE audit.query_runs ALTER COLUMN service_name TYPE text USING service_name::text;"]
ALTER TABLE audit.query_runs ADD COLUMN service_name text;
--@ ["column","audit.query_runs","span_id","","ALTER TABLE audit.query_runs ALTER COLUMN span_id TYPE text USING span_id::text;"]
ALTER TABLE audit.query_runs ADD COLUMN span_id text;
--@ ["column","audit.query_runs","sql_summary","","ALTER TABLE audit.query_runs ALTER COLUMN sql_summary TYPE text USING sql_summary::text;"]
ALTER TABLE audit.query_runs ADD COLUMN sql_summary text;
--@ ["column","audit.query_runs","sql_text","","ALTER TABLE audit.query_runs ALTER COLUMN sql_text TYPE text USING sql_text::text;"]
ALTER TABLE audit.query_runs ADD COLUMN sql_text text;
--@ ["column","audit.query_runs","started_at","","ALTER TABLE audit.query_runs ALTER COLUMN started_at TYPE timestamp with time zone USING started_at::timestamp with time zone;"]
ALTER TABLE audit.query_runs ADD COLUMN started_at timestamp with time zone;
--@ ["column","audit.query_runs","status","","ALTER TABLE audit.query_runs ALTER COLUMN status TYPE audit.run_status USING status::audit.run_status;"]
ALTER TABLE audit.query_runs ADD COLUMN status audit.run_status;
--@ ["column","audit.query_runs","tenant_id","","ALTER TABLE audit.query_runs ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN tenant_id uuid;
--@ ["column","audit.query_runs","trace_id","","ALTER TABLE audit.query_runs ALTER COLUMN trace_id TYPE text USING trace_id::text;"]
ALTER TABLE audit.query_runs ADD COLUMN trace_id text;
--@ ["column","audit.query_runs","user_id","","ALTER TABLE audit.query_runs ALTER COLUMN user_id TYPE text USING user_id::text;"]
ALTER TABLE audit.query_runs ADD COLUMN user_id text;
--@ ["column","audit.query_runs","user_role","","ALTER TABLE audit.query_runs ALTER COLUMN user_role TYPE text USING user_role::text;"]
ALTER TABLE audit.query_runs ADD COLUMN user_role text;
--@ ["column","audit.query_runs","writer_id","","ALTER TABLE audit.query_runs ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.query_runs ADD COLUMN writer_id uuid;
--@ ["column default","audit.query_runs","metadata","",null]
ALTER TABLE audit.query_runs ALTER COLUMN metadata SET DEFAULT '{}'::jsonb;
--@ ["column default","audit.query_runs","problems","",null]
ALTER TABLE audit.query_runs ALTER COLUMN problems SET DEFAULT '{}'::text[];
--@ ["column default","audit.query_runs","redactions","",null]
ALTER TABLE audit.query_runs ALTER COLUMN redactions SET DEFAULT '{}'::text[];
--@ ["column not null","audit.query_runs","id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.query_runs","metadata","",null]
ALTER TABLE audit.query_runs ALTER COLUMN metadata SET NOT NULL;
--@ ["column not null","audit.query_runs","problems","",null]
ALTER TABLE audit.query_runs ALTER COLUMN problems SET NOT NULL;
--@ ["column not null","audit.query_runs","redactions","",null]
ALTER TABLE audit.query_runs ALTER COLUMN redactions SET NOT NULL;
--@ ["column not null","audit.query_runs","salt","",null]
ALTER TABLE audit.query_runs ALTER COLUMN salt SET NOT NULL;
--@ ["column not null","audit.query_runs","seq","",null]
ALTER TABLE audit.query_runs ALTER COLUMN seq SET NOT NULL;
--@ ["column not null","audit.query_runs","started_at","",null]
ALTER TABLE audit.query_runs ALTER COLUMN started_at SET NOT NULL;
--@ ["column not null","audit.query_runs","status","",null]
ALTER TABLE audit.query_runs ALTER COLUMN status SET NOT NULL;
--@ ["column not null","audit.query_runs","writer_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN writer_id SET NOT NULL;
--@ ["column statistics","audit.query_runs","agent_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN agent_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","conversation_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN conversation_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","datasource_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN datasource_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","duration_ms","",null]
ALTER TABLE audit.query_runs ALTER COLUMN duration_ms SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","error_code","",null]
ALTER TABLE audit.query_runs ALTER COLUMN error_code SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","error_message","",null]
ALTER TABLE audit.query_runs ALTER COLUMN error_message SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","finished_at","",null]
ALTER TABLE audit.query_runs ALTER COLUMN finished_at SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","llm_session_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN llm_session_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","metadata","",null]
ALTER TABLE audit.query_runs ALTER COLUMN metadata SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","parent_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN parent_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","problems","",null]
ALTER TABLE audit.query_runs ALTER COLUMN problems SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","question_text","",null]
ALTER TABLE audit.query_runs ALTER COLUMN question_text SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","redactions","",null]
ALTER TABLE audit.query_runs ALTER COLUMN redactions SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","request_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN request_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","row_count","",null]
ALTER TABLE audit.query_runs ALTER COLUMN row_count SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","rows_affected","",null]
ALTER TABLE audit.query_runs ALTER COLUMN rows_affected SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","salt","",null]
ALTER TABLE audit.query_runs ALTER COLUMN salt SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","seq","",null]
ALTER TABLE audit.query_runs ALTER COLUMN seq SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","service_name","",null]
ALTER TABLE audit.query_runs ALTER COLUMN service_name SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","span_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN span_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","sql_summary","",null]
ALTER TABLE audit.query_runs ALTER COLUMN sql_summary SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","sql_text","",null]
ALTER TABLE audit.query_runs ALTER COLUMN sql_text SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","status","",null]
ALTER TABLE audit.query_runs ALTER COLUMN status SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","tenant_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN tenant_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","trace_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN trace_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","user_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN user_id SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","user_role","",null]
ALTER TABLE audit.query_runs ALTER COLUMN user_role SET STATISTICS 0;
--@ ["column statistics","audit.query_runs","writer_id","",null]
ALTER TABLE audit.query_runs ALTER COLUMN writer_id SET STATISTICS 0;
--@ ["columns","audit.query_runs","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"agent_id\", \"uuid\"], [\"llm_session_id\", \"uuid\"], [\"parent_id\", \"uuid\"], [\"datasource_id\", \"uuid\"], [\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"], [\"started_at\", \"timestamp with time zone\"], [\"finished_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"row_count\", \"integer\"], [\"rows_affected\", \"integer\"], [\"status\", \"audit.run_status\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"request_id\", \"text\"], [\"conversation_id\", \"text\"], [\"trace_id\", \"text\"], [\"span_id\", \"text\"], [\"service_name\", \"text\"], [\"question_text\", \"text\"], [\"sql_text\", \"text\"], [\"sql_summary\", \"text\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"metadata\", \"jsonb\"], [\"problems\", \"text[]\"], [\"redactions\", \"text[]\"], [\"salt\", \"bytea\"]]",null]
--@ ["constraint","audit.query_runs","query_runs_finished_at_check",null,null]
ALTER TABLE audit.query_runs ADD CONSTRAINT query_runs_finished_at_check CHECK (((finished_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (finished_at < '10000-01-01 00:00:00+00'::timestamp with time zone)));
--@ ["constraint","audit.query_runs","query_runs_pkey",null,null]
ALTER TABLE audit.query_runs ADD CONSTRAINT query_runs_pkey PRIMARY KEY (id);
--@ ["constraint","audit.query_runs","query_runs_size",null,null]
ALTER TABLE audit.query_runs ADD CONSTRAINT query_runs_size CHECK ((((((((((((((COALESCE(octet_length(user_id), 0) + COALESCE(octet_length(user_role), 0)) + COALESCE(octet_length(request_id), 0)) + COALESCE(octet_length(conversation_id), 0)) + COALESCE(octet_length(trace_id), 0)) + COALESCE(octet_length(span_id), 0)) + COALESCE(octet_length(service_name), 0)) + COALESCE(octet_length(question_text), 0)) + COALESCE(octet_length(sql_text), 0)) + COALESCE(octet_length(sql_summary), 0)) + COALESCE(octet_length(error_code), 0)) + COALESCE(octet_length(error_message), 0)) <= 150994944) AND (octet_length(salt) <= 64) AND
CASE
    WHEN ((pg_column_size(metadata) > 2000) OR (pg_column_compression(metadata) IS NOT NULL)) THEN (octet_length((metadata)::text) <= 150994944)
    ELSE true
END AND (cardinality(problems) <= 101) AND
CASE
    WHEN ((pg_column_size(problems) > 2000) OR (pg_column_compression(problems) IS NOT NULL)) THEN (octet_length(array_to_string(problems, ','::text)) <= 1048576)
    ELSE true
END AND (cardinality(redactions) <= 101) AND
CASE
    WHEN ((pg_column_size(redactions) > 2000) OR (pg_column_compression(redactions) IS NOT NULL)) THEN (octet_length(array_to_string(redactions, ','::text)) <= 1048576)
    ELSE true
END));
--@ ["constraint","audit.query_runs","query_runs_started_at_check",null,null]
ALTER TABLE audit.query_runs ADD CONSTRAINT query_runs_started_at_check CHECK (((started_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (started_at < '10000-01-01 00:00:00+00'::timestamp with time zone)));
--@ ["forced row security","audit.query_runs","","",null]
ALTER TABLE audit.query_runs FORCE ROW LEVEL SECURITY;
--@ ["index","audit.query_runs","audit.query_runs USING btree (request_id, tenant_id)","long",null]
CREATE INDEX ON audit.query_runs USING btree (request_id, tenant_id);
--@ ["index","audit.query_runs","audit.query_runs USING btree (tenant_id, id)","harmless",null]
CREATE INDEX ON audit.query_runs USING btree (tenant_id, id);
--@ ["object","audit.query_runs","table","",null]
--@ ["owner","audit.query_runs","","",null]
ALTER TABLE audit.query_runs OWNER TO audit_owner;
--@ ["policy","audit.query_runs","adding",null,null]
CREATE POLICY adding ON audit.query_runs FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.query_runs","auditor",null,null]
CREATE POLICY auditor ON audit.query_runs FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.query_runs","maintainer",null,null]
CREATE POLICY maintainer ON audit.query_runs FOR SELECT TO audit_maintainer USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["policy","audit.query_runs","tenant",null,null]
CREATE POLICY tenant ON audit.query_runs FOR SELECT TO audit_reader USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["privilege","audit.query_runs","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.query_runs TO audit_auditor;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.query_runs TO audit_maintainer;
--@ ["privilege","audit.query_runs","[\"audit_owner\", \"SELECT\", \" (id)\"]","",null]
GRANT SELECT (id) ON TABLE audit.query_runs TO audit_owner;
--@ ["privilege","audit.query_runs","[\"audit_owner\", \"UPDATE\", \" (id)\"]","",null]
GRANT UPDATE (id) ON TABLE audit.query_runs TO audit_owner;
--@ ["privilege","audit.query_runs","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.query_runs TO audit_reader;
--@ ["row security","audit.query_runs","","",null]
ALTER TABLE audit.query_runs ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.query_runs","","p RANGE (id)","[\"audit\", \"query_runs\"]"]
--@ ["trigger","audit.query_runs","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.query_runs FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.query_runs ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.query_runs FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.query_runs ENABLE ALWAYS TRIGGER append_only;
--@ ["function","audit.record_archive(text,text,date,integer,bytea,bigint)","","f (place text, kind text, day date, number integer, sha256 bytea, rows bigint) uuid",null]
CREATE OR REPLACE FUNCTION audit.record_archive(place text, kind text, day date, number integer, sha256 bytea, rows bigint)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    known audit.archives;
    event uuid;
BEGIN
    PERFORM audit.check_text('the place of an archive', place, 1024);
    IF kind IS NULL OR day IS NULL OR NOT isfinite(day) OR octet_length(sha256) IS DISTINCT FROM 32 OR coalesce(number, 0) < 1 OR coalesce(rows, 0) < 1 THEN
        RAISE EXCEPTION 'audit trail: an archive is of a table and a day, with a number, a hash of 32 bytes and rows' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_kinds(ARRAY[kind]);
    -- One archives a place at a time; whoever was interrupted says it once more.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.archives IN SHARE ROW EXCLUSIVE MODE');
    SELECT a.* INTO known FROM audit.archives a
        WHERE a.place = record_archive.place AND a.parent = kind AND a.day = record_archive.day AND a.number = record_archive.number;
    IF FOUND THEN
        IF known.sha256 <> record_archive.sha256 THEN
            RAISE EXCEPTION 'audit trail: another manifest % of % of % was archived there', number, kind, day USING ERRCODE = 'unique_violation';
        END IF;
        RETURN known.event;
    END IF;
    event := audit.append_event('audit.archived', 'archive', format('%s %s %s', kind, day, number), 'A day of the trail was archived.', NULL, NULL, jsonb_build_object(
        'place', place, 'kind', kind, 'day', day, 'number', number, 'manifest', encode(sha256, 'hex'), 'rows', rows));
    INSERT INTO audit.archives VALUES (place, kind, day, number, sha256, rows, clock_timestamp(), session_user, event);
    RETURN event;
END
$function$
;
--@ ["object","audit.record_archive(text,text,date,integer,bytea,bigint)","function","",null]
--@ ["owner","audit.record_archive(text,text,date,integer,bytea,bigint)","","",null]
ALTER FUNCTION audit.record_archive(text,text,date,integer,bytea,bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.record_archive(text,text,date,integer,bytea,bigint)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_archive(text,text,date,integer,bytea,bigint) TO audit_auditor;
--@ ["privilege","audit.record_archive(text,text,date,integer,bytea,bigint)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_archive(text,text,date,integer,bytea,bigint) TO audit_operator;
--@ ["privilege","audit.record_archive(text,text,date,integer,bytea,bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_archive(text,text,date,integer,bytea,bigint) TO audit_maintainer;
--@ ["function","audit.record_reading(text,text,uuid,jsonb)","","f (purpose text, request_id text DEFAULT NULL::text, tenant_id uuid DEFAULT NULL::uuid, details jsonb DEFAULT NULL::jsonb) uuid",null]
CREATE OR REPLACE FUNCTION audit.record_reading(purpose text, request_id text DEFAULT NULL::text, tenant_id uuid DEFAULT NULL::uuid, details jsonb DEFAULT NULL::jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    PERFORM audit.check_text('the purpose of a reading', purpose, 4096);
    IF octet_length(request_id) > 4096 THEN
        RAISE EXCEPTION 'audit trail: the request id is longer than 4096 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_details(details);
    RETURN audit.append_event('audit.read', CASE WHEN request_id IS NULL THEN 'trail' ELSE 'request' END, request_id, purpose, NULL, tenant_id, details);
END
$function$
;
--@ ["object","audit.record_reading(text,text,uuid,jsonb)","function","",null]
--@ ["owner","audit.record_reading(text,text,uuid,jsonb)","","",null]
ALTER FUNCTION audit.record_reading(text,text,uuid,jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.record_reading(text,text,uuid,jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_reading(text,text,uuid,jsonb) TO audit_auditor;
--@ ["privilege","audit.record_reading(text,text,uuid,jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_reading(text,text,uuid,jsonb) TO audit_reader;
--@ ["privilege","audit.record_reading(text,text,uuid,jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_reading(text,text,uuid,jsonb) TO audit_maintainer;
--@ ["function","audit.record_refused_login(text,jsonb)","","f (login text, details jsonb DEFAULT NULL::jsonb) uuid",null]
CREATE OR REPLACE FUNCTION audit.record_refused_login(login text, details jsonb DEFAULT NULL::jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    PERFORM audit.check_text('the refused login', login, 1024);
    PERFORM audit.check_details(details);
    RETURN audit.append_event('security', 'login', login, 'A login to read the trail was refused.', NULL, NULL,
        coalesce(details, '{}') || '{"event": "login_refused"}', 'rejected');
END
$function$
;
--@ ["object","audit.record_refused_login(text,jsonb)","function","",null]
--@ ["owner","audit.record_refused_login(text,jsonb)","","",null]
ALTER FUNCTION audit.record_refused_login(text,jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.record_refused_login(text,jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_refused_login(text,jsonb) TO audit_auditor;
--@ ["privilege","audit.record_refused_login(text,jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_refused_login(text,jsonb) TO audit_reader;
--@ ["privilege","audit.record_refused_login(text,jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_refused_login(text,jsonb) TO audit_maintainer;
--@ ["function","audit.record_tables()","","f () text[]",null]
CREATE OR REPLACE FUNCTION audit.record_tables()
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT ARRAY['query_runs', 'prompt_runs', 'events', 'activities']
$function$
;
--@ ["object","audit.record_tables()","function","",null]
--@ ["owner","audit.record_tables()","","",null]
ALTER FUNCTION audit.record_tables() OWNER TO audit_maintainer;
--@ ["privilege","audit.record_tables()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_tables() TO audit_maintainer;
--@ ["function","audit.record_truncation(audit.change_context,text,boolean)","","f (c audit.change_context, action_type text, is_of_all boolean) void",null]
CREATE OR REPLACE FUNCTION audit.record_truncation(c audit.change_context, action_type text, is_of_all boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    rows constant bigint := nullif(current_setting('audit.truncated_rows', true), '');
BEGIN
    IF is_of_all THEN
        c.tenant_id := NULL;
        c.tenant_key := NULL;
    END IF;
    INSERT INTO audit.events (id, tenant_id, user_id, user_role, agent_id, request_id, llm_session_id, conversation_id, parent_id, trace_id, span_id,
            service_name, action_type, target_type, status, created_at, metadata, problems, writer_id, seq, salt)
        VALUES ((c.id_head || lpad(to_hex(c.id_tail + 1), 15, '0'))::uuid, c.tenant_id, c.user_id, c.user_role, c.agent_id, c.request_id, c.llm_session_id,
            c.conversation_id, c.parent_id, c.trace_id, c.span_id, 'postgres', action_type, c.target, 'succeeded', c.at,
            concat('{', c.about, CASE WHEN c.tenant_key <> c.tenant_id::text THEN ',"tenant_key":' || to_json(c.tenant_key) END, ',"operation":"truncate","changes":{}}')::jsonb
                || CASE WHEN rows > 10000000 THEN '{"rows_at_least": 10000000}' ELSE jsonb_build_object('rows', rows) END, c.problems, c.writer, 1, uuid_send(gen_random_uuid()));
    PERFORM audit.end_change(c, 1);
END
$function$
;
--@ ["object","audit.record_truncation(audit.change_context,text,boolean)","function","",null]
--@ ["owner","audit.record_truncation(audit.change_context,text,boolean)","","",null]
ALTER FUNCTION audit.record_truncation(audit.change_context,text,boolean) OWNER TO audit_maintainer;
--@ ["privilege","audit.record_truncation(audit.change_context,text,boolean)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_truncation(audit.change_context,text,boolean) TO audit_maintainer;
--@ ["function","audit.record_verification(boolean,jsonb)","","f (found_anything boolean, details jsonb) uuid",null]
CREATE OR REPLACE FUNCTION audit.record_verification(found_anything boolean, details jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    IF found_anything IS NULL OR details IS NULL THEN
        RAISE EXCEPTION 'audit trail: it is not said what a verification has found' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.check_details(details);
    RETURN audit.append_event('audit.verify', 'trail', NULL, 'The trail was compared with its ledger.', NULL, NULL, details,
        CASE WHEN found_anything THEN 'failed' ELSE 'succeeded' END::audit.run_status);
END
$function$
;
--@ ["object","audit.record_verification(boolean,jsonb)","function","",null]
--@ ["owner","audit.record_verification(boolean,jsonb)","","",null]
ALTER FUNCTION audit.record_verification(boolean,jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.record_verification(boolean,jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_verification(boolean,jsonb) TO audit_auditor;
--@ ["privilege","audit.record_verification(boolean,jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.record_verification(boolean,jsonb) TO audit_maintainer;
--@ ["function","audit.referring(regclass)","","f (target regclass) SETOF text",null]
CREATE OR REPLACE FUNCTION audit.referring(target regclass)
 RETURNS SETOF text
 LANGUAGE sql
 STABLE STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT format(
        'rows of %1$s may refer to it by the foreign key %2$I; its owner takes that away (SET lock_timeout = ''400ms''; ALTER TABLE %1$s DROP CONSTRAINT %2$I), and may add it again afterwards (SET lock_timeout = ''400ms''; ALTER TABLE %1$s ADD CONSTRAINT %2$I %3$s%4$s)',
        c.conrelid::regclass, c.conname, regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', ''), CASE h.relkind WHEN 'p' THEN '' ELSE ' NOT VALID' END)
    FROM pg_constraint c JOIN pg_class h ON h.oid = c.conrelid
    WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid = target
    ORDER BY 1
$function$
;
--@ ["object","audit.referring(regclass)","function","",null]
--@ ["owner","audit.referring(regclass)","","",null]
ALTER FUNCTION audit.referring(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.referring(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.referring(regclass) TO audit_maintainer;
--@ ["function","audit.refuse_change()","","f () trigger",null]
CREATE OR REPLACE FUNCTION audit.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION 'audit trail: % on %.% is refused, it is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$function$
;
--@ ["object","audit.refuse_change()","function","",null]
--@ ["owner","audit.refuse_change()","","",null]
ALTER FUNCTION audit.refuse_change() OWNER TO audit_maintainer;
--@ ["privilege","audit.refuse_change()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.refuse_change() TO audit_maintainer;
--@ ["function","audit.refuse_old_snapshot()","","f () void",null]
CREATE OR REPLACE FUNCTION audit.refuse_old_snapshot()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'audit trail: this is done in a transaction that is READ COMMITTED, and in no other'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
END
$function$
;
--@ ["object","audit.refuse_old_snapshot()","function","",null]
--@ ["owner","audit.refuse_old_snapshot()","","",null]
ALTER FUNCTION audit.refuse_old_snapshot() OWNER TO audit_maintainer;
--@ ["privilege","audit.refuse_old_snapshot()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.refuse_old_snapshot() TO audit_maintainer;
--@ ["function","audit.refuse_prepare()","","f () void",null]
CREATE OR REPLACE FUNCTION audit.refuse_prepare()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF current_setting('max_prepared_transactions')::integer > 0 THEN
        PERFORM pg_notify('tracing_audit_partitions', '');
    END IF;
END
$function$
;
--@ ["object","audit.refuse_prepare()","function","",null]
--@ ["owner","audit.refuse_prepare()","","",null]
ALTER FUNCTION audit.refuse_prepare() OWNER TO audit_maintainer;
--@ ["privilege","audit.refuse_prepare()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.refuse_prepare() TO audit_maintainer;
--@ ["function","audit.refuse_snapshot(text,text,text)","","f (target text, there text, seen text) void",null]
CREATE OR REPLACE FUNCTION audit.refuse_snapshot(target text, there text, seen text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF there IS DISTINCT FROM seen THEN
        RAISE EXCEPTION 'audit trail: % was altered or tracked after this transaction began', target USING ERRCODE = 'serialization_failure', HINT = 'Run the transaction again.';
    END IF;
END
$function$
;
--@ ["object","audit.refuse_snapshot(text,text,text)","function","",null]
--@ ["owner","audit.refuse_snapshot(text,text,text)","","",null]
ALTER FUNCTION audit.refuse_snapshot(text,text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.refuse_snapshot(text,text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.refuse_snapshot(text,text,text) TO audit_maintainer;
--@ ["function","audit.relations_of(oid)","","f (target oid) SETOF regclass",null]
CREATE OR REPLACE FUNCTION audit.relations_of(target oid)
 RETURNS SETOF regclass
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH RECURSIVE relations AS (
        SELECT target AS oid UNION SELECT i.inhrelid FROM relations r JOIN pg_inherits i ON i.inhparent = r.oid)
    SELECT c.oid::regclass FROM relations r JOIN pg_class c ON c.oid = r.oid WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
$function$
;
--@ ["object","audit.relations_of(oid)","function","",null]
--@ ["owner","audit.relations_of(oid)","","",null]
ALTER FUNCTION audit.relations_of(oid) OWNER TO audit_maintainer;
--@ ["privilege","audit.relations_of(oid)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.relations_of(oid) TO audit_operator;
--@ ["privilege","audit.relations_of(oid)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.relations_of(oid) TO audit_writer;
--@ ["privilege","audit.relations_of(oid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.relations_of(oid) TO audit_maintainer;
--@ ["column","audit.removals","batch","","ALTER TABLE audit.removals ALTER COLUMN batch TYPE bigint USING batch::bigint;"]
ALTER TABLE audit.removals ADD COLUMN batch bigint;
--@ ["column","audit.removals","first_seq","","ALTER TABLE audit.removals ALTER COLUMN first_seq TYPE bigint USING first_seq::bigint;"]
ALTER TABLE audit.removals ADD COLUMN first_seq bigint;
--@ ["column","audit.removals","from_leaf","","ALTER TABLE audit.removals ALTER COLUMN from_leaf TYPE bigint USING from_leaf::bigint;"]
ALTER TABLE audit.removals ADD COLUMN from_leaf bigint;
--@ ["column","audit.removals","hashes","","ALTER TABLE audit.removals ALTER COLUMN hashes TYPE bytea USING hashes::bytea;"]
ALTER TABLE audit.removals ADD COLUMN hashes bytea;
--@ ["column","audit.removals","last_seq","","ALTER TABLE audit.removals ALTER COLUMN last_seq TYPE bigint USING last_seq::bigint;"]
ALTER TABLE audit.removals ADD COLUMN last_seq bigint;
--@ ["column","audit.removals","parent","","ALTER TABLE audit.removals ALTER COLUMN parent TYPE text USING parent::text;"]
ALTER TABLE audit.removals ADD COLUMN parent text;
--@ ["column","audit.removals","partition","","ALTER TABLE audit.removals ALTER COLUMN partition TYPE text COLLATE pg_catalog.\"C\" USING partition::text;"]
ALTER TABLE audit.removals ADD COLUMN partition text COLLATE pg_catalog."C";
--@ ["column","audit.removals","removed_at","","ALTER TABLE audit.removals ALTER COLUMN removed_at TYPE timestamp with time zone USING removed_at::timestamp with time zone;"]
ALTER TABLE audit.removals ADD COLUMN removed_at timestamp with time zone;
--@ ["column","audit.removals","removed_by","","ALTER TABLE audit.removals ALTER COLUMN removed_by TYPE text USING removed_by::text;"]
ALTER TABLE audit.removals ADD COLUMN removed_by text;
--@ ["column","audit.removals","rows","","ALTER TABLE audit.removals ALTER COLUMN rows TYPE bigint USING rows::bigint;"]
ALTER TABLE audit.removals ADD COLUMN rows bigint;
--@ ["column","audit.removals","sha256","","ALTER TABLE audit.removals ALTER COLUMN sha256 TYPE bytea USING sha256::bytea;"]
ALTER TABLE audit.removals ADD COLUMN sha256 bytea;
--@ ["column","audit.removals","writer_id","","ALTER TABLE audit.removals ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.removals ADD COLUMN writer_id uuid;
--@ ["column default","audit.removals","removed_at","",null]
ALTER TABLE audit.removals ALTER COLUMN removed_at SET DEFAULT clock_timestamp();
--@ ["column not null","audit.removals","first_seq","",null]
ALTER TABLE audit.removals ALTER COLUMN first_seq SET NOT NULL;
--@ ["column not null","audit.removals","last_seq","",null]
ALTER TABLE audit.removals ALTER COLUMN last_seq SET NOT NULL;
--@ ["column not null","audit.removals","parent","",null]
ALTER TABLE audit.removals ALTER COLUMN parent SET NOT NULL;
--@ ["column not null","audit.removals","partition","",null]
ALTER TABLE audit.removals ALTER COLUMN partition SET NOT NULL;
--@ ["column not null","audit.removals","removed_at","",null]
ALTER TABLE audit.removals ALTER COLUMN removed_at SET NOT NULL;
--@ ["column not null","audit.removals","removed_by","",null]
ALTER TABLE audit.removals ALTER COLUMN removed_by SET NOT NULL;
--@ ["column not null","audit.removals","rows","",null]
ALTER TABLE audit.removals ALTER COLUMN rows SET NOT NULL;
--@ ["column not null","audit.removals","sha256","",null]
ALTER TABLE audit.removals ALTER COLUMN sha256 SET NOT NULL;
--@ ["column not null","audit.removals","writer_id","",null]
ALTER TABLE audit.removals ALTER COLUMN writer_id SET NOT NULL;
--@ ["columns","audit.removals","","[[\"partition\", \"text\"], [\"parent\", \"text\"], [\"writer_id\", \"uuid\"], [\"first_seq\", \"bigint\"], [\"last_seq\", \"bigint\"], [\"rows\", \"bigint\"], [\"sha256\", \"bytea\"], [\"batch\", \"bigint\"], [\"from_leaf\", \"bigint\"], [\"hashes\", \"bytea\"], [\"removed_at\", \"timestamp with time zone\"], [\"removed_by\", \"text\"]]",null]
--@ ["constraint","audit.removals","removals_pkey",null,null]
ALTER TABLE audit.removals ADD CONSTRAINT removals_pkey PRIMARY KEY (partition, removed_at, writer_id, first_seq);
--@ ["forced row security","audit.removals","","",null]
ALTER TABLE audit.removals FORCE ROW LEVEL SECURITY;
--@ ["index","audit.removals","audit.removals USING btree (writer_id, batch)","harmless",null]
CREATE INDEX ON audit.removals USING btree (writer_id, batch);
--@ ["logged","audit.removals","","",null]
ALTER TABLE audit.removals SET LOGGED;
--@ ["object","audit.removals","table","",null]
--@ ["owner","audit.removals","","",null]
ALTER TABLE audit.removals OWNER TO audit_owner;
--@ ["policy","audit.removals","adding",null,null]
CREATE POLICY adding ON audit.removals FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.removals","auditor",null,null]
CREATE POLICY auditor ON audit.removals FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.removals","maintainer",null,null]
CREATE POLICY maintainer ON audit.removals FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.removals","operator",null,null]
CREATE POLICY operator ON audit.removals FOR SELECT TO audit_operator USING (true);
--@ ["privilege","audit.removals","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.removals TO audit_auditor;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.removals TO audit_maintainer;
--@ ["privilege","audit.removals","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.removals TO audit_operator;
--@ ["row security","audit.removals","","",null]
ALTER TABLE audit.removals ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.removals","","r ","[\"audit\", \"removals\"]"]
--@ ["trigger","audit.removals","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.removals FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.removals ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.removals FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.removals ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.removals","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.removals FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.removals ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.removals FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.removals ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.remove_archived_partition(text,interval,text,bytea[],bytea)","","f (leaf text, keep interval, place text, manifests bytea[], hashes bytea) uuid",null]
CREATE OR REPLACE FUNCTION audit.remove_archived_partition(leaf text, keep interval, place text, manifests bytea[], hashes bytea)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    PERFORM audit.check_text('the place of an archive', place, 1024);
    IF leaf IS NULL OR keep IS NULL OR manifests IS NULL OR octet_length(hashes) IS DISTINCT FROM 32 THEN
        RAISE EXCEPTION 'audit trail: what was archived of a partition is not said' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM unnest(manifests) m LEFT JOIN audit.archives a ON a.place = remove_archived_partition.place AND a.sha256 = m WHERE a.sha256 IS NULL) THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: a manifest of the archive is none that audit.archives knows', left(leaf, 64) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN audit.take_partition(leaf, keep, jsonb_build_object(
        'place', place, 'hashes', encode(hashes, 'hex'), 'manifests', ARRAY(SELECT encode(m, 'hex') FROM unnest(manifests) WITH ORDINALITY AS u (m, place) ORDER BY u.place)));
END
$function$
;
--@ ["object","audit.remove_archived_partition(text,interval,text,bytea[],bytea)","function","",null]
--@ ["owner","audit.remove_archived_partition(text,interval,text,bytea[],bytea)","","",null]
ALTER FUNCTION audit.remove_archived_partition(text,interval,text,bytea[],bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.remove_archived_partition(text,interval,text,bytea[],bytea)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.remove_archived_partition(text,interval,text,bytea[],bytea) TO audit_operator;
--@ ["privilege","audit.remove_archived_partition(text,interval,text,bytea[],bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.remove_archived_partition(text,interval,text,bytea[],bytea) TO audit_maintainer;
--@ ["function","audit.remove_partition(text,interval)","","f (leaf text, keep interval) uuid",null]
CREATE OR REPLACE FUNCTION audit.remove_partition(leaf text, keep interval)
 RETURNS uuid
 LANGUAGE sql
 STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT audit.take_partition(leaf, keep, NULL)
$function$
;
--@ ["object","audit.remove_partition(text,interval)","function","",null]
--@ ["owner","audit.remove_partition(text,interval)","","",null]
ALTER FUNCTION audit.remove_partition(text,interval) OWNER TO audit_maintainer;
--@ ["privilege","audit.remove_partition(text,interval)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.remove_partition(text,interval) TO audit_operator;
--@ ["privilege","audit.remove_partition(text,interval)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.remove_partition(text,interval) TO audit_maintainer;
--@ ["function","audit.removed_over(text,timestamp with time zone,timestamp with time zone)","","f (parent text, first_time timestamp with time zone, last_time timestamp with time zone) TABLE(from_time timestamp with time zone, to_time timestamp with time zone)",null]
CREATE OR REPLACE FUNCTION audit.removed_over(parent text, first_time timestamp with time zone, last_time timestamp with time zone)
 RETURNS TABLE(from_time timestamp with time zone, to_time timestamp with time zone)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
DECLARE
    name  text := parent || to_char(first_time - interval '62 days', '_YYYY_MM');
    until constant text := parent || to_char(least(last_time, '9999-12-31 00:00+00'), '_YYYY_MM_DD"_to_9"');
BEGIN
    -- By the index, from name to name: there is a row for each batch.
    LOOP
        SELECT r.partition INTO name FROM audit.removals r WHERE r.partition > name AND r.partition <= until ORDER BY r.partition LIMIT 1;
        EXIT WHEN NOT FOUND;
        RETURN QUERY SELECT s.from_time, s.to_time FROM audit.leaf_span(parent, name) s WHERE s.to_time > first_time AND s.from_time <= last_time;
    END LOOP;
END
$function$
;
--@ ["object","audit.removed_over(text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.removed_over(text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.removed_over(text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.removed_over(text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.removed_over(text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["object","audit.request_logs","view","",null]
--@ ["owner","audit.request_logs","","",null]
ALTER VIEW audit.request_logs OWNER TO audit_owner;
--@ ["privilege","audit.request_logs","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.request_logs TO audit_auditor;
--@ ["privilege","audit.request_logs","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.request_logs TO audit_reader;
--@ ["privilege","audit.request_logs","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.request_logs TO audit_owner;
--@ ["privilege","audit.request_logs","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.request_logs TO audit_owner;
--@ ["privilege","audit.request_logs","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.request_logs TO audit_owner;
--@ ["privilege","audit.request_logs","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.request_logs TO audit_owner;
--@ ["privilege","audit.request_logs","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.request_logs TO audit_owner;
--@ ["privilege","audit.request_logs","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.request_logs TO audit_owner;
--@ ["privilege","audit.request_logs","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.request_logs TO audit_owner;
--@ ["view","audit.request_logs","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"method\", \"text\"], [\"path\", \"text\"], [\"route\", \"text\"], [\"status_code\", \"bigint\"], [\"grpc_status_code\", \"bigint\"], [\"client_address\", \"text\"], [\"user_agent\", \"text\"], [\"request_body\", \"text\"], [\"response_body\", \"text\"], [\"execution_id\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.request_logs WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'http.request.method'::text) AS method,
    COALESCE((events.metadata ->> 'url.path'::text), (events.metadata ->> 'url'::text)) AS path,
    COALESCE((events.metadata ->> 'http.route'::text), events.target_id) AS route,
    audit.integer_of((events.metadata -> 'http.response.status_code'::text)) AS status_code,
    audit.integer_of((events.metadata -> 'rpc.grpc.status_code'::text)) AS grpc_status_code,
    (events.metadata ->> 'client.address'::text) AS client_address,
    (events.metadata ->> 'user_agent.original'::text) AS user_agent,
    (events.metadata ->> 'http.request.body'::text) AS request_body,
    (events.metadata ->> 'http.response.body'::text) AS response_body,
    (events.metadata ->> 'execution_id'::text) AS execution_id,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'http_request'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'http.request.method'::text) AS method,
    COALESCE((activities.metadata ->> 'url.path'::text), (activities.metadata ->> 'url'::text)) AS path,
    COALESCE((activities.metadata ->> 'http.route'::text), activities.target_id) AS route,
    audit.integer_of((activities.metadata -> 'http.response.status_code'::text)) AS status_code,
    audit.integer_of((activities.metadata -> 'rpc.grpc.status_code'::text)) AS grpc_status_code,
    (activities.metadata ->> 'client.address'::text) AS client_address,
    (activities.metadata ->> 'user_agent.original'::text) AS user_agent,
    (activities.metadata ->> 'http.request.body'::text) AS request_body,
    (activities.metadata ->> 'http.response.body'::text) AS response_body,
    (activities.metadata ->> 'execution_id'::text) AS execution_id,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'http_request'::text);
--@ ["function","audit.request_story(text,timestamp with time zone,timestamp with time zone)","","f (request_id text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) TABLE(place bigint, depth integer, kind text, what text, target_type text, target_id text, user_id text, learned_user_id text, status audit.run_status, error_code text, error_message text, began_at timestamp with time zone, duration_ms bigint, id uuid, parent_id uuid, tenant_id uuid, metadata jsonb)",null]
CREATE OR REPLACE FUNCTION audit.request_story(request_id text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS TABLE(place bigint, depth integer, kind text, what text, target_type text, target_id text, user_id text, learned_user_id text, status audit.run_status, error_code text, error_message text, began_at timestamp with time zone, duration_ms bigint, id uuid, parent_id uuid, tenant_id uuid, metadata jsonb)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
 SET max_parallel_workers_per_gather TO '0'
 SET enable_nestloop TO 'off'
AS $function$
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
$function$
;
--@ ["object","audit.request_story(text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.request_story(text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.request_story(text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.request_story(text,timestamp with time zone,timestamp with time zone)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.request_story(text,timestamp with time zone,timestamp with time zone) TO audit_auditor;
--@ ["privilege","audit.request_story(text,timestamp with time zone,timestamp with time zone)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.request_story(text,timestamp with time zone,timestamp with time zone) TO audit_reader;
--@ ["privilege","audit.request_story(text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.request_story(text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.request_trail(text,timestamp with time zone,timestamp with time zone)","","f (request text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) TABLE(kind text, id uuid, tenant_id uuid, user_id text, user_role text, agent_id uuid, request_id text, llm_session_id uuid, conversation_id text, parent_id uuid, trace_id text, span_id text, service_name text, began_at timestamp with time zone, duration_ms bigint, what text, target_type text, target_id text, status audit.run_status, error_code text, error_message text, metadata jsonb, redactions text[], writer_id uuid, seq bigint, learned_user_id text)",null]
CREATE OR REPLACE FUNCTION audit.request_trail(request text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS TABLE(kind text, id uuid, tenant_id uuid, user_id text, user_role text, agent_id uuid, request_id text, llm_session_id uuid, conversation_id text, parent_id uuid, trace_id text, span_id text, service_name text, began_at timestamp with time zone, duration_ms bigint, what text, target_type text, target_id text, status audit.run_status, error_code text, error_message text, metadata jsonb, redactions text[], writer_id uuid, seq bigint, learned_user_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
 SET max_parallel_workers_per_gather TO '0'
 SET enable_nestloop TO 'off'
AS $function$
BEGIN
    RETURN QUERY EXECUTE format($query$
    WITH RECURSIVE records AS MATERIALIZED (
        SELECT * FROM audit.trail WHERE trail.request_id = $1 AND ($2 IS NULL OR trail.began_at >= $2) AND ($3 IS NULL OR trail.began_at < $3)%s
    ), nodes AS MATERIALIZED (
        -- Of rows that have one id, of which all but one are forged, one has a parent: so there is one way to each record. Without
        -- texts: each step below goes through all of them, which are to stay in memory.
        SELECT DISTINCT ON (id) id, parent_id, user_id IS NOT NULL AS has_user FROM records ORDER BY id, parent_id IS NOT NULL, began_at, seq
    ), within (id, outermost, has_user, depth) AS (
        SELECT n.id, n.id, n.has_user, 0 FROM nodes n WHERE NOT EXISTS (SELECT 1 FROM nodes p WHERE p.id = n.parent_id)
        UNION ALL
        SELECT n.id, w.outermost, n.has_user OR w.has_user, w.depth + 1 FROM within w JOIN nodes n ON n.parent_id = w.id WHERE w.depth < 200
    ), learned (id, user_id) AS (
        SELECT w.id, min(of_one_user.user_id) FROM within w JOIN (
            SELECT w.outermost, min(r.user_id) AS user_id FROM within w JOIN records r ON r.id = w.id
            GROUP BY w.outermost
            HAVING count(DISTINCT r.user_id) = 1 AND count(DISTINCT r.tenant_id) <= 1
        ) AS of_one_user ON of_one_user.outermost = w.outermost
        WHERE w.has_user
        GROUP BY w.id
    )
    SELECT r.*, CASE WHEN r.user_id IS NULL THEN l.user_id END
    FROM records r LEFT JOIN learned l ON l.id = r.id
    ORDER BY r.began_at, r.seq, r.id
    $query$, concat(' AND trail.id >= ' || quote_literal(audit.id_at(from_time)),
        -- An id has milliseconds.
        ' AND trail.id < ' || quote_literal(audit.id_at(date_trunc('milliseconds', to_time + interval '999 microseconds'))))) USING $1, $2, $3;
END
$function$
;
--@ ["object","audit.request_trail(text,timestamp with time zone,timestamp with time zone)","function","",null]
--@ ["owner","audit.request_trail(text,timestamp with time zone,timestamp with time zone)","","",null]
ALTER FUNCTION audit.request_trail(text,timestamp with time zone,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.request_trail(text,timestamp with time zone,timestamp with time zone)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.request_trail(text,timestamp with time zone,timestamp with time zone) TO audit_auditor;
--@ ["privilege","audit.request_trail(text,timestamp with time zone,timestamp with time zone)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.request_trail(text,timestamp with time zone,timestamp with time zone) TO audit_reader;
--@ ["privilege","audit.request_trail(text,timestamp with time zone,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.request_trail(text,timestamp with time zone,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.row_after(jsonb,text,jsonb)","","f (before jsonb, operation text, changes jsonb) jsonb",null]
CREATE OR REPLACE FUNCTION audit.row_after(before jsonb, operation text, changes jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
        WHEN operation = 'truncate' THEN '{"is_there": false, "row": {}}'
        WHEN before -> 'is_there' = to_jsonb(operation = 'insert') THEN NULL
        WHEN EXISTS (SELECT FROM jsonb_each(changes) f WHERE f.value ? 'old' AND before -> 'row' -> f.key <> f.value -> 'old') THEN NULL
        WHEN operation = 'delete' THEN '{"is_there": false, "row": {}}'
        ELSE jsonb_build_object('is_there', true, 'row', CASE operation WHEN 'update' THEN coalesce(before -> 'row', '{}') ELSE '{}' END
            || (SELECT coalesce(jsonb_object_agg(f.key, f.value -> 'new') FILTER (WHERE f.value ? 'new'), '{}') FROM jsonb_each(changes) f)) END
$function$
;
--@ ["object","audit.row_after(jsonb,text,jsonb)","function","",null]
--@ ["owner","audit.row_after(jsonb,text,jsonb)","","",null]
ALTER FUNCTION audit.row_after(jsonb,text,jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.row_after(jsonb,text,jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_after(jsonb,text,jsonb) TO audit_auditor;
--@ ["privilege","audit.row_after(jsonb,text,jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_after(jsonb,text,jsonb) TO audit_reader;
--@ ["privilege","audit.row_after(jsonb,text,jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_after(jsonb,text,jsonb) TO audit_maintainer;
--@ ["function","audit.row_at(text,text,timestamp with time zone)","","f (table_name text, key text, at timestamp with time zone) jsonb",null]
CREATE OR REPLACE FUNCTION audit.row_at(table_name text, key text, at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    e        record;
    -- Its values then, as far as they are known.
    known    jsonb := '{}';
    is_there boolean;
BEGIN
    FOR e IN SELECT h.changed_at, h.operation, CASE jsonb_typeof(h.changes) WHEN 'object' THEN h.changes ELSE '{}' END AS changes
        FROM audit.row_history(table_name, key) WITH ORDINALITY AS h (number, changed_at, operation, changes, user_id, request_id, login, event_id, place) ORDER BY place
    LOOP
        IF e.changed_at <= at THEN
            is_there := e.operation IN ('insert', 'update');
            known := CASE e.operation WHEN 'update' THEN known ELSE '{}' END
                || (SELECT coalesce(jsonb_object_agg(f.key, coalesce(f.value -> 'new', f.value)), '{}') FROM jsonb_each(e.changes) f WHERE is_there);
        ELSE
            EXIT WHEN e.operation = 'truncate';
            -- What changed later was before that what it was changed from.
            is_there := coalesce(is_there, e.operation <> 'insert');
            EXIT WHEN NOT is_there;
            known := (SELECT coalesce(jsonb_object_agg(f.key, coalesce(f.value -> 'old', f.value)), '{}') FROM jsonb_each(e.changes) f WHERE e.operation <> 'insert') || known;
            EXIT WHEN e.operation <> 'update';
        END IF;
    END LOOP;
    RETURN CASE WHEN is_there THEN known END;
END
$function$
;
--@ ["object","audit.row_at(text,text,timestamp with time zone)","function","",null]
--@ ["owner","audit.row_at(text,text,timestamp with time zone)","","",null]
ALTER FUNCTION audit.row_at(text,text,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.row_at(text,text,timestamp with time zone)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_at(text,text,timestamp with time zone) TO audit_auditor;
--@ ["privilege","audit.row_at(text,text,timestamp with time zone)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_at(text,text,timestamp with time zone) TO audit_reader;
--@ ["privilege","audit.row_at(text,text,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_at(text,text,timestamp with time zone) TO audit_maintainer;
--@ ["function","audit.row_history(text,text)","","f (table_name text, key text) TABLE(number bigint, changed_at timestamp with time zone, operation text, changes jsonb, user_id text, request_id text, login text, event_id uuid)",null]
CREATE OR REPLACE FUNCTION audit.row_history(table_name text, key text)
 RETURNS TABLE(number bigint, changed_at timestamp with time zone, operation text, changes jsonb, user_id text, request_id text, login text, event_id uuid)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
AS $function$
    WITH events AS MATERIALIZED (
        SELECT row_number() OVER (ORDER BY audit.integer_of(e.metadata -> 'number'), e.seq) AS n, audit.integer_of(e.metadata -> 'number') AS number, e.created_at,
            e.metadata ->> 'operation' AS operation, CASE jsonb_typeof(e.metadata -> 'changes') WHEN 'object' THEN e.metadata -> 'changes' ELSE '{}' END AS changes,
            e.user_id, e.request_id, e.metadata ->> 'login' AS login, e.id, e.metadata ->> 'transaction' AS transaction, coalesce(audit.integer_of(e.metadata -> 'depth'), 1) AS depth
        FROM audit.events e
        WHERE e.target_type = $1 AND coalesce(octet_length(e.target_id), 0) <= 1100 AND e.metadata ? 'changes'
            AND (e.target_id = $2 OR e.target_id IS NULL AND e.metadata ->> 'operation' = 'truncate' AND NOT e.metadata ? 'partition')
    ), ordered AS MATERIALIZED (
        SELECT p.n, p.place FROM (
            SELECT audit.order_changes(array_agg(operation ORDER BY n), array_agg(audit.digests_of(changes) ORDER BY n), array_agg(transaction ORDER BY n), array_agg(depth ORDER BY n)) AS places
            FROM events WHERE EXISTS (SELECT FROM events d WHERE d.depth > 1) HAVING count(*) > 0) AS o, unnest(o.places) WITH ORDINALITY AS p (n, place)
    )
    SELECT e.number, e.created_at, e.operation, e.changes, e.user_id, e.request_id, e.login, e.id
    FROM events e LEFT JOIN ordered USING (n) ORDER BY coalesce(ordered.place, n)
$function$
;
--@ ["object","audit.row_history(text,text)","function","",null]
--@ ["owner","audit.row_history(text,text)","","",null]
ALTER FUNCTION audit.row_history(text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.row_history(text,text)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_history(text,text) TO audit_auditor;
--@ ["privilege","audit.row_history(text,text)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_history(text,text) TO audit_reader;
--@ ["privilege","audit.row_history(text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_history(text,text) TO audit_maintainer;
--@ ["function","audit.row_sha256(anyelement)","","f (r anyelement) bytea",null]
CREATE OR REPLACE FUNCTION audit.row_sha256(r anyelement)
 RETURNS bytea
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET bytea_output TO 'hex'
 SET "IntervalStyle" TO 'postgres'
AS $function$
    SELECT sha256(convert_to(to_jsonb(r)::text, 'UTF8'))
$function$
;
--@ ["object","audit.row_sha256(anyelement)","function","",null]
--@ ["owner","audit.row_sha256(anyelement)","","",null]
ALTER FUNCTION audit.row_sha256(anyelement) OWNER TO audit_maintainer;
--@ ["privilege","audit.row_sha256(anyelement)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.row_sha256(anyelement) TO audit_maintainer;
--@ ["labels","audit.run_status","","[\"succeeded\", \"failed\", \"cancelled\", \"rejected\", \"unknown\"]",null]
--@ ["object","audit.run_status","type","",null]
--@ ["owner","audit.run_status","","",null]
ALTER TYPE audit.run_status OWNER TO audit_owner;
--@ ["privilege","audit.run_status","[\"PUBLIC\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON TYPE audit.run_status TO PUBLIC;
--@ ["privilege","audit.run_status","[null, \"USAGE\", \"\"]","",null]
GRANT USAGE ON TYPE audit.run_status TO audit_owner;
--@ ["function","audit.run_with_short_waits(text,integer)","","f (statement text, attempts integer DEFAULT 8) void",null]
CREATE OR REPLACE FUNCTION audit.run_with_short_waits(statement text, attempts integer DEFAULT 8)
 RETURNS void
 LANGUAGE plpgsql
 STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '400ms'
AS $function$
BEGIN
    PERFORM audit.refuse_prepare();
    FOR attempt IN 1 .. attempts LOOP
        BEGIN
            EXECUTE statement;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF attempt = attempts THEN
                RAISE EXCEPTION 'audit trail: a transaction that is still open holds a lock that this needs; it was tried % times', attempts
                    USING ERRCODE = 'lock_not_available', HINT = 'pg_locks and pg_stat_activity say which. Try again when it has ended.';
            END IF;
        END;
        PERFORM pg_sleep(0.6);
    END LOOP;
END
$function$
;
--@ ["object","audit.run_with_short_waits(text,integer)","function","",null]
--@ ["owner","audit.run_with_short_waits(text,integer)","","",null]
ALTER FUNCTION audit.run_with_short_waits(text,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.run_with_short_waits(text,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.run_with_short_waits(text,integer) TO audit_maintainer;
--@ ["column","audit.schema_migrations","checksum","","ALTER TABLE audit.schema_migrations ALTER COLUMN checksum TYPE bytea USING checksum::bytea;"]
ALTER TABLE audit.schema_migrations ADD COLUMN checksum bytea;
--@ ["column","audit.schema_migrations","description","","ALTER TABLE audit.schema_migrations ALTER COLUMN description TYPE text USING description::text;"]
ALTER TABLE audit.schema_migrations ADD COLUMN description text;
--@ ["column","audit.schema_migrations","execution_time","","ALTER TABLE audit.schema_migrations ALTER COLUMN execution_time TYPE bigint USING execution_time::bigint;"]
ALTER TABLE audit.schema_migrations ADD COLUMN execution_time bigint;
--@ ["column","audit.schema_migrations","installed_on","","ALTER TABLE audit.schema_migrations ALTER COLUMN installed_on TYPE timestamp with time zone USING installed_on::timestamp with time zone;"]
ALTER TABLE audit.schema_migrations ADD COLUMN installed_on timestamp with time zone;
--@ ["column","audit.schema_migrations","success","","ALTER TABLE audit.schema_migrations ALTER COLUMN success TYPE boolean USING success::boolean;"]
ALTER TABLE audit.schema_migrations ADD COLUMN success boolean;
--@ ["column","audit.schema_migrations","version","","ALTER TABLE audit.schema_migrations ALTER COLUMN version TYPE bigint USING version::bigint;"]
ALTER TABLE audit.schema_migrations ADD COLUMN version bigint;
--@ ["column default","audit.schema_migrations","installed_on","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN installed_on SET DEFAULT now();
--@ ["column not null","audit.schema_migrations","checksum","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN checksum SET NOT NULL;
--@ ["column not null","audit.schema_migrations","description","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN description SET NOT NULL;
--@ ["column not null","audit.schema_migrations","execution_time","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN execution_time SET NOT NULL;
--@ ["column not null","audit.schema_migrations","installed_on","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN installed_on SET NOT NULL;
--@ ["column not null","audit.schema_migrations","success","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN success SET NOT NULL;
--@ ["column not null","audit.schema_migrations","version","",null]
ALTER TABLE audit.schema_migrations ALTER COLUMN version SET NOT NULL;
--@ ["columns","audit.schema_migrations","","[[\"version\", \"bigint\"], [\"description\", \"text\"], [\"installed_on\", \"timestamp with time zone\"], [\"success\", \"boolean\"], [\"checksum\", \"bytea\"], [\"execution_time\", \"bigint\"]]",null]
--@ ["constraint","audit.schema_migrations","schema_migrations_pkey",null,null]
ALTER TABLE audit.schema_migrations ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);
--@ ["forced row security","audit.schema_migrations","","",null]
ALTER TABLE audit.schema_migrations NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.schema_migrations","","",null]
ALTER TABLE audit.schema_migrations SET LOGGED;
--@ ["object","audit.schema_migrations","table","",null]
--@ ["owner","audit.schema_migrations","","",null]
ALTER TABLE audit.schema_migrations OWNER TO audit_owner;
--@ ["privilege","audit.schema_migrations","[\"audit_auditor\", \"SELECT\", \" (description)\"]","",null]
GRANT SELECT (description) ON TABLE audit.schema_migrations TO audit_auditor;
--@ ["privilege","audit.schema_migrations","[\"audit_auditor\", \"SELECT\", \" (success)\"]","",null]
GRANT SELECT (success) ON TABLE audit.schema_migrations TO audit_auditor;
--@ ["privilege","audit.schema_migrations","[\"audit_auditor\", \"SELECT\", \" (version)\"]","",null]
GRANT SELECT (version) ON TABLE audit.schema_migrations TO audit_auditor;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"SELECT\", \" (description)\"]","",null]
GRANT SELECT (description) ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"SELECT\", \" (success)\"]","",null]
GRANT SELECT (success) ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"SELECT\", \" (version)\"]","",null]
GRANT SELECT (version) ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.schema_migrations TO audit_maintainer;
--@ ["privilege","audit.schema_migrations","[\"audit_operator\", \"SELECT\", \" (description)\"]","",null]
GRANT SELECT (description) ON TABLE audit.schema_migrations TO audit_operator;
--@ ["privilege","audit.schema_migrations","[\"audit_operator\", \"SELECT\", \" (success)\"]","",null]
GRANT SELECT (success) ON TABLE audit.schema_migrations TO audit_operator;
--@ ["privilege","audit.schema_migrations","[\"audit_operator\", \"SELECT\", \" (version)\"]","",null]
GRANT SELECT (version) ON TABLE audit.schema_migrations TO audit_operator;
--@ ["privilege","audit.schema_migrations","[\"audit_reader\", \"SELECT\", \" (description)\"]","",null]
GRANT SELECT (description) ON TABLE audit.schema_migrations TO audit_reader;
--@ ["privilege","audit.schema_migrations","[\"audit_reader\", \"SELECT\", \" (success)\"]","",null]
GRANT SELECT (success) ON TABLE audit.schema_migrations TO audit_reader;
--@ ["privilege","audit.schema_migrations","[\"audit_reader\", \"SELECT\", \" (version)\"]","",null]
GRANT SELECT (version) ON TABLE audit.schema_migrations TO audit_reader;
--@ ["privilege","audit.schema_migrations","[\"audit_sealer\", \"SELECT\", \" (description)\"]","",null]
GRANT SELECT (description) ON TABLE audit.schema_migrations TO audit_sealer;
--@ ["privilege","audit.schema_migrations","[\"audit_sealer\", \"SELECT\", \" (success)\"]","",null]
GRANT SELECT (success) ON TABLE audit.schema_migrations TO audit_sealer;
--@ ["privilege","audit.schema_migrations","[\"audit_sealer\", \"SELECT\", \" (version)\"]","",null]
GRANT SELECT (version) ON TABLE audit.schema_migrations TO audit_sealer;
--@ ["privilege","audit.schema_migrations","[\"audit_writer\", \"SELECT\", \" (description)\"]","",null]
GRANT SELECT (description) ON TABLE audit.schema_migrations TO audit_writer;
--@ ["privilege","audit.schema_migrations","[\"audit_writer\", \"SELECT\", \" (success)\"]","",null]
GRANT SELECT (success) ON TABLE audit.schema_migrations TO audit_writer;
--@ ["privilege","audit.schema_migrations","[\"audit_writer\", \"SELECT\", \" (version)\"]","",null]
GRANT SELECT (version) ON TABLE audit.schema_migrations TO audit_writer;
--@ ["row security","audit.schema_migrations","","",null]
ALTER TABLE audit.schema_migrations DISABLE ROW LEVEL SECURITY;
--@ ["table","audit.schema_migrations","","r ","[\"audit\", \"schema_migrations\"]"]
--@ ["function","audit.seal(xid8,integer)","","f (since xid8 DEFAULT '0'::xid8, most integer DEFAULT 2000, OUT size bigint, OUT sealed bigint, OUT next xid8) record",null]
CREATE OR REPLACE FUNCTION audit.seal(since xid8 DEFAULT '0'::xid8, most integer DEFAULT 2000, OUT size bigint, OUT sealed bigint, OUT next xid8)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    newest   xid8;
    writers  uuid[];
    firsts   bigint[];
    found_to xid8;
    hashed   record;
    roots    bytea[];
    prints   bytea[];
    root     bytea;
    is_computed boolean;
    prior    bytea;
    bytes    bigint := 0;
    height   integer := 1;
    old_size bigint;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF since IS NULL OR most IS NULL OR most NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION 'audit trail: from 1 to 100000 batches are sealed at once, since a transaction' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- What is published must be there after a crash.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- One at a time. Nobody else has a right to lock it; and where one is idle in its transaction, the others do not hang.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.ledger IN SHARE ROW EXCLUSIVE MODE');
    size := coalesce((SELECT max(l.index) + 1 FROM audit.ledger l), 0);
    old_size := size;
    -- What commits later has a number from here on.
    SELECT pg_snapshot_xmin(s), pg_snapshot_xmax(s) INTO next, newest FROM pg_current_snapshot() s;
    -- A number of another server, from which the caller's connection was led to this one.
    IF since > newest THEN
        since := '0';
    END IF;
    -- In a restored database, batches have numbers of the server that it comes from; a look at all of them finds them. With each
    -- batch those of its writer before it, whatever transactions they are of.
    WITH found AS MATERIALIZED (
        SELECT b.writer_id, b.first_seq, b.added_by FROM audit.batches b
        WHERE b.added_by >= since AND (since = '0' OR b.added_by < newest)
            AND NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq)
        ORDER BY b.added_by LIMIT most
    ), before AS (
        SELECT b.writer_id, b.first_seq, b.added_by FROM (SELECT f.writer_id, max(f.first_seq) AS first_seq FROM found f WHERE f.first_seq > 1 GROUP BY 1) f
        JOIN audit.batches b ON b.writer_id = f.writer_id AND b.first_seq < f.first_seq
            AND b.first_seq > coalesce((SELECT max(l.first_seq) FROM audit.ledger l WHERE l.writer_id = f.writer_id), 0)
    ), ordered AS (
        SELECT u.*, row_number() OVER (ORDER BY u.latest, u.writer_id, u.first_seq) AS number
        FROM (SELECT a.*, max(a.added_by::text::numeric) OVER (PARTITION BY a.writer_id ORDER BY a.first_seq) AS latest FROM (TABLE found UNION TABLE before) a) u
    )
    SELECT array_agg(o.writer_id ORDER BY o.number), array_agg(o.first_seq ORDER BY o.number), (SELECT max(f.added_by::text::numeric)::text::xid8 FROM found f HAVING count(*) = most)
        INTO writers, firsts, found_to FROM ordered o;
    sealed := coalesce(cardinality(writers), 0);
    next := least(next, found_to);
    -- Places by the order in which the batches are sealed.
    roots := array_fill(NULL::bytea, ARRAY[greatest(sealed, 1)::integer]);
    prints := roots;
    FOR hashed IN
        SELECT k.place, h.root, h.fingerprints FROM (
            SELECT array_agg(k.writer_id) AS of_writers, array_agg(k.first_seq) AS of_firsts
            FROM unnest(writers, firsts) k (writer_id, first_seq) JOIN audit.batches b ON b.writer_id = k.writer_id AND b.first_seq = k.first_seq AND b.root IS NULL
            -- Those that Postgres has made itself. What a program says of a batch could let this read the whole trail for each.
            WHERE NOT EXISTS (SELECT FROM audit.writers r WHERE r.writer_id = b.writer_id)) w,
            audit.hash_batches(w.of_writers, w.of_firsts) h
            JOIN unnest(writers, firsts) WITH ORDINALITY AS k (writer_id, first_seq, place) ON k.writer_id = h.writer_id AND k.first_seq = h.first_seq
        WHERE w.of_writers IS NOT NULL
    LOOP
        roots[hashed.place] := hashed.root;
        -- They prove nothing; and an array has no room for those of some hundred million rows.
        bytes := bytes + coalesce(octet_length(hashed.fingerprints), 0);
        IF bytes <= 500000000 THEN
            prints[hashed.place] := hashed.fingerprints;
        END IF;
    END LOOP;
    FOR place IN 1 .. sealed LOOP
        SELECT b.root, b.root IS NULL INTO root, is_computed FROM audit.batches b WHERE b.writer_id = writers[place] AND b.first_seq = firsts[place];
        root := coalesce(root, roots[place]);
        prior := NULL;
        IF firsts[place] > 1 THEN
            SELECT l.entry_hash INTO prior FROM audit.ledger l WHERE l.writer_id = writers[place] AND l.first_seq < firsts[place] ORDER BY l.first_seq DESC LIMIT 1;
        END IF;
        INSERT INTO audit.ledger (index, writer_id, first_seq, root, previous, fingerprints, entry_hash)
            VALUES (size, writers[place], firsts[place], root, prior, CASE WHEN is_computed THEN prints[place] END,
                sha256('\x00'::bytea || audit.ledger_entry(writers[place], firsts[place], root, prior)));
        size := size + 1;
    END LOOP;
    WHILE size >> (8 * height) > 0 LOOP
        IF height = 1 THEN
            INSERT INTO audit.ledger_nodes (level, index, hash)
                SELECT 1, l.index >> 8, audit.tree_root(string_agg(l.entry_hash, '' ORDER BY l.index)) FROM audit.ledger l
                WHERE l.index >= (old_size >> 8) << 8 AND l.index < (size >> 8) << 8 GROUP BY 2;
        ELSE
            INSERT INTO audit.ledger_nodes (level, index, hash)
                SELECT height, n.index >> 8, audit.tree_root(string_agg(n.hash, '' ORDER BY n.index)) FROM audit.ledger_nodes n
                WHERE n.level = height - 1 AND n.index >= (old_size >> (8 * height)) << 8 AND n.index < (size >> (8 * height)) << 8 GROUP BY 2;
        END IF;
        height := height + 1;
    END LOOP;
    -- Those of another server are found by a look at all, and by no other: until there are none, it is the next one as well.
    IF since = '0' AND found_to IS NOT NULL AND EXISTS (
        SELECT FROM audit.batches b WHERE b.added_by >= pg_snapshot_xmax(pg_current_snapshot())
            AND NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq))
    THEN
        next := '0';
    END IF;
END
$function$
;
--@ ["object","audit.seal(xid8,integer)","function","",null]
--@ ["owner","audit.seal(xid8,integer)","","",null]
ALTER FUNCTION audit.seal(xid8,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.seal(xid8,integer)","[\"audit_sealer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.seal(xid8,integer) TO audit_sealer;
--@ ["privilege","audit.seal(xid8,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.seal(xid8,integer) TO audit_maintainer;
--@ ["object","audit.security_events","view","",null]
--@ ["owner","audit.security_events","","",null]
ALTER VIEW audit.security_events OWNER TO audit_owner;
--@ ["privilege","audit.security_events","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.security_events TO audit_auditor;
--@ ["privilege","audit.security_events","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.security_events TO audit_reader;
--@ ["privilege","audit.security_events","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.security_events TO audit_owner;
--@ ["privilege","audit.security_events","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.security_events TO audit_owner;
--@ ["privilege","audit.security_events","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.security_events TO audit_owner;
--@ ["privilege","audit.security_events","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.security_events TO audit_owner;
--@ ["privilege","audit.security_events","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.security_events TO audit_owner;
--@ ["privilege","audit.security_events","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.security_events TO audit_owner;
--@ ["privilege","audit.security_events","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.security_events TO audit_owner;
--@ ["view","audit.security_events","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"event\", \"text\"], [\"source\", \"text\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.security_events WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'event'::text) AS event,
    COALESCE((events.metadata ->> 'source'::text), (events.metadata ->> 'client.address'::text)) AS source,
    events.input_summary,
    events.output_summary,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'security'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'event'::text) AS event,
    COALESCE((activities.metadata ->> 'source'::text), (activities.metadata ->> 'client.address'::text)) AS source,
    activities.input_summary,
    activities.output_summary,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'security'::text);
--@ ["function","audit.set_context(jsonb)","","f (context jsonb) void",null]
CREATE OR REPLACE FUNCTION audit.set_context(context jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    known constant jsonb := '{"user_id": "user_id", "user_role": "user_role", "tenant_id": "current_tenant", "current_tenant": "current_tenant", "agent_id": "agent_id",
        "request_id": "request_id", "llm_session_id": "llm_session_id", "conversation_id": "conversation_id", "parent_id": "parent_id", "trace_id": "trace_id", "span_id": "span_id"}';
    name  text;
    value text;
BEGIN
    IF jsonb_typeof(context) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'audit trail: the context is an object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR name, value IN SELECT * FROM jsonb_each_text(context) LOOP
        IF NOT known ? name THEN
            RAISE EXCEPTION 'audit trail: % is nothing that a context has', quote_ident(left(name, 64)) USING ERRCODE = 'invalid_parameter_value',
                HINT = 'It has user_id, user_role, tenant_id, agent_id, request_id, llm_session_id, conversation_id, parent_id, trace_id and span_id.';
        END IF;
        PERFORM set_config('app.' || (known ->> name), coalesce(value, ''), true);
    END LOOP;
END
$function$
;
--@ ["object","audit.set_context(jsonb)","function","",null]
--@ ["owner","audit.set_context(jsonb)","","",null]
ALTER FUNCTION audit.set_context(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.set_context(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_context(jsonb) TO audit_auditor;
--@ ["privilege","audit.set_context(jsonb)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_context(jsonb) TO audit_operator;
--@ ["privilege","audit.set_context(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_context(jsonb) TO audit_reader;
--@ ["privilege","audit.set_context(jsonb)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_context(jsonb) TO audit_writer;
--@ ["privilege","audit.set_context(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_context(jsonb) TO audit_maintainer;
--@ ["function","audit.set_least_age(interval,text)","","f (age interval, reason text) uuid",null]
CREATE OR REPLACE FUNCTION audit.set_least_age(age interval, reason text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    before interval;
    hashed bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    PERFORM audit.check_text('the reason of a change', reason, 4096);
    -- One change after the other, each with what was so before it.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.settings IN SHARE ROW EXCLUSIVE MODE');
    before := audit.least_age();
    BEGIN
        INSERT INTO audit.settings AS s (least_age, reason, changed_by) VALUES (age, reason, session_user) RETURNING audit.row_sha256(s) INTO hashed;
    EXCEPTION WHEN check_violation OR not_null_violation THEN
        RAISE EXCEPTION 'audit trail: the least age is a span from a day to a thousand years, no part of which is negative'
            USING ERRCODE = 'invalid_parameter_value';
    END;
    RETURN audit.append_event('audit.setting_changed', 'setting', 'least_age', reason, NULL, NULL,
        jsonb_build_object('before', before, 'after', age, 'sha256', encode(hashed, 'hex')));
END
$function$
;
--@ ["object","audit.set_least_age(interval,text)","function","",null]
--@ ["owner","audit.set_least_age(interval,text)","","",null]
ALTER FUNCTION audit.set_least_age(interval,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.set_least_age(interval,text)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_least_age(interval,text) TO audit_auditor;
--@ ["privilege","audit.set_least_age(interval,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_least_age(interval,text) TO audit_maintainer;
--@ ["function","audit.set_partition_interval(text,text,text)","","f (parent text, every text, reason text) uuid",null]
CREATE OR REPLACE FUNCTION audit.set_partition_interval(parent text, every text, reason text)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    before text;
    hashed bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    PERFORM audit.check_text('the reason of a change', reason, 4096);
    IF audit.time_column(parent) IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', left(parent, 64) USING ERRCODE = 'undefined_table';
    END IF;
    IF (every IN ('month', 'week', 'day')) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit trail: a partition is of a month, a week or a day' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- One change after the other, each with what was so before it.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.settings IN SHARE ROW EXCLUSIVE MODE');
    before := audit.partition_interval(parent);
    INSERT INTO audit.settings AS s (partition_interval, of_table, reason, changed_by) VALUES (every, parent, reason, session_user) RETURNING audit.row_sha256(s) INTO hashed;
    RETURN audit.append_event('audit.setting_changed', 'setting', 'partition_interval', reason, NULL, NULL,
        jsonb_build_object('table', parent, 'before', before, 'after', every, 'sha256', encode(hashed, 'hex')));
END
$function$
;
--@ ["object","audit.set_partition_interval(text,text,text)","function","",null]
--@ ["owner","audit.set_partition_interval(text,text,text)","","",null]
ALTER FUNCTION audit.set_partition_interval(text,text,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.set_partition_interval(text,text,text)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_partition_interval(text,text,text) TO audit_operator;
--@ ["privilege","audit.set_partition_interval(text,text,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.set_partition_interval(text,text,text) TO audit_maintainer;
--@ ["column","audit.settings","changed_at","","ALTER TABLE audit.settings ALTER COLUMN changed_at TYPE timestamp with time zone USING changed_at::timestamp with time zone;"]
ALTER TABLE audit.settings ADD COLUMN changed_at timestamp with time zone;
--@ ["column","audit.settings","changed_by","","ALTER TABLE audit.settings ALTER COLUMN changed_by TYPE text USING changed_by::text;"]
ALTER TABLE audit.settings ADD COLUMN changed_by text;
--@ ["column","audit.settings","id","","ALTER TABLE audit.settings ALTER COLUMN id TYPE bigint USING id::bigint;"]
ALTER TABLE audit.settings ADD COLUMN id bigint;
--@ ["column","audit.settings","least_age","","ALTER TABLE audit.settings ALTER COLUMN least_age TYPE interval USING least_age::interval;"]
ALTER TABLE audit.settings ADD COLUMN least_age interval;
--@ ["column","audit.settings","of_table","","ALTER TABLE audit.settings ALTER COLUMN of_table TYPE text USING of_table::text;"]
ALTER TABLE audit.settings ADD COLUMN of_table text;
--@ ["column","audit.settings","partition_interval","","ALTER TABLE audit.settings ALTER COLUMN partition_interval TYPE text USING partition_interval::text;"]
ALTER TABLE audit.settings ADD COLUMN partition_interval text;
--@ ["column","audit.settings","reason","","ALTER TABLE audit.settings ALTER COLUMN reason TYPE text USING reason::text;"]
ALTER TABLE audit.settings ADD COLUMN reason text;
--@ ["column default","audit.settings","changed_at","",null]
ALTER TABLE audit.settings ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
--@ ["column identity","audit.settings","id","","ALTER TABLE audit.settings ALTER COLUMN id SET GENERATED BY DEFAULT;"]
ALTER TABLE audit.settings ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY;
--@ ["column not null","audit.settings","changed_at","",null]
ALTER TABLE audit.settings ALTER COLUMN changed_at SET NOT NULL;
--@ ["column not null","audit.settings","changed_by","",null]
ALTER TABLE audit.settings ALTER COLUMN changed_by SET NOT NULL;
--@ ["column not null","audit.settings","id","",null]
ALTER TABLE audit.settings ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.settings","reason","",null]
ALTER TABLE audit.settings ALTER COLUMN reason SET NOT NULL;
--@ ["columns","audit.settings","","[[\"id\", \"bigint\"], [\"least_age\", \"interval\"], [\"partition_interval\", \"text\"], [\"of_table\", \"text\"], [\"reason\", \"text\"], [\"changed_by\", \"text\"], [\"changed_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.settings","settings_least_age_check",null,null]
ALTER TABLE audit.settings ADD CONSTRAINT settings_least_age_check CHECK (((least_age >= '1 day'::interval) AND (least_age <= '1000 years'::interval) AND (EXTRACT(year FROM least_age) >= (0)::numeric) AND (EXTRACT(month FROM least_age) >= (0)::numeric) AND (EXTRACT(day FROM least_age) >= (0)::numeric) AND (EXTRACT(hour FROM least_age) >= (0)::numeric) AND (EXTRACT(minute FROM least_age) >= (0)::numeric) AND (EXTRACT(second FROM least_age) >= (0)::numeric)));
--@ ["constraint","audit.settings","settings_one",null,null]
ALTER TABLE audit.settings ADD CONSTRAINT settings_one CHECK ((((least_age IS NULL) = (partition_interval IS NOT NULL)) AND ((of_table IS NULL) = (partition_interval IS NULL))));
--@ ["constraint","audit.settings","settings_partition_interval_check",null,null]
ALTER TABLE audit.settings ADD CONSTRAINT settings_partition_interval_check CHECK ((partition_interval = ANY (ARRAY['month'::text, 'week'::text, 'day'::text])));
--@ ["constraint","audit.settings","settings_pkey",null,null]
ALTER TABLE audit.settings ADD CONSTRAINT settings_pkey PRIMARY KEY (id);
--@ ["constraint","audit.settings","settings_reason_check",null,null]
ALTER TABLE audit.settings ADD CONSTRAINT settings_reason_check CHECK (((octet_length(reason) >= 1) AND (octet_length(reason) <= 4096)));
--@ ["forced row security","audit.settings","","",null]
ALTER TABLE audit.settings FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.settings","","",null]
ALTER TABLE audit.settings SET LOGGED;
--@ ["object","audit.settings","table","",null]
--@ ["owner","audit.settings","","",null]
ALTER TABLE audit.settings OWNER TO audit_owner;
--@ ["policy","audit.settings","adding",null,null]
CREATE POLICY adding ON audit.settings FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.settings","auditor",null,null]
CREATE POLICY auditor ON audit.settings FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.settings","maintainer",null,null]
CREATE POLICY maintainer ON audit.settings FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.settings","operator",null,null]
CREATE POLICY operator ON audit.settings FOR SELECT TO audit_operator USING (true);
--@ ["privilege","audit.settings","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.settings TO audit_auditor;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.settings TO audit_maintainer;
--@ ["privilege","audit.settings","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.settings TO audit_operator;
--@ ["row security","audit.settings","","",null]
ALTER TABLE audit.settings ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.settings","","r ","[\"audit\", \"settings\"]"]
--@ ["trigger","audit.settings","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.settings FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.settings ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.settings FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.settings ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.settings","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.settings FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.settings ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.settings FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.settings ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["logged","audit.settings_id_seq","","",null]
ALTER SEQUENCE audit.settings_id_seq SET LOGGED;
--@ ["object","audit.settings_id_seq","sequence","",null]
--@ ["owner","audit.settings_id_seq","","",null]
ALTER SEQUENCE audit.settings_id_seq OWNER TO audit_owner;
--@ ["sequence","audit.settings_id_seq","","",null]
ALTER SEQUENCE audit.settings_id_seq AS bigint INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 START 1 CACHE 1 NO CYCLE;
--@ ["function","audit.settle_partition(text,timestamp with time zone)","","f (parent text, at timestamp with time zone) uuid",null]
CREATE OR REPLACE FUNCTION audit.settle_partition(parent text, at timestamp with time zone)
 RETURNS uuid
 LANGUAGE plpgsql
 STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO'
 SET bytea_output TO 'hex'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    net     constant text := parent || '_default';
    -- By the million, as for a removal.
    hashing constant text := 'SELECT sha256(coalesce(string_agg(p.sha256, '''' ORDER BY p.part), '''')) FROM (
        SELECT h.part, sha256(string_agg(h.sha256, '''' ORDER BY h.id)) AS sha256
        FROM (
            SELECT s.*, (row_number() OVER (ORDER BY s.id) - 1) / 1000000 AS part
            FROM (SELECT r.id, sha256(convert_to(r::text, ''UTF8'')) AS sha256 FROM audit_parts.%I r WHERE r.id >= $1 AND r.id < $2 OFFSET 0) s) h
        GROUP BY h.part) p';
    first   uuid;
    last    uuid;
    columns text;
    plan    record;
    copied  bigint;
    deleted bigint;
    before  bytea;
    after   bytea;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF audit.time_column(parent) IS NULL THEN
        RAISE EXCEPTION 'audit.%: no such record table', left(parent, 64) USING ERRCODE = 'undefined_table';
    END IF;
    -- Nobody adds a row to the default partition, and nobody makes a foreign key, from here on; readers go on reading.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.partition_lock IN SHARE UPDATE EXCLUSIVE MODE');
    PERFORM audit.run_with_short_waits(format('LOCK TABLE ONLY audit.%I IN SHARE UPDATE EXCLUSIVE MODE', parent));
    PERFORM audit.run_with_short_waits(format('LOCK TABLE audit_parts.%I IN SHARE ROW EXCLUSIVE MODE', net));
    SELECT * INTO plan FROM audit.plan_settling(ARRAY[parent], at) p WHERE p.from_time <= at AND p.to_time > at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit_parts.%: no row that would go with that time is in it', net USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF cardinality(plan.obstacles) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not settled: %', net, array_to_string(plan.obstacles, '; ') USING ERRCODE = 'object_in_use';
    END IF;
    first := audit.id_at(plan.from_time);
    last := audit.id_at(plan.to_time);
    PERFORM audit.make_leaf(parent, plan.partition, plan.from_time, plan.to_time);
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = format('audit.%I', parent)::regclass AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('INSERT INTO audit_parts.%1$I (%2$s) SELECT %2$s FROM audit_parts.%3$I WHERE id >= $1 AND id < $2', plan.partition, columns, net)
        USING first, last;
    GET DIAGNOSTICS copied = ROW_COUNT;
    EXECUTE format(hashing, net) INTO before USING first, last;
    EXECUTE format(hashing, plan.partition) INTO after USING first, last;
    EXECUTE format('ALTER TABLE audit_parts.%I DISABLE TRIGGER append_only, DISABLE TRIGGER append_only_rows', net);
    EXECUTE format('DELETE FROM audit_parts.%I WHERE id >= $1 AND id < $2', net) USING first, last;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    EXECUTE format('ALTER TABLE audit_parts.%I ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_rows', net);
    IF copied <> plan.rows OR deleted <> plan.rows OR before <> after THEN
        RAISE EXCEPTION 'audit_parts.%: not settled: what arrived in the new partition is not what was in this one', net
            USING ERRCODE = 'data_exception';
    END IF;
    PERFORM audit.attach_leaf(parent, plan.partition, plan.from_time, plan.to_time, 8);
    RETURN audit.append_event('audit.partition_settled', 'partition', plan.partition, format('moved from %s', net), NULL, NULL, jsonb_build_object(
        'rows', copied, 'sha256', encode(after, 'hex'), 'from', plan.from_time, 'to', plan.to_time));
END
$function$
;
--@ ["object","audit.settle_partition(text,timestamp with time zone)","function","",null]
--@ ["owner","audit.settle_partition(text,timestamp with time zone)","","",null]
ALTER FUNCTION audit.settle_partition(text,timestamp with time zone) OWNER TO audit_maintainer;
--@ ["privilege","audit.settle_partition(text,timestamp with time zone)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.settle_partition(text,timestamp with time zone) TO audit_operator;
--@ ["privilege","audit.settle_partition(text,timestamp with time zone)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.settle_partition(text,timestamp with time zone) TO audit_maintainer;
--@ ["column","audit.subject_keys","erasure_id","","ALTER TABLE audit.subject_keys ALTER COLUMN erasure_id TYPE uuid USING erasure_id::uuid;"]
ALTER TABLE audit.subject_keys ADD COLUMN erasure_id uuid;
--@ ["column","audit.subject_keys","key","","ALTER TABLE audit.subject_keys ALTER COLUMN key TYPE bytea USING key::bytea;"]
ALTER TABLE audit.subject_keys ADD COLUMN key bytea;
--@ ["column","audit.subject_keys","key_id","","ALTER TABLE audit.subject_keys ALTER COLUMN key_id TYPE uuid USING key_id::uuid;"]
ALTER TABLE audit.subject_keys ADD COLUMN key_id uuid;
--@ ["column","audit.subject_keys","made_at","","ALTER TABLE audit.subject_keys ALTER COLUMN made_at TYPE timestamp with time zone USING made_at::timestamp with time zone;"]
ALTER TABLE audit.subject_keys ADD COLUMN made_at timestamp with time zone;
--@ ["column","audit.subject_keys","month","","ALTER TABLE audit.subject_keys ALTER COLUMN month TYPE date USING month::date;"]
ALTER TABLE audit.subject_keys ADD COLUMN month date;
--@ ["column","audit.subject_keys","subject","","ALTER TABLE audit.subject_keys ALTER COLUMN subject TYPE bytea USING subject::bytea;"]
ALTER TABLE audit.subject_keys ADD COLUMN subject bytea;
--@ ["column","audit.subject_keys","tenant_id","","ALTER TABLE audit.subject_keys ALTER COLUMN tenant_id TYPE uuid USING tenant_id::uuid;"]
ALTER TABLE audit.subject_keys ADD COLUMN tenant_id uuid;
--@ ["column not null","audit.subject_keys","key_id","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN key_id SET NOT NULL;
--@ ["column not null","audit.subject_keys","made_at","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN made_at SET NOT NULL;
--@ ["column not null","audit.subject_keys","month","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN month SET NOT NULL;
--@ ["column statistics","audit.subject_keys","erasure_id","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN erasure_id SET STATISTICS 0;
--@ ["column statistics","audit.subject_keys","key","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN key SET STATISTICS 0;
--@ ["column statistics","audit.subject_keys","key_id","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN key_id SET STATISTICS 0;
--@ ["column statistics","audit.subject_keys","made_at","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN made_at SET STATISTICS 0;
--@ ["column statistics","audit.subject_keys","month","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN month SET STATISTICS 0;
--@ ["column statistics","audit.subject_keys","subject","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN subject SET STATISTICS 0;
--@ ["column statistics","audit.subject_keys","tenant_id","",null]
ALTER TABLE audit.subject_keys ALTER COLUMN tenant_id SET STATISTICS 0;
--@ ["columns","audit.subject_keys","","[[\"key_id\", \"uuid\"], [\"month\", \"date\"], [\"tenant_id\", \"uuid\"], [\"subject\", \"bytea\"], [\"key\", \"bytea\"], [\"made_at\", \"timestamp with time zone\"], [\"erasure_id\", \"uuid\"]]",null]
--@ ["constraint","audit.subject_keys","subject_keys_check",null,null]
ALTER TABLE audit.subject_keys ADD CONSTRAINT subject_keys_check CHECK ((num_nonnulls(subject, key) =
CASE
    WHEN (erasure_id IS NULL) THEN 2
    ELSE 0
END));
--@ ["constraint","audit.subject_keys","subject_keys_key_check",null,null]
ALTER TABLE audit.subject_keys ADD CONSTRAINT subject_keys_key_check CHECK ((octet_length(key) = 32));
--@ ["constraint","audit.subject_keys","subject_keys_pkey",null,null]
ALTER TABLE audit.subject_keys ADD CONSTRAINT subject_keys_pkey PRIMARY KEY (key_id);
--@ ["constraint","audit.subject_keys","subject_keys_subject_check",null,null]
ALTER TABLE audit.subject_keys ADD CONSTRAINT subject_keys_subject_check CHECK ((octet_length(subject) = ANY (ARRAY[0, 32])));
--@ ["forced row security","audit.subject_keys","","",null]
ALTER TABLE audit.subject_keys FORCE ROW LEVEL SECURITY;
--@ ["index","audit.subject_keys","UNIQUE audit.subject_keys USING btree (subject, month, tenant_id) NULLS NOT DISTINCT WHERE (erasure_id IS NULL)","refuses",null]
CREATE UNIQUE INDEX ON audit.subject_keys USING btree (subject, month, tenant_id) NULLS NOT DISTINCT WHERE (erasure_id IS NULL);
--@ ["logged","audit.subject_keys","","",null]
ALTER TABLE audit.subject_keys SET LOGGED;
--@ ["object","audit.subject_keys","table","",null]
--@ ["owner","audit.subject_keys","","",null]
ALTER TABLE audit.subject_keys OWNER TO audit_owner;
--@ ["policy","audit.subject_keys","adding",null,null]
CREATE POLICY adding ON audit.subject_keys FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.subject_keys","auditor",null,null]
CREATE POLICY auditor ON audit.subject_keys FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.subject_keys","destroying",null,null]
CREATE POLICY destroying ON audit.subject_keys FOR UPDATE TO audit_maintainer USING (true) WITH CHECK (true);
--@ ["policy","audit.subject_keys","maintainer",null,null]
CREATE POLICY maintainer ON audit.subject_keys FOR SELECT TO audit_maintainer USING (true);
--@ ["policy","audit.subject_keys","tenant",null,null]
CREATE POLICY tenant ON audit.subject_keys FOR SELECT TO audit_reader USING ((tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::uuid));
--@ ["privilege","audit.subject_keys","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.subject_keys TO audit_auditor;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.subject_keys TO audit_maintainer;
--@ ["privilege","audit.subject_keys","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.subject_keys TO audit_reader;
--@ ["row security","audit.subject_keys","","",null]
ALTER TABLE audit.subject_keys ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.subject_keys","","r ","[\"audit\", \"subject_keys\"]"]
--@ ["trigger","audit.subject_keys","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.subject_keys FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.subject_keys ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.subject_keys FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.subject_keys ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.subject_keys","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.subject_keys FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.subject_keys ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.subject_keys FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.subject_keys ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["function","audit.subject_keys_of(date,uuid[],text[])","","f (month date, tenants uuid[], users text[]) TABLE(key_id uuid, key bytea)",null]
CREATE OR REPLACE FUNCTION audit.subject_keys_of(month date, tenants uuid[], users text[])
 RETURNS TABLE(key_id uuid, key bytea)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
#variable_conflict use_column
DECLARE
    first_day constant date := subject_keys_of.month;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF first_day IS NULL OR NOT isfinite(first_day) OR extract(day FROM first_day) <> 1 OR coalesce(array_ndims(tenants), 1) <> 1 OR coalesce(array_ndims(users), 1) <> 1
        OR cardinality(tenants) IS NULL OR cardinality(tenants) IS DISTINCT FROM cardinality(users) THEN
        RAISE EXCEPTION 'audit trail: keys are of a month, by its first day, and of tenants with a user each' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A month's keys are made once: most calls find them. LIMIT has each looked up by the index: there are no statistics, and Postgres would
    -- compare each user with all keys of the month.
    IF cardinality(tenants) > (
        SELECT count(*) FROM unnest(tenants, users) u (tenant, name), LATERAL (
            SELECT FROM audit.subject_keys k WHERE k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id = u.tenant AND k.erasure_id IS NULL
            UNION ALL SELECT FROM audit.subject_keys k
                WHERE u.tenant IS NULL AND k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id IS NULL AND k.erasure_id IS NULL
            LIMIT 1) f) THEN
        PERFORM audit.run_with_short_waits('LOCK TABLE audit.subject_keys IN SHARE ROW EXCLUSIVE MODE');
        INSERT INTO audit.subject_keys (key_id, month, tenant_id, subject, key, made_at)
        SELECT gen_random_uuid(), first_day, s.tenant, s.subject, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), clock_timestamp()
        FROM (SELECT DISTINCT u.tenant, audit.subject_of(u.name) AS subject FROM unnest(tenants, users) u (tenant, name)) s
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY SELECT f.key_id, f.key FROM unnest(tenants, users) WITH ORDINALITY u (tenant, name, place), LATERAL (
            SELECT k.key_id, k.key FROM audit.subject_keys k WHERE k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id = u.tenant AND k.erasure_id IS NULL
            UNION ALL SELECT k.key_id, k.key FROM audit.subject_keys k
                WHERE u.tenant IS NULL AND k.subject = audit.subject_of(u.name) AND k.month = first_day AND k.tenant_id IS NULL AND k.erasure_id IS NULL
            LIMIT 1) f
        ORDER BY u.place;
END
$function$
;
--@ ["object","audit.subject_keys_of(date,uuid[],text[])","function","",null]
--@ ["owner","audit.subject_keys_of(date,uuid[],text[])","","",null]
ALTER FUNCTION audit.subject_keys_of(date,uuid[],text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.subject_keys_of(date,uuid[],text[])","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.subject_keys_of(date,uuid[],text[]) TO audit_auditor;
--@ ["privilege","audit.subject_keys_of(date,uuid[],text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.subject_keys_of(date,uuid[],text[]) TO audit_maintainer;
--@ ["function","audit.subject_of(text)","","f (name text) bytea",null]
CREATE OR REPLACE FUNCTION audit.subject_of(name text)
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN CASE WHEN (name IS NULL) THEN '\x'::bytea ELSE sha256(convert_to(name, 'UTF8'::name)) END
;
--@ ["object","audit.subject_of(text)","function","",null]
--@ ["owner","audit.subject_of(text)","","",null]
ALTER FUNCTION audit.subject_of(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.subject_of(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.subject_of(text) TO audit_maintainer;
--@ ["object","audit.system_errors","view","",null]
--@ ["owner","audit.system_errors","","",null]
ALTER VIEW audit.system_errors OWNER TO audit_owner;
--@ ["privilege","audit.system_errors","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.system_errors TO audit_auditor;
--@ ["privilege","audit.system_errors","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.system_errors TO audit_reader;
--@ ["privilege","audit.system_errors","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.system_errors TO audit_owner;
--@ ["privilege","audit.system_errors","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.system_errors TO audit_owner;
--@ ["privilege","audit.system_errors","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.system_errors TO audit_owner;
--@ ["privilege","audit.system_errors","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.system_errors TO audit_owner;
--@ ["privilege","audit.system_errors","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.system_errors TO audit_owner;
--@ ["privilege","audit.system_errors","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.system_errors TO audit_owner;
--@ ["privilege","audit.system_errors","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.system_errors TO audit_owner;
--@ ["view","audit.system_errors","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"fingerprint\", \"text\"], [\"error_type\", \"text\"], [\"severity\", \"text\"], [\"component\", \"text\"], [\"details\", \"jsonb\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.system_errors WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'fingerprint'::text) AS fingerprint,
    (events.metadata ->> 'error_type'::text) AS error_type,
    (events.metadata ->> 'severity'::text) AS severity,
    (events.metadata ->> 'component'::text) AS component,
    (events.metadata -> 'details'::text) AS details,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'system_error'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'fingerprint'::text) AS fingerprint,
    (activities.metadata ->> 'error_type'::text) AS error_type,
    (activities.metadata ->> 'severity'::text) AS severity,
    (activities.metadata ->> 'component'::text) AS component,
    (activities.metadata -> 'details'::text) AS details,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'system_error'::text);
--@ ["object","audit.system_metrics","view","",null]
--@ ["owner","audit.system_metrics","","",null]
ALTER VIEW audit.system_metrics OWNER TO audit_owner;
--@ ["privilege","audit.system_metrics","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.system_metrics TO audit_auditor;
--@ ["privilege","audit.system_metrics","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.system_metrics TO audit_reader;
--@ ["privilege","audit.system_metrics","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.system_metrics TO audit_owner;
--@ ["privilege","audit.system_metrics","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.system_metrics TO audit_owner;
--@ ["privilege","audit.system_metrics","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.system_metrics TO audit_owner;
--@ ["privilege","audit.system_metrics","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.system_metrics TO audit_owner;
--@ ["privilege","audit.system_metrics","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.system_metrics TO audit_owner;
--@ ["privilege","audit.system_metrics","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.system_metrics TO audit_owner;
--@ ["privilege","audit.system_metrics","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.system_metrics TO audit_owner;
--@ ["view","audit.system_metrics","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"metric\", \"text\"], [\"value\", \"double precision\"], [\"unit\", \"text\"], [\"component\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.system_metrics WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    (events.metadata ->> 'metric'::text) AS metric,
    audit.number_of((events.metadata -> 'value'::text)) AS value,
    (events.metadata ->> 'unit'::text) AS unit,
    (events.metadata ->> 'component'::text) AS component,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'system_metric'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    (activities.metadata ->> 'metric'::text) AS metric,
    audit.number_of((activities.metadata -> 'value'::text)) AS value,
    (activities.metadata ->> 'unit'::text) AS unit,
    (activities.metadata ->> 'component'::text) AS component,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'system_metric'::text);
--@ ["function","audit.take_partition(text,interval,jsonb)","","f (leaf text, keep interval, archive jsonb) uuid",null]
CREATE OR REPLACE FUNCTION audit.take_partition(leaf text, keep interval, archive jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO'
 SET bytea_output TO 'hex'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
DECLARE
    parent    constant text := (SELECT t FROM unnest(audit.record_tables()) t, audit.leaf_span(t, leaf) s WHERE s.to_time IS NOT NULL);
    plan      record;
    batches   bigint;
    hashed    bytea;
    archived  bytea;
    referring text[];
    proof     record;
    event     uuid;
    at        timestamptz;
BEGIN
    PERFORM audit.refuse_old_snapshot();
    IF parent IS NULL OR leaf NOT IN (SELECT audit.leaves(parent)) THEN
        IF parent IS NOT NULL AND EXISTS (SELECT FROM pg_class WHERE relnamespace = 'audit_parts'::regnamespace AND relname = leaf) THEN
            RAISE EXCEPTION 'audit_parts.%: not a partition of the trail (any more)', leaf USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        RAISE EXCEPTION 'audit_parts.%: no partition of a month, a week or a day', left(leaf, 64) USING ERRCODE = 'undefined_table';
    END IF;
    -- No hold is placed, and no row added, from here on; readers go on reading.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.legal_holds, audit.legal_hold_lifts, audit.settings IN SHARE MODE');
    PERFORM audit.run_with_short_waits(format('LOCK TABLE audit_parts.%I IN SHARE ROW EXCLUSIVE MODE', leaf));
    SELECT * INTO plan FROM audit.plan_removals(keep, ARRAY[parent], leaf);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit_parts.%: not there, or it holds records that are to be kept', leaf
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF cardinality(plan.obstacles) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: %', leaf, array_to_string(plan.obstacles, '; ')
            USING ERRCODE = 'object_in_use';
    END IF;
    IF EXISTS (SELECT FROM audit.ledger) THEN
        EXECUTE format('SELECT count(DISTINCT (b.writer_id, b.first_seq)) FROM audit_parts.%I r JOIN audit.batches b ON b.writer_id = r.writer_id AND r.seq BETWEEN b.first_seq AND b.last_seq
            WHERE b.root IS NULL AND NOT EXISTS (SELECT FROM audit.ledger l WHERE l.writer_id = b.writer_id AND l.first_seq = b.first_seq)', leaf) INTO batches;
        IF batches > 0 THEN
            RAISE EXCEPTION 'audit_parts.%: not removed: % batches with rows in it are not sealed yet', leaf, batches
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run tracing-audit seal --once.';
        END IF;
    END IF;
    at := clock_timestamp();
    EXECUTE format(
        'INSERT INTO audit.removals (partition, parent, writer_id, first_seq, last_seq, rows, sha256, batch, from_leaf, hashes, removed_at, removed_by)
         SELECT $1, $2, g.writer_id, g.first_seq, g.last_seq, g.rows, sha256(g.hashes), g.batch, g.from_leaf, audit.tree_cover(g.hashes, g.from_leaf), $3, session_user
         FROM (
             SELECT h.writer_id, b.first_seq AS batch, min(h.seq) AS first_seq, max(h.seq) AS last_seq, count(*) AS rows,
                 string_agg(h.leaf_hash, '''' ORDER BY h.day, h.seq, h.id) AS hashes, audit.leaves_before(min(h.place), min(h.day), h.writer_id, b.first_seq) AS from_leaf
             FROM (%s) h LEFT JOIN LATERAL (
                 SELECT b.first_seq FROM audit.batches b WHERE b.writer_id = h.writer_id AND b.first_seq <= h.seq ORDER BY b.first_seq DESC LIMIT 1) b ON true
             GROUP BY h.writer_id, b.first_seq) g', audit.leaves_query(parent, leaf, 'true')) USING leaf, plan.parent, at;
    -- By the million: the hashes of many more are too long for one value.
    SELECT coalesce(sum(p.batches), 0), sha256(coalesce(string_agg(p.sha256, '' ORDER BY p.part), '')), sha256(coalesce(string_agg(p.archived, '' ORDER BY p.part), ''))
        INTO batches, hashed, archived
        FROM (
            SELECT h.part, count(*) AS batches, sha256(string_agg(h.sha256, '' ORDER BY h.writer_id, h.first_seq)) AS sha256,
                sha256(string_agg(h.archived, '' ORDER BY h.writer_id, h.first_seq)) AS archived
            FROM (
                SELECT r.writer_id, r.first_seq, audit.row_sha256(r) AS sha256, uuid_send(r.writer_id) || int8send(coalesce(r.batch, 0)) || int8send(r.rows) || r.sha256 AS archived,
                    (row_number() OVER (ORDER BY r.writer_id, r.first_seq) - 1) / 1000000 AS part
                FROM audit.removals r WHERE r.partition = leaf AND r.removed_at = at) h
            GROUP BY h.part) p;
    IF archive ->> 'hashes' <> encode(archived, 'hex') THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: it has other rows than the archive', leaf
            USING ERRCODE = 'object_in_use';
    END IF;
    -- Take these locks only now: held during the hashing, they would block the creation of partitions. No foreign key
    -- is made from here on.
    PERFORM audit.run_with_short_waits('LOCK TABLE audit.partition_lock IN SHARE UPDATE EXCLUSIVE MODE');
    PERFORM audit.run_with_short_waits(format('LOCK TABLE ONLY audit.%I IN SHARE UPDATE EXCLUSIVE MODE', parent));
    referring := ARRAY(SELECT audit.referring(format('audit.%I', parent)::regclass));
    IF cardinality(referring) > 0 THEN
        RAISE EXCEPTION 'audit_parts.%: not removed: %', leaf, array_to_string(referring, '; ')
            USING ERRCODE = 'object_in_use';
    END IF;
    -- The trail's own events that prove a row which stays (a hold, a setting, a removal, an erasure) are recorded anew.
    IF plan.parent = 'events' THEN
        FOR proof IN EXECUTE format(
            'SELECT e.* FROM audit_parts.%I e WHERE e.service_name = ''postgres'' AND e.metadata ? ''sha256'' AND (e.action_type, e.target_type) IN ((''audit.hold_placed'', ''legal_hold''),
                (''audit.hold_lifted'', ''legal_hold''), (''audit.setting_changed'', ''setting''), (''audit.partition_removed'', ''partition''), (''audit.erased'', ''erasure''))
                AND EXISTS (SELECT FROM audit.batches b WHERE b.writer_id = e.writer_id AND b.first_seq = e.seq AND b.last_seq = e.seq)
                AND NOT EXISTS (SELECT FROM audit.writers w WHERE w.writer_id = e.writer_id) ORDER BY e.created_at, e.id', leaf)
        LOOP
            PERFORM audit.append_event(proof.action_type, proof.target_type, proof.target_id, proof.input_summary, proof.request_id, proof.tenant_id,
                jsonb_build_object('first_recorded_by', proof.user_id, 'first_recorded_at', proof.created_at) || proof.metadata);
        END LOOP;
    END IF;
    -- Last, since from here to the commit nobody reads the table.
    PERFORM audit.run_with_short_waits(format('ALTER TABLE audit.%I DETACH PARTITION audit_parts.%I', plan.parent, leaf));
    EXECUTE format('DROP TABLE audit_parts.%I', leaf);
    event := audit.append_event('audit.partition_removed', 'partition', leaf, format('kept for %s', keep), NULL, NULL, jsonb_build_object(
        'rows', plan.rows, 'bytes', plan.bytes, 'batches', batches, 'sha256', encode(hashed, 'hex'),
        'from', plan.from_time, 'to', plan.to_time, 'removed_at', at) || CASE WHEN archive IS NULL THEN '{}' ELSE jsonb_build_object('archive', archive) END);
    RETURN event;
END
$function$
;
--@ ["object","audit.take_partition(text,interval,jsonb)","function","",null]
--@ ["owner","audit.take_partition(text,interval,jsonb)","","",null]
ALTER FUNCTION audit.take_partition(text,interval,jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.take_partition(text,interval,jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.take_partition(text,interval,jsonb) TO audit_maintainer;
--@ ["function","audit.target_of(bigint,oid)","","f (tracking bigint, part oid) text",null]
CREATE OR REPLACE FUNCTION audit.target_of(tracking bigint, part oid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    root record;
BEGIN
    SELECT t.target, CASE WHEN c.oid IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END AS name INTO root
        FROM audit.tracked_tables t LEFT JOIN pg_class c ON c.oid = t.target LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.id = tracking;
    IF NOT FOUND AND current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM audit.refuse_snapshot(format('%s', part::regclass), 'a part', NULL);
    END IF;
    -- A partition's root is asked of the catalog as it is now, whatever the snapshot shows.
    RETURN CASE WHEN pg_partition_root(part) = root.target OR part IN (SELECT audit.relations_of(root.target)) THEN root.name END;
END
$function$
;
--@ ["object","audit.target_of(bigint,oid)","function","",null]
--@ ["owner","audit.target_of(bigint,oid)","","",null]
ALTER FUNCTION audit.target_of(bigint,oid) OWNER TO audit_maintainer;
--@ ["privilege","audit.target_of(bigint,oid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.target_of(bigint,oid) TO audit_maintainer;
--@ ["function","audit.tenant_batches(timestamp with time zone,uuid[],bigint[])","","f (since timestamp with time zone, writers uuid[], positions bigint[]) TABLE(writer_id uuid, first_seq bigint, last_seq bigint, first_id uuid, last_id uuid, tables text[])",null]
CREATE OR REPLACE FUNCTION audit.tenant_batches(since timestamp with time zone, writers uuid[], positions bigint[])
 RETURNS TABLE(writer_id uuid, first_seq bigint, last_seq bigint, first_id uuid, last_id uuid, tables text[])
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
 SET max_parallel_workers_per_gather TO '0'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT b.writer_id, min(r.seq), max(r.seq), min(r.id::text)::uuid, max(r.id::text)::uuid, array_agg(DISTINCT r.name)
    FROM audit.batches b, LATERAL (
        SELECT 'query_runs' AS name, q.id, q.seq FROM audit.query_runs q
            WHERE q.tenant_id = audit.current_tenant() AND q.id BETWEEN b.first_id AND b.last_id
                AND q.writer_id = b.writer_id AND q.seq BETWEEN b.first_seq AND b.last_seq
        UNION ALL
        SELECT 'prompt_runs', p.id, p.seq FROM audit.prompt_runs p
            WHERE p.tenant_id = audit.current_tenant() AND p.id BETWEEN b.first_id AND b.last_id
                AND p.writer_id = b.writer_id AND p.seq BETWEEN b.first_seq AND b.last_seq
        UNION ALL
        SELECT 'events', e.id, e.seq FROM audit.events e
            WHERE e.tenant_id = audit.current_tenant() AND e.id BETWEEN b.first_id AND b.last_id
                AND e.writer_id = b.writer_id AND e.seq BETWEEN b.first_seq AND b.last_seq
        UNION ALL
        SELECT 'activities', a.id, a.seq FROM audit.activities a
            WHERE a.tenant_id = audit.current_tenant() AND a.id BETWEEN b.first_id AND b.last_id
                AND a.writer_id = b.writer_id AND a.seq BETWEEN b.first_seq AND b.last_seq
    ) AS r
    WHERE b.committed_at > since AND NOT EXISTS (
        SELECT FROM unnest(writers, positions) AS place (writer, last) WHERE place.writer = b.writer_id AND b.first_seq <= place.last)
    GROUP BY b.writer_id, b.first_seq, b.committed_at
    ORDER BY max(b.committed_at) OVER (PARTITION BY b.writer_id ORDER BY b.first_seq), b.writer_id, b.first_seq
$function$
;
--@ ["object","audit.tenant_batches(timestamp with time zone,uuid[],bigint[])","function","",null]
--@ ["owner","audit.tenant_batches(timestamp with time zone,uuid[],bigint[])","","",null]
ALTER FUNCTION audit.tenant_batches(timestamp with time zone,uuid[],bigint[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.tenant_batches(timestamp with time zone,uuid[],bigint[])","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tenant_batches(timestamp with time zone,uuid[],bigint[]) TO audit_reader;
--@ ["privilege","audit.tenant_batches(timestamp with time zone,uuid[],bigint[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tenant_batches(timestamp with time zone,uuid[],bigint[]) TO audit_maintainer;
--@ ["function","audit.tenant_uuid(text)","","f (tenant_key text) uuid",null]
CREATE OR REPLACE FUNCTION audit.tenant_uuid(tenant_key text)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$
;
--@ ["object","audit.tenant_uuid(text)","function","",null]
--@ ["owner","audit.tenant_uuid(text)","","",null]
ALTER FUNCTION audit.tenant_uuid(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.tenant_uuid(text)","[\"PUBLIC\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tenant_uuid(text) TO PUBLIC;
--@ ["privilege","audit.tenant_uuid(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tenant_uuid(text) TO audit_maintainer;
--@ ["function","audit.text_image(text)","","f (value text) bytea",null]
CREATE OR REPLACE FUNCTION audit.text_image(value text)
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN COALESCE((int4send(octet_length(value)) || convert_to(value, 'UTF8'::name)), '\xffffffff'::bytea)
;
--@ ["object","audit.text_image(text)","function","",null]
--@ ["owner","audit.text_image(text)","","",null]
ALTER FUNCTION audit.text_image(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.text_image(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.text_image(text) TO audit_maintainer;
--@ ["function","audit.texts_image(text[])","","f (list text[]) bytea",null]
CREATE OR REPLACE FUNCTION audit.texts_image(list text[])
 RETURNS bytea
 LANGUAGE sql
 STABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT audit.image(CASE WHEN list IS NOT NULL THEN
        int4send(coalesce(array_ndims(list), 0)) || int4send((EXISTS (SELECT FROM unnest(list) e WHERE e IS NULL))::integer) || int4send(25)
        || coalesce((SELECT string_agg(int4send(array_length(list, d)) || int4send(array_lower(list, d)), '' ORDER BY d) FROM generate_series(1, array_ndims(list)) d), '')
        || coalesce((SELECT string_agg(audit.text_image(e), '' ORDER BY place) FROM unnest(list) WITH ORDINALITY AS u (e, place)), '') END)
$function$
;
--@ ["object","audit.texts_image(text[])","function","",null]
--@ ["owner","audit.texts_image(text[])","","",null]
ALTER FUNCTION audit.texts_image(text[]) OWNER TO audit_maintainer;
--@ ["privilege","audit.texts_image(text[])","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.texts_image(text[]) TO audit_maintainer;
--@ ["function","audit.time_column(text)","","f (parent text) text",null]
CREATE OR REPLACE FUNCTION audit.time_column(parent text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE parent WHEN 'query_runs' THEN 'started_at' WHEN 'prompt_runs' THEN 'created_at' WHEN 'events' THEN 'created_at'
        WHEN 'activities' THEN 'created_at' END
$function$
;
--@ ["object","audit.time_column(text)","function","",null]
--@ ["owner","audit.time_column(text)","","",null]
ALTER FUNCTION audit.time_column(text) OWNER TO audit_maintainer;
--@ ["privilege","audit.time_column(text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.time_column(text) TO audit_maintainer;
--@ ["function","audit.time_of(uuid)","","f (id uuid) timestamp with time zone",null]
CREATE OR REPLACE FUNCTION audit.time_of(id uuid)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN to_timestamp(((((('x'::text || translate("left"((id)::text, 13), '-'::text, ''::text)))::bit(48))::bigint)::double precision / (1000.0)::double precision))
;
--@ ["object","audit.time_of(uuid)","function","",null]
--@ ["owner","audit.time_of(uuid)","","",null]
ALTER FUNCTION audit.time_of(uuid) OWNER TO audit_maintainer;
--@ ["privilege","audit.time_of(uuid)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.time_of(uuid) TO audit_auditor;
--@ ["privilege","audit.time_of(uuid)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.time_of(uuid) TO audit_reader;
--@ ["privilege","audit.time_of(uuid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.time_of(uuid) TO audit_maintainer;
--@ ["function","audit.tokens_of(jsonb)","","f (value jsonb) bigint",null]
CREATE OR REPLACE FUNCTION audit.tokens_of(value jsonb)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((audit.integer_of(value) >= 0) AND (audit.integer_of(value) <= '1000000000000'::bigint)) THEN audit.integer_of(value) ELSE NULL::bigint END
;
--@ ["object","audit.tokens_of(jsonb)","function","",null]
--@ ["owner","audit.tokens_of(jsonb)","","",null]
ALTER FUNCTION audit.tokens_of(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.tokens_of(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tokens_of(jsonb) TO audit_auditor;
--@ ["privilege","audit.tokens_of(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tokens_of(jsonb) TO audit_reader;
--@ ["privilege","audit.tokens_of(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tokens_of(jsonb) TO audit_maintainer;
--@ ["object","audit.tool_invocations","view","",null]
--@ ["owner","audit.tool_invocations","","",null]
ALTER VIEW audit.tool_invocations OWNER TO audit_owner;
--@ ["privilege","audit.tool_invocations","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tool_invocations TO audit_auditor;
--@ ["privilege","audit.tool_invocations","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tool_invocations TO audit_reader;
--@ ["privilege","audit.tool_invocations","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.tool_invocations TO audit_owner;
--@ ["privilege","audit.tool_invocations","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.tool_invocations TO audit_owner;
--@ ["privilege","audit.tool_invocations","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.tool_invocations TO audit_owner;
--@ ["privilege","audit.tool_invocations","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tool_invocations TO audit_owner;
--@ ["privilege","audit.tool_invocations","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.tool_invocations TO audit_owner;
--@ ["privilege","audit.tool_invocations","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.tool_invocations TO audit_owner;
--@ ["privilege","audit.tool_invocations","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.tool_invocations TO audit_owner;
--@ ["view","audit.tool_invocations","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"tool\", \"text\"], [\"input_summary\", \"text\"], [\"output_summary\", \"text\"], [\"arguments_sha256\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.tool_invocations WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    events.target_id AS tool,
    events.input_summary,
    events.output_summary,
    (events.metadata ->> 'arguments_sha256'::text) AS arguments_sha256,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'tool_invocation'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    activities.target_id AS tool,
    activities.input_summary,
    activities.output_summary,
    (activities.metadata ->> 'arguments_sha256'::text) AS arguments_sha256,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'tool_invocation'::text);
--@ ["function","audit.track(regclass,text,text[],text[],integer,text,text[],text)","","f (target regclass, tenant_column text DEFAULT NULL::text, columns_out text[] DEFAULT '{}'::text[], columns_masked text[] DEFAULT '{}'::text[], max_value_bytes integer DEFAULT 8192, action_type text DEFAULT 'change'::text, operations text[] DEFAULT '{insert,update,delete,truncate}'::text[], on_failure text DEFAULT 'fail'::text) void",null]
CREATE OR REPLACE FUNCTION audit.track(target regclass, tenant_column text DEFAULT NULL::text, columns_out text[] DEFAULT '{}'::text[], columns_masked text[] DEFAULT '{}'::text[], max_value_bytes integer DEFAULT 8192, action_type text DEFAULT 'change'::text, operations text[] DEFAULT '{insert,update,delete,truncate}'::text[], on_failure text DEFAULT 'fail'::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracking  bigint;
    relation  regclass;
    schema    regnamespace;
    prefix    text;
    operation text;
BEGIN
    PERFORM audit.lend(target, true);
    tracking := audit.prepare_tracking(target, tenant_column, columns_out, columns_masked, max_value_bytes, action_type, operations, on_failure);
    operations := ARRAY(SELECT lower(o) FROM unnest(operations) o);
    FOR relation, schema IN SELECT c.oid, c.relnamespace FROM audit.relations_of(target) AS r JOIN pg_class c ON c.oid = r LOOP
        PERFORM audit.let_in(schema), audit.lend(relation, true);
        PERFORM audit.make_triggers(tracking, relation);
        IF relation <> target THEN
            PERFORM audit.lend(relation, false);
        END IF;
        prefix := CASE WHEN relation = target THEN 'audit_change_' ELSE 'audit_part_' END;
        FOREACH operation IN ARRAY '{insert,update,delete,truncate,count}'::text[] LOOP
            IF (CASE operation WHEN 'count' THEN 'truncate' ELSE operation END) = ANY (operations) THEN
                EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER %I', relation, prefix || operation);
            ELSE
                PERFORM audit.drop_trigger(relation, prefix || operation);
            END IF;
        END LOOP;
    END LOOP;
    PERFORM audit.finish_tracking(target);
    PERFORM audit.lend(target, false);
END
$function$
;
--@ ["object","audit.track(regclass,text,text[],text[],integer,text,text[],text)","function","",null]
--@ ["owner","audit.track(regclass,text,text[],text[],integer,text,text[],text)","","",null]
ALTER FUNCTION audit.track(regclass,text,text[],text[],integer,text,text[],text) OWNER TO audit_maintainer;
--@ ["privilege","audit.track(regclass,text,text[],text[],integer,text,text[],text)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.track(regclass,text,text[],text[],integer,text,text[],text) TO audit_operator;
--@ ["privilege","audit.track(regclass,text,text[],text[],integer,text,text[],text)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.track(regclass,text,text[],text[],integer,text,text[],text) TO audit_writer;
--@ ["privilege","audit.track(regclass,text,text[],text[],integer,text,text[],text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.track(regclass,text,text[],text[],integer,text,text[],text) TO audit_maintainer;
--@ ["object","audit.tracked","view","",null]
--@ ["owner","audit.tracked","","",null]
ALTER VIEW audit.tracked OWNER TO audit_owner;
--@ ["privilege","audit.tracked","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked TO audit_auditor;
--@ ["privilege","audit.tracked","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked TO audit_operator;
--@ ["privilege","audit.tracked","[\"audit_writer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked TO audit_writer;
--@ ["privilege","audit.tracked","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.tracked TO audit_owner;
--@ ["privilege","audit.tracked","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.tracked TO audit_owner;
--@ ["privilege","audit.tracked","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.tracked TO audit_owner;
--@ ["privilege","audit.tracked","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked TO audit_owner;
--@ ["privilege","audit.tracked","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.tracked TO audit_owner;
--@ ["privilege","audit.tracked","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.tracked TO audit_owner;
--@ ["privilege","audit.tracked","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.tracked TO audit_owner;
--@ ["view","audit.tracked","","[[\"table_name\", \"text\"], [\"is_there\", \"boolean\"], [\"action_type\", \"text\"], [\"operations\", \"text[]\"], [\"tenant_column\", \"text\"], [\"columns_out\", \"text[]\"], [\"columns_masked\", \"text[]\"], [\"max_value_bytes\", \"integer\"], [\"on_failure\", \"text\"], [\"tracked_by\", \"text\"], [\"tracked_at\", \"timestamp with time zone\"]]",null]
CREATE OR REPLACE VIEW audit.tracked WITH (security_invoker = true) AS
 SELECT t.name AS table_name,
    (c.oid IS NOT NULL) AS is_there,
    t.action_type,
    t.operations,
    t.tenant_column,
    t.columns_out,
    t.columns_masked,
    t.max_value_bytes,
    t.on_failure,
    t.tracked_by,
    t.tracked_at
   FROM (audit.tracked_tables t
     LEFT JOIN pg_class c ON ((c.oid = (t.target)::oid)));
--@ ["column","audit.tracked_tables","action_type","","ALTER TABLE audit.tracked_tables ALTER COLUMN action_type TYPE text USING action_type::text;"]
ALTER TABLE audit.tracked_tables ADD COLUMN action_type text;
--@ ["column","audit.tracked_tables","columns","","ALTER TABLE audit.tracked_tables ALTER COLUMN columns TYPE text[] USING columns::text[];"]
ALTER TABLE audit.tracked_tables ADD COLUMN columns text[];
--@ ["column","audit.tracked_tables","columns_masked","","ALTER TABLE audit.tracked_tables ALTER COLUMN columns_masked TYPE text[] USING columns_masked::text[];"]
ALTER TABLE audit.tracked_tables ADD COLUMN columns_masked text[];
--@ ["column","audit.tracked_tables","columns_out","","ALTER TABLE audit.tracked_tables ALTER COLUMN columns_out TYPE text[] USING columns_out::text[];"]
ALTER TABLE audit.tracked_tables ADD COLUMN columns_out text[];
--@ ["column","audit.tracked_tables","id","","ALTER TABLE audit.tracked_tables ALTER COLUMN id TYPE bigint USING id::bigint;"]
ALTER TABLE audit.tracked_tables ADD COLUMN id bigint;
--@ ["column","audit.tracked_tables","max_value_bytes","","ALTER TABLE audit.tracked_tables ALTER COLUMN max_value_bytes TYPE integer USING max_value_bytes::integer;"]
ALTER TABLE audit.tracked_tables ADD COLUMN max_value_bytes integer;
--@ ["column","audit.tracked_tables","name","","ALTER TABLE audit.tracked_tables ALTER COLUMN name TYPE text USING name::text;"]
ALTER TABLE audit.tracked_tables ADD COLUMN name text;
--@ ["column","audit.tracked_tables","on_failure","","ALTER TABLE audit.tracked_tables ALTER COLUMN on_failure TYPE text USING on_failure::text;"]
ALTER TABLE audit.tracked_tables ADD COLUMN on_failure text;
--@ ["column","audit.tracked_tables","operations","","ALTER TABLE audit.tracked_tables ALTER COLUMN operations TYPE text[] USING operations::text[];"]
ALTER TABLE audit.tracked_tables ADD COLUMN operations text[];
--@ ["column","audit.tracked_tables","place_tenant","","ALTER TABLE audit.tracked_tables ALTER COLUMN place_tenant TYPE smallint USING place_tenant::smallint;"]
ALTER TABLE audit.tracked_tables ADD COLUMN place_tenant smallint;
--@ ["column","audit.tracked_tables","places_masked","","ALTER TABLE audit.tracked_tables ALTER COLUMN places_masked TYPE smallint[] USING places_masked::smallint[];"]
ALTER TABLE audit.tracked_tables ADD COLUMN places_masked smallint[];
--@ ["column","audit.tracked_tables","places_out","","ALTER TABLE audit.tracked_tables ALTER COLUMN places_out TYPE smallint[] USING places_out::smallint[];"]
ALTER TABLE audit.tracked_tables ADD COLUMN places_out smallint[];
--@ ["column","audit.tracked_tables","target","","ALTER TABLE audit.tracked_tables ALTER COLUMN target TYPE regclass USING target::regclass;"]
ALTER TABLE audit.tracked_tables ADD COLUMN target regclass;
--@ ["column","audit.tracked_tables","target_oid","","ALTER TABLE audit.tracked_tables ALTER COLUMN target_oid TYPE oid USING target_oid::oid;"]
ALTER TABLE audit.tracked_tables ADD COLUMN target_oid oid;
--@ ["column","audit.tracked_tables","tenant_column","","ALTER TABLE audit.tracked_tables ALTER COLUMN tenant_column TYPE text USING tenant_column::text;"]
ALTER TABLE audit.tracked_tables ADD COLUMN tenant_column text;
--@ ["column","audit.tracked_tables","tracked_at","","ALTER TABLE audit.tracked_tables ALTER COLUMN tracked_at TYPE timestamp with time zone USING tracked_at::timestamp with time zone;"]
ALTER TABLE audit.tracked_tables ADD COLUMN tracked_at timestamp with time zone;
--@ ["column","audit.tracked_tables","tracked_by","","ALTER TABLE audit.tracked_tables ALTER COLUMN tracked_by TYPE text USING tracked_by::text;"]
ALTER TABLE audit.tracked_tables ADD COLUMN tracked_by text;
--@ ["column default","audit.tracked_tables","tracked_at","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN tracked_at SET DEFAULT clock_timestamp();
--@ ["column identity","audit.tracked_tables","id","","ALTER TABLE audit.tracked_tables ALTER COLUMN id SET GENERATED BY DEFAULT;"]
ALTER TABLE audit.tracked_tables ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY;
--@ ["column not null","audit.tracked_tables","action_type","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN action_type SET NOT NULL;
--@ ["column not null","audit.tracked_tables","columns","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN columns SET NOT NULL;
--@ ["column not null","audit.tracked_tables","columns_masked","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN columns_masked SET NOT NULL;
--@ ["column not null","audit.tracked_tables","columns_out","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN columns_out SET NOT NULL;
--@ ["column not null","audit.tracked_tables","id","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN id SET NOT NULL;
--@ ["column not null","audit.tracked_tables","max_value_bytes","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN max_value_bytes SET NOT NULL;
--@ ["column not null","audit.tracked_tables","name","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN name SET NOT NULL;
--@ ["column not null","audit.tracked_tables","on_failure","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN on_failure SET NOT NULL;
--@ ["column not null","audit.tracked_tables","operations","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN operations SET NOT NULL;
--@ ["column not null","audit.tracked_tables","places_masked","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN places_masked SET NOT NULL;
--@ ["column not null","audit.tracked_tables","places_out","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN places_out SET NOT NULL;
--@ ["column not null","audit.tracked_tables","target","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN target SET NOT NULL;
--@ ["column not null","audit.tracked_tables","target_oid","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN target_oid SET NOT NULL;
--@ ["column not null","audit.tracked_tables","tracked_at","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN tracked_at SET NOT NULL;
--@ ["column not null","audit.tracked_tables","tracked_by","",null]
ALTER TABLE audit.tracked_tables ALTER COLUMN tracked_by SET NOT NULL;
--@ ["columns","audit.tracked_tables","","[[\"id\", \"bigint\"], [\"target\", \"regclass\"], [\"name\", \"text\"], [\"action_type\", \"text\"], [\"operations\", \"text[]\"], [\"tenant_column\", \"text\"], [\"columns_out\", \"text[]\"], [\"columns_masked\", \"text[]\"], [\"columns\", \"text[]\"], [\"target_oid\", \"oid\"], [\"places_out\", \"smallint[]\"], [\"places_masked\", \"smallint[]\"], [\"place_tenant\", \"smallint\"], [\"max_value_bytes\", \"integer\"], [\"on_failure\", \"text\"], [\"tracked_by\", \"text\"], [\"tracked_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.tracked_tables","tracked_tables_action_type_check",null,null]
ALTER TABLE audit.tracked_tables ADD CONSTRAINT tracked_tables_action_type_check CHECK (((octet_length(action_type) >= 1) AND (octet_length(action_type) <= 256)));
--@ ["constraint","audit.tracked_tables","tracked_tables_max_value_bytes_check",null,null]
ALTER TABLE audit.tracked_tables ADD CONSTRAINT tracked_tables_max_value_bytes_check CHECK (((max_value_bytes >= 64) AND (max_value_bytes <= 1048576)));
--@ ["constraint","audit.tracked_tables","tracked_tables_on_failure_check",null,null]
ALTER TABLE audit.tracked_tables ADD CONSTRAINT tracked_tables_on_failure_check CHECK ((on_failure = ANY (ARRAY['fail'::text, 'warn'::text])));
--@ ["constraint","audit.tracked_tables","tracked_tables_pkey",null,null]
ALTER TABLE audit.tracked_tables ADD CONSTRAINT tracked_tables_pkey PRIMARY KEY (id);
--@ ["constraint","audit.tracked_tables","tracked_tables_target_key",null,null]
ALTER TABLE audit.tracked_tables ADD CONSTRAINT tracked_tables_target_key UNIQUE (target);
--@ ["forced row security","audit.tracked_tables","","",null]
ALTER TABLE audit.tracked_tables FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.tracked_tables","","",null]
ALTER TABLE audit.tracked_tables SET LOGGED;
--@ ["object","audit.tracked_tables","table","",null]
--@ ["owner","audit.tracked_tables","","",null]
ALTER TABLE audit.tracked_tables OWNER TO audit_owner;
--@ ["policy","audit.tracked_tables","known",null,null]
CREATE POLICY known ON audit.tracked_tables FOR SELECT TO audit_auditor, audit_operator, audit_writer USING (true);
--@ ["policy","audit.tracked_tables","maintainer",null,null]
CREATE POLICY maintainer ON audit.tracked_tables FOR ALL TO audit_maintainer USING (true) WITH CHECK (true);
--@ ["privilege","audit.tracked_tables","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked_tables TO audit_auditor;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.tracked_tables TO audit_maintainer;
--@ ["privilege","audit.tracked_tables","[\"audit_operator\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked_tables TO audit_operator;
--@ ["privilege","audit.tracked_tables","[\"audit_writer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.tracked_tables TO audit_writer;
--@ ["row security","audit.tracked_tables","","",null]
ALTER TABLE audit.tracked_tables ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.tracked_tables","","r ","[\"audit\", \"tracked_tables\"]"]
--@ ["logged","audit.tracked_tables_id_seq","","",null]
ALTER SEQUENCE audit.tracked_tables_id_seq SET LOGGED;
--@ ["object","audit.tracked_tables_id_seq","sequence","",null]
--@ ["owner","audit.tracked_tables_id_seq","","",null]
ALTER SEQUENCE audit.tracked_tables_id_seq OWNER TO audit_owner;
--@ ["sequence","audit.tracked_tables_id_seq","","",null]
ALTER SEQUENCE audit.tracked_tables_id_seq AS bigint INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 START 1 CACHE 1 NO CYCLE;
--@ ["object","audit.trail","view","",null]
--@ ["owner","audit.trail","","",null]
ALTER VIEW audit.trail OWNER TO audit_owner;
--@ ["privilege","audit.trail","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.trail TO audit_auditor;
--@ ["privilege","audit.trail","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.trail TO audit_reader;
--@ ["privilege","audit.trail","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.trail TO audit_owner;
--@ ["privilege","audit.trail","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.trail TO audit_owner;
--@ ["privilege","audit.trail","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.trail TO audit_owner;
--@ ["privilege","audit.trail","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.trail TO audit_owner;
--@ ["privilege","audit.trail","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.trail TO audit_owner;
--@ ["privilege","audit.trail","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.trail TO audit_owner;
--@ ["privilege","audit.trail","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.trail TO audit_owner;
--@ ["view","audit.trail","","[[\"kind\", \"text\"], [\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"span_id\", \"text\"], [\"service_name\", \"text\"], [\"began_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"what\", \"text\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"metadata\", \"jsonb\"], [\"redactions\", \"text[]\"], [\"writer_id\", \"uuid\"], [\"seq\", \"bigint\"]]",null]
CREATE OR REPLACE VIEW audit.trail WITH (security_invoker = true) AS
 SELECT 'audit.query_run'::text AS kind,
    query_runs.id,
    query_runs.tenant_id,
    query_runs.user_id,
    query_runs.user_role,
    query_runs.agent_id,
    query_runs.request_id,
    query_runs.llm_session_id,
    query_runs.conversation_id,
    query_runs.parent_id,
    query_runs.trace_id,
    query_runs.span_id,
    query_runs.service_name,
    query_runs.started_at AS began_at,
    query_runs.duration_ms,
    COALESCE(query_runs.question_text, query_runs.sql_text) AS what,
    NULL::text AS target_type,
    NULL::text AS target_id,
    query_runs.status,
    query_runs.error_code,
    query_runs.error_message,
    query_runs.metadata,
    query_runs.redactions,
    query_runs.writer_id,
    query_runs.seq
   FROM audit.query_runs
UNION ALL
 SELECT 'audit.prompt_run'::text AS kind,
    prompt_runs.id,
    prompt_runs.tenant_id,
    prompt_runs.user_id,
    prompt_runs.user_role,
    prompt_runs.agent_id,
    prompt_runs.request_id,
    prompt_runs.llm_session_id,
    prompt_runs.conversation_id,
    prompt_runs.parent_id,
    prompt_runs.trace_id,
    prompt_runs.span_id,
    prompt_runs.service_name,
    prompt_runs.created_at AS began_at,
    prompt_runs.duration_ms,
    COALESCE(prompt_runs.prompt_template_name, prompt_runs.model_name) AS what,
    NULL::text AS target_type,
    NULL::text AS target_id,
    prompt_runs.status,
    prompt_runs.error_code,
    prompt_runs.error_message,
    prompt_runs.metadata,
    prompt_runs.redactions,
    prompt_runs.writer_id,
    prompt_runs.seq
   FROM audit.prompt_runs
UNION ALL
 SELECT 'audit.event'::text AS kind,
    events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.span_id,
    events.service_name,
    events.created_at AS began_at,
    events.latency_ms AS duration_ms,
    events.action_type AS what,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    events.metadata,
    events.redactions,
    events.writer_id,
    events.seq
   FROM audit.events
UNION ALL
 SELECT 'audit.event'::text AS kind,
    activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.span_id,
    activities.service_name,
    activities.created_at AS began_at,
    activities.latency_ms AS duration_ms,
    activities.action_type AS what,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    activities.metadata,
    activities.redactions,
    activities.writer_id,
    activities.seq
   FROM audit.activities;
--@ ["object","audit.transaction_events","view","",null]
--@ ["owner","audit.transaction_events","","",null]
ALTER VIEW audit.transaction_events OWNER TO audit_owner;
--@ ["privilege","audit.transaction_events","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.transaction_events TO audit_auditor;
--@ ["privilege","audit.transaction_events","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.transaction_events TO audit_reader;
--@ ["privilege","audit.transaction_events","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.transaction_events TO audit_owner;
--@ ["privilege","audit.transaction_events","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.transaction_events TO audit_owner;
--@ ["privilege","audit.transaction_events","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.transaction_events TO audit_owner;
--@ ["privilege","audit.transaction_events","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.transaction_events TO audit_owner;
--@ ["privilege","audit.transaction_events","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.transaction_events TO audit_owner;
--@ ["privilege","audit.transaction_events","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.transaction_events TO audit_owner;
--@ ["privilege","audit.transaction_events","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.transaction_events TO audit_owner;
--@ ["view","audit.transaction_events","","[[\"id\", \"uuid\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"user_role\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"llm_session_id\", \"uuid\"], [\"conversation_id\", \"text\"], [\"parent_id\", \"uuid\"], [\"trace_id\", \"text\"], [\"service_name\", \"text\"], [\"created_at\", \"timestamp with time zone\"], [\"duration_ms\", \"bigint\"], [\"target_type\", \"text\"], [\"target_id\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"error_message\", \"text\"], [\"transaction_id\", \"text\"], [\"amount_cents\", \"bigint\"], [\"currency\", \"text\"], [\"state\", \"text\"], [\"previous_state\", \"text\"], [\"payment_reference\", \"text\"], [\"actor\", \"text\"], [\"metadata\", \"jsonb\"]]",null]
CREATE OR REPLACE VIEW audit.transaction_events WITH (security_invoker = true) AS
 SELECT events.id,
    events.tenant_id,
    events.user_id,
    events.user_role,
    events.agent_id,
    events.request_id,
    events.llm_session_id,
    events.conversation_id,
    events.parent_id,
    events.trace_id,
    events.service_name,
    events.created_at,
    events.latency_ms AS duration_ms,
    events.target_type,
    events.target_id,
    events.status,
    events.error_code,
    events.error_message,
    events.target_id AS transaction_id,
    audit.integer_of((events.metadata -> 'amount_cents'::text)) AS amount_cents,
    (events.metadata ->> 'currency'::text) AS currency,
    (events.metadata ->> 'state'::text) AS state,
    (events.metadata ->> 'previous_state'::text) AS previous_state,
    (events.metadata ->> 'payment_reference'::text) AS payment_reference,
    COALESCE((events.metadata ->> 'actor'::text), events.user_id) AS actor,
    events.metadata
   FROM audit.events
  WHERE (events.action_type = 'transaction'::text)
UNION ALL
 SELECT activities.id,
    activities.tenant_id,
    activities.user_id,
    activities.user_role,
    activities.agent_id,
    activities.request_id,
    activities.llm_session_id,
    activities.conversation_id,
    activities.parent_id,
    activities.trace_id,
    activities.service_name,
    activities.created_at,
    activities.latency_ms AS duration_ms,
    activities.target_type,
    activities.target_id,
    activities.status,
    activities.error_code,
    activities.error_message,
    activities.target_id AS transaction_id,
    audit.integer_of((activities.metadata -> 'amount_cents'::text)) AS amount_cents,
    (activities.metadata ->> 'currency'::text) AS currency,
    (activities.metadata ->> 'state'::text) AS state,
    (activities.metadata ->> 'previous_state'::text) AS previous_state,
    (activities.metadata ->> 'payment_reference'::text) AS payment_reference,
    COALESCE((activities.metadata ->> 'actor'::text), activities.user_id) AS actor,
    activities.metadata
   FROM audit.activities
  WHERE (activities.action_type = 'transaction'::text);
--@ ["object","audit.transactions","view","",null]
--@ ["owner","audit.transactions","","",null]
ALTER VIEW audit.transactions OWNER TO audit_owner;
--@ ["privilege","audit.transactions","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.transactions TO audit_auditor;
--@ ["privilege","audit.transactions","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.transactions TO audit_reader;
--@ ["privilege","audit.transactions","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.transactions TO audit_owner;
--@ ["privilege","audit.transactions","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.transactions TO audit_owner;
--@ ["privilege","audit.transactions","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.transactions TO audit_owner;
--@ ["privilege","audit.transactions","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.transactions TO audit_owner;
--@ ["privilege","audit.transactions","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.transactions TO audit_owner;
--@ ["privilege","audit.transactions","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.transactions TO audit_owner;
--@ ["privilege","audit.transactions","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.transactions TO audit_owner;
--@ ["view","audit.transactions","","[[\"transaction_id\", \"text\"], [\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"agent_id\", \"uuid\"], [\"request_id\", \"text\"], [\"changed_at\", \"timestamp with time zone\"], [\"amount_cents\", \"bigint\"], [\"currency\", \"text\"], [\"state\", \"text\"], [\"payment_reference\", \"text\"], [\"actor\", \"text\"], [\"status\", \"audit.run_status\"], [\"error_code\", \"text\"], [\"event_id\", \"uuid\"]]",null]
CREATE OR REPLACE VIEW audit.transactions WITH (security_invoker = true) AS
 SELECT DISTINCT ON (r.tenant_id, r.target_id) r.target_id AS transaction_id,
    r.tenant_id,
    r.user_id,
    r.agent_id,
    r.request_id,
    r.created_at AS changed_at,
    f.amount_cents,
    f.currency,
    f.state,
    f.payment_reference,
    f.actor,
    r.status,
    r.error_code,
    r.id AS event_id
   FROM ( SELECT events.id,
            events.tenant_id,
            events.user_id,
            events.agent_id,
            events.request_id,
            events.created_at,
            events.target_id,
            events.metadata,
            events.status,
            events.error_code
           FROM audit.events
          WHERE ((events.action_type = 'transaction'::text) AND (events.target_id IS NOT NULL) AND (events.created_at <= (now() + '1 day'::interval)))
        UNION ALL
         SELECT activities.id,
            activities.tenant_id,
            activities.user_id,
            activities.agent_id,
            activities.request_id,
            activities.created_at,
            activities.target_id,
            activities.metadata,
            activities.status,
            activities.error_code
           FROM audit.activities
          WHERE ((activities.action_type = 'transaction'::text) AND (activities.target_id IS NOT NULL) AND (activities.created_at <= (now() + '1 day'::interval)))) r,
    LATERAL ( SELECT audit.integer_of((r.metadata -> 'amount_cents'::text)) AS amount_cents,
            (r.metadata ->> 'currency'::text) AS currency,
            (r.metadata ->> 'state'::text) AS state,
            (r.metadata ->> 'payment_reference'::text) AS payment_reference,
            COALESCE((r.metadata ->> 'actor'::text), r.user_id) AS actor) f
  ORDER BY r.tenant_id, r.target_id, r.created_at DESC, r.id DESC;
--@ ["function","audit.tree_cover(bytea,bigint)","","f (hashes bytea, from_leaf bigint) bytea",null]
CREATE OR REPLACE FUNCTION audit.tree_cover(hashes bytea, from_leaf bigint)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    count constant bigint := octet_length(hashes) / 32;
    done  bigint := 0;
    width bigint;
    cover bytea := '';
BEGIN
    WHILE done < count LOOP
        width := 1;
        WHILE (from_leaf + done) % (2 * width) = 0 AND done + 2 * width <= count LOOP
            width := 2 * width;
        END LOOP;
        cover := cover || audit.tree_root(substring(hashes FROM (done * 32 + 1)::integer FOR (width * 32)::integer));
        done := done + width;
    END LOOP;
    RETURN cover;
END
$function$
;
--@ ["object","audit.tree_cover(bytea,bigint)","function","",null]
--@ ["owner","audit.tree_cover(bytea,bigint)","","",null]
ALTER FUNCTION audit.tree_cover(bytea,bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.tree_cover(bytea,bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tree_cover(bytea,bigint) TO audit_maintainer;
--@ ["function","audit.tree_root(bytea)","","f (hashes bytea) bytea",null]
CREATE OR REPLACE FUNCTION audit.tree_root(hashes bytea)
 RETURNS bytea
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
AS $function$
BEGIN
    WHILE octet_length(hashes) > 32 LOOP
        SELECT string_agg(CASE WHEN i + 63 <= octet_length(hashes) THEN sha256('\x01'::bytea || substring(hashes FROM i FOR 64)) ELSE substring(hashes FROM i FOR 32) END, '' ORDER BY i)
            INTO hashes FROM generate_series(1, octet_length(hashes), 64) i;
    END LOOP;
    RETURN hashes;
END
$function$
;
--@ ["object","audit.tree_root(bytea)","function","",null]
--@ ["owner","audit.tree_root(bytea)","","",null]
ALTER FUNCTION audit.tree_root(bytea) OWNER TO audit_maintainer;
--@ ["privilege","audit.tree_root(bytea)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.tree_root(bytea) TO audit_maintainer;
--@ ["function","audit.types_query(oid,text)","","f (relation oid, rows text) text",null]
CREATE OR REPLACE FUNCTION audit.types_query(relation oid, rows text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('SELECT ROW(%s)::text FROM (SELECT) AS one LEFT JOIN %s AS x %s ON false', string_agg(format('least(pg_typeof(x%s)::oid, 16384)', attnum), ', ' ORDER BY attnum), rows,
        audit.columns_alias(relation, 'x'))
    FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$function$
;
--@ ["object","audit.types_query(oid,text)","function","",null]
--@ ["owner","audit.types_query(oid,text)","","",null]
ALTER FUNCTION audit.types_query(oid,text) OWNER TO audit_maintainer;
--@ ["privilege","audit.types_query(oid,text)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.types_query(oid,text) TO audit_maintainer;
--@ ["function","audit.untrack(regclass)","","f (target regclass) void",null]
CREATE OR REPLACE FUNCTION audit.untrack(target regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    records constant regprocedure := (SELECT to_regprocedure(format('audit.%I()', 'record_change_' || t.id)) FROM audit.tracked_tables t WHERE t.target = untrack.target);
    made    record;
BEGIN
    -- Those of partitions that were detached too, if they are the caller's.
    FOR made IN SELECT g.tgrelid::regclass AS relation, g.tgname FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
        WHERE pg_has_role(c.relowner, 'USAGE') AND (g.tgfoid = records
            OR g.tgname = CASE g.tgrelid WHEN target THEN 'audit_change_count' ELSE 'audit_part_count' END AND EXISTS (SELECT FROM pg_trigger f WHERE f.tgrelid = g.tgrelid AND f.tgfoid = records))
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', made.tgname, made.relation);
    END LOOP;
    PERFORM audit.lend(target, true);
    PERFORM audit.forget_tracking(target);
    PERFORM audit.lend(target, false);
END
$function$
;
--@ ["object","audit.untrack(regclass)","function","",null]
--@ ["owner","audit.untrack(regclass)","","",null]
ALTER FUNCTION audit.untrack(regclass) OWNER TO audit_maintainer;
--@ ["privilege","audit.untrack(regclass)","[\"audit_operator\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.untrack(regclass) TO audit_operator;
--@ ["privilege","audit.untrack(regclass)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.untrack(regclass) TO audit_writer;
--@ ["privilege","audit.untrack(regclass)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.untrack(regclass) TO audit_maintainer;
--@ ["object","audit.user_agent_interactions","view","",null]
--@ ["owner","audit.user_agent_interactions","","",null]
ALTER VIEW audit.user_agent_interactions OWNER TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.user_agent_interactions TO audit_auditor;
--@ ["privilege","audit.user_agent_interactions","[\"audit_reader\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.user_agent_interactions TO audit_reader;
--@ ["privilege","audit.user_agent_interactions","[null, \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[null, \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[null, \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[null, \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[null, \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[null, \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["privilege","audit.user_agent_interactions","[null, \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.user_agent_interactions TO audit_owner;
--@ ["view","audit.user_agent_interactions","","[[\"tenant_id\", \"uuid\"], [\"user_id\", \"text\"], [\"agent_id\", \"uuid\"], [\"agent_name\", \"text\"], [\"executions\", \"bigint\"], [\"succeeded\", \"bigint\"], [\"executions_per_day\", \"double precision\"], [\"preferred_hour\", \"integer\"], [\"first_at\", \"timestamp with time zone\"], [\"last_at\", \"timestamp with time zone\"], [\"rating\", \"double precision\"], [\"favourite\", \"boolean\"]]",null]
CREATE OR REPLACE VIEW audit.user_agent_interactions WITH (security_invoker = true) AS
 SELECT r.tenant_id,
    r.user_id,
    r.agent_id,
    max(f.agent_name) AS agent_name,
    count(f.executed_at) AS executions,
    count(f.executed_at) FILTER (WHERE (r.status = 'succeeded'::audit.run_status)) AS succeeded,
    ((count(f.executed_at))::double precision / (((1)::numeric + EXTRACT(day FROM (max(f.executed_at) - min(f.executed_at)))))::double precision) AS executions_per_day,
    mode() WITHIN GROUP (ORDER BY ((EXTRACT(hour FROM (f.executed_at AT TIME ZONE 'UTC'::text)))::integer)) AS preferred_hour,
    min(f.executed_at) AS first_at,
    max(f.executed_at) AS last_at,
    (avg(f.rating))::double precision AS rating,
    (array_agg(f.favourite ORDER BY r.id DESC) FILTER (WHERE (f.favourite IS NOT NULL)))[1] AS favourite
   FROM ( SELECT events.id,
            events.tenant_id,
            events.user_id,
            events.agent_id,
            events.target_id,
            events.action_type,
            events.status,
            events.created_at,
            events.metadata
           FROM audit.events
          WHERE (events.action_type = ANY (ARRAY['agent_execution'::text, 'feedback'::text]))
        UNION ALL
         SELECT activities.id,
            activities.tenant_id,
            activities.user_id,
            activities.agent_id,
            activities.target_id,
            activities.action_type,
            activities.status,
            activities.created_at,
            activities.metadata
           FROM audit.activities
          WHERE (activities.action_type = ANY (ARRAY['agent_execution'::text, 'feedback'::text]))) r,
    LATERAL ( SELECT
                CASE r.action_type
                    WHEN 'agent_execution'::text THEN r.target_id
                    ELSE NULL::text
                END AS agent_name,
                CASE r.action_type
                    WHEN 'agent_execution'::text THEN r.created_at
                    ELSE NULL::timestamp with time zone
                END AS executed_at,
                CASE r.action_type
                    WHEN 'feedback'::text THEN audit.integer_of((r.metadata -> 'rating'::text))
                    ELSE NULL::bigint
                END AS rating,
                CASE r.action_type
                    WHEN 'feedback'::text THEN audit.boolean_of((r.metadata -> 'favourite'::text))
                    ELSE NULL::boolean
                END AS favourite) f
  WHERE (r.user_id IS NOT NULL)
  GROUP BY r.tenant_id, r.user_id, r.agent_id,
        CASE
            WHEN (r.agent_id IS NULL) THEN f.agent_name
            ELSE NULL::text
        END;
--@ ["function","audit.uuid_of(jsonb)","","f (value jsonb) uuid",null]
CREATE OR REPLACE FUNCTION audit.uuid_of(value jsonb)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ((value #>> '{}'::text[]) ~ '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$'::text) THEN ((value #>> '{}'::text[]))::uuid ELSE NULL::uuid END
;
--@ ["object","audit.uuid_of(jsonb)","function","",null]
--@ ["owner","audit.uuid_of(jsonb)","","",null]
ALTER FUNCTION audit.uuid_of(jsonb) OWNER TO audit_maintainer;
--@ ["privilege","audit.uuid_of(jsonb)","[\"audit_auditor\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.uuid_of(jsonb) TO audit_auditor;
--@ ["privilege","audit.uuid_of(jsonb)","[\"audit_reader\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.uuid_of(jsonb) TO audit_reader;
--@ ["privilege","audit.uuid_of(jsonb)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.uuid_of(jsonb) TO audit_maintainer;
--@ ["function","audit.value_expression(text,oid,integer)","","f (value text, type oid, most_bytes integer) text",null]
CREATE OR REPLACE FUNCTION audit.value_expression(value text, type oid, most_bytes integer)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    json text;
BEGIN
    -- Types that initdb makes; a domain is the host's. JSON is no jsonb: it may hold what jsonb refuses, and names twice.
    json := CASE WHEN type < 16384 AND type NOT IN ('json'::regtype, 'json[]'::regtype) THEN format('to_json(%s)::text', value)
        ELSE format('CASE WHEN num_nulls(%1$s) = 0 THEN to_json(format(''%%s'', %1$s))::text END', value) END;
    IF type >= 16384 OR (SELECT typlen FROM pg_type WHERE oid = type) < 0 THEN
        RETURN format('CASE WHEN octet_length(%1$s) > %3$s THEN audit.cut_value(format(''%%s'', %2$s), %3$s) ELSE coalesce(%1$s, ''null'') END', json, value, most_bytes);
    END IF;
    RETURN format('coalesce(%s, ''null'')', json);
END
$function$
;
--@ ["object","audit.value_expression(text,oid,integer)","function","",null]
--@ ["owner","audit.value_expression(text,oid,integer)","","",null]
ALTER FUNCTION audit.value_expression(text,oid,integer) OWNER TO audit_maintainer;
--@ ["privilege","audit.value_expression(text,oid,integer)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.value_expression(text,oid,integer) TO audit_maintainer;
--@ ["function","audit.writer_batches(uuid,bytea,bigint)","","f (writer uuid, secret bytea, since bigint) TABLE(first_seq bigint, last_seq bigint, mark bytea)",null]
CREATE OR REPLACE FUNCTION audit.writer_batches(writer uuid, secret bytea, since bigint)
 RETURNS TABLE(first_seq bigint, last_seq bigint, mark bytea)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
BEGIN
    PERFORM audit.check_writer(writer, secret);
    RETURN QUERY SELECT b.first_seq, b.last_seq, b.mark FROM audit.batches b
        WHERE b.writer_id = writer AND b.last_seq >= since AND b.first_seq >= coalesce((
            SELECT max(p.first_seq) FROM audit.batches p WHERE p.writer_id = writer AND p.first_seq <= since), 1)
        ORDER BY b.first_seq;
END
$function$
;
--@ ["object","audit.writer_batches(uuid,bytea,bigint)","function","",null]
--@ ["owner","audit.writer_batches(uuid,bytea,bigint)","","",null]
ALTER FUNCTION audit.writer_batches(uuid,bytea,bigint) OWNER TO audit_maintainer;
--@ ["privilege","audit.writer_batches(uuid,bytea,bigint)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.writer_batches(uuid,bytea,bigint) TO audit_writer;
--@ ["privilege","audit.writer_batches(uuid,bytea,bigint)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.writer_batches(uuid,bytea,bigint) TO audit_maintainer;
--@ ["function","audit.writer_position(uuid)","","f (writer uuid) bigint",null]
CREATE OR REPLACE FUNCTION audit.writer_position(writer uuid)
 RETURNS bigint
 LANGUAGE sql
 STABLE STRICT SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET row_security TO 'on'
 SET default_tablespace TO ''
 SET default_table_access_method TO 'heap'
AS $function$
    SELECT coalesce((
        -- No batch follows one at the end of bigint, but there is an answer.
        SELECT least(last_seq, 9223372036854775806) FROM audit.batches
        WHERE writer_id = writer ORDER BY first_seq DESC LIMIT 1), 0) + 1
$function$
;
--@ ["object","audit.writer_position(uuid)","function","",null]
--@ ["owner","audit.writer_position(uuid)","","",null]
ALTER FUNCTION audit.writer_position(uuid) OWNER TO audit_maintainer;
--@ ["privilege","audit.writer_position(uuid)","[\"audit_writer\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.writer_position(uuid) TO audit_writer;
--@ ["privilege","audit.writer_position(uuid)","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit.writer_position(uuid) TO audit_maintainer;
--@ ["column","audit.writers","login","","ALTER TABLE audit.writers ALTER COLUMN login TYPE text USING login::text;"]
ALTER TABLE audit.writers ADD COLUMN login text;
--@ ["column","audit.writers","registered_at","","ALTER TABLE audit.writers ALTER COLUMN registered_at TYPE timestamp with time zone USING registered_at::timestamp with time zone;"]
ALTER TABLE audit.writers ADD COLUMN registered_at timestamp with time zone;
--@ ["column","audit.writers","secret_sha256","","ALTER TABLE audit.writers ALTER COLUMN secret_sha256 TYPE bytea USING secret_sha256::bytea;"]
ALTER TABLE audit.writers ADD COLUMN secret_sha256 bytea;
--@ ["column","audit.writers","service_name","","ALTER TABLE audit.writers ALTER COLUMN service_name TYPE text USING service_name::text;"]
ALTER TABLE audit.writers ADD COLUMN service_name text;
--@ ["column","audit.writers","writer_id","","ALTER TABLE audit.writers ALTER COLUMN writer_id TYPE uuid USING writer_id::uuid;"]
ALTER TABLE audit.writers ADD COLUMN writer_id uuid;
--@ ["column default","audit.writers","registered_at","",null]
ALTER TABLE audit.writers ALTER COLUMN registered_at SET DEFAULT clock_timestamp();
--@ ["column not null","audit.writers","login","",null]
ALTER TABLE audit.writers ALTER COLUMN login SET NOT NULL;
--@ ["column not null","audit.writers","registered_at","",null]
ALTER TABLE audit.writers ALTER COLUMN registered_at SET NOT NULL;
--@ ["column not null","audit.writers","secret_sha256","",null]
ALTER TABLE audit.writers ALTER COLUMN secret_sha256 SET NOT NULL;
--@ ["column not null","audit.writers","writer_id","",null]
ALTER TABLE audit.writers ALTER COLUMN writer_id SET NOT NULL;
--@ ["columns","audit.writers","","[[\"writer_id\", \"uuid\"], [\"login\", \"text\"], [\"secret_sha256\", \"bytea\"], [\"service_name\", \"text\"], [\"registered_at\", \"timestamp with time zone\"]]",null]
--@ ["constraint","audit.writers","writers_pkey",null,null]
ALTER TABLE audit.writers ADD CONSTRAINT writers_pkey PRIMARY KEY (writer_id);
--@ ["constraint","audit.writers","writers_secret_sha256_check",null,null]
ALTER TABLE audit.writers ADD CONSTRAINT writers_secret_sha256_check CHECK ((octet_length(secret_sha256) = 32));
--@ ["constraint","audit.writers","writers_service_name_check",null,null]
ALTER TABLE audit.writers ADD CONSTRAINT writers_service_name_check CHECK ((octet_length(service_name) <= 1024));
--@ ["forced row security","audit.writers","","",null]
ALTER TABLE audit.writers FORCE ROW LEVEL SECURITY;
--@ ["logged","audit.writers","","",null]
ALTER TABLE audit.writers SET LOGGED;
--@ ["object","audit.writers","table","",null]
--@ ["owner","audit.writers","","",null]
ALTER TABLE audit.writers OWNER TO audit_owner;
--@ ["policy","audit.writers","adding",null,null]
CREATE POLICY adding ON audit.writers FOR INSERT TO audit_maintainer WITH CHECK (true);
--@ ["policy","audit.writers","auditor",null,null]
CREATE POLICY auditor ON audit.writers FOR SELECT TO audit_auditor USING (true);
--@ ["policy","audit.writers","maintainer",null,null]
CREATE POLICY maintainer ON audit.writers FOR SELECT TO audit_maintainer USING (true);
--@ ["privilege","audit.writers","[\"audit_auditor\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.writers TO audit_auditor;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit.writers TO audit_maintainer;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit.writers TO audit_maintainer;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit.writers TO audit_maintainer;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit.writers TO audit_maintainer;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit.writers TO audit_maintainer;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit.writers TO audit_maintainer;
--@ ["privilege","audit.writers","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit.writers TO audit_maintainer;
--@ ["row security","audit.writers","","",null]
ALTER TABLE audit.writers ENABLE ROW LEVEL SECURITY;
--@ ["table","audit.writers","","r ","[\"audit\", \"writers\"]"]
--@ ["trigger","audit.writers","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.writers FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.writers ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit.writers FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.writers ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit.writers","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.writers FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit.writers ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit.writers FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit.writers ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["object","audit_guard","schema","",null]
CREATE SCHEMA audit_guard;
--@ ["owner","audit_guard","","",null]
ALTER SCHEMA audit_guard OWNER TO CURRENT_USER;
--@ ["privilege","audit_guard","[null, \"CREATE\", \"\"]","",null]
GRANT CREATE ON SCHEMA audit_guard TO postgres;
--@ ["privilege","audit_guard","[null, \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit_guard TO postgres;
--@ ["function","audit_guard.refuse_ddl()","","f () event_trigger",null]
CREATE OR REPLACE FUNCTION audit_guard.refuse_ddl()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
DECLARE
    guarded constant text[] := ARRAY['audit', 'audit_parts', 'audit_guard'];
    could_switch_this_off constant boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    refused text;
BEGIN
    -- The trail's own functions, whose role nobody can take.
    IF current_user = 'audit_maintainer' THEN
        RETURN;
    END IF;
    -- A session runs as audit_owner only while Postgres checks a foreign key, and then a host's code may run: refuse
    -- all DDL.
    IF current_user = 'audit_owner' THEN
        RAISE EXCEPTION 'audit trail: % by audit_owner is refused', TG_TAG USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- If the transaction's snapshot is older than the trail, the queries below would not see the trail, though perhaps another
    -- schema of its name.
    IF to_regnamespace('audit') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid = to_regnamespace('audit'))
        OR to_regnamespace('audit_parts') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid = to_regnamespace('audit_parts'))
    THEN
        RAISE EXCEPTION 'audit trail: % is refused in a transaction that began before there was the trail', TG_TAG
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Begin it again.';
    END IF;
    -- Postgres checks a foreign key with the rights of the referenced table's owner, including casts of the key's
    -- column. A cast of a user-defined type would therefore run with the trail's rights, so every command that leaves
    -- such a key fails, also for a superuser. One that came while this was switched off keeps no superuser from other
    -- work. Found through pg_depend, because pg_constraint has no index on confrelid.
    IF TG_EVENT = 'ddl_command_end' THEN
        SELECT format('%I of table %s', k.conname, k.conrelid::regclass) INTO refused
        FROM pg_depend s JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.objid AND d.classid = 'pg_constraint'::regclass
        JOIN pg_constraint k ON k.oid = d.objid AND k.contype = 'f' AND k.confrelid = s.objid
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
        -- A type that the snapshot does not show counts as not from pg_catalog.
        LEFT JOIN pg_type kt ON kt.oid = a.atttypid
        WHERE s.refclassid = 'pg_namespace'::regclass AND s.refobjid IN (to_regnamespace('audit'), to_regnamespace('audit_parts')) AND s.classid = 'pg_class'::regclass
            AND NOT EXISTS (
                WITH RECURSIVE base AS (
                    SELECT kt.typbasetype, kt.typnamespace UNION ALL SELECT d.typbasetype, d.typnamespace FROM base JOIN pg_type d ON d.oid = base.typbasetype)
                SELECT FROM base WHERE typbasetype = 0 AND typnamespace = 'pg_catalog'::regnamespace)
            AND (NOT could_switch_this_off OR k.conrelid IN (
                SELECT o.objid FROM pg_event_trigger_ddl_commands() o WHERE o.classid = 'pg_class'::regclass))
        LIMIT 1;
        IF refused IS NOT NULL THEN
            RAISE EXCEPTION 'audit trail: the foreign key % is refused, for a cast of its column would run with the rights of the trail', refused
                USING ERRCODE = 'insufficient_privilege', HINT = 'Its column must be of a type of Postgres itself, as uuid, or of a domain over one.';
        END IF;
    END IF;
    IF could_switch_this_off THEN
        RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
        SELECT object_identity INTO refused FROM pg_event_trigger_dropped_objects()
        -- For an object on a table (trigger, policy), only address_names holds the schema: schema, table, name.
        WHERE (schema_name = ANY (guarded) OR (object_type = 'schema' OR cardinality(address_names) = 3) AND address_names[1] = ANY (guarded))
            -- A host's foreign key has triggers on both tables, and they go with it.
            AND NOT (object_type = 'trigger' AND address_names[3] LIKE 'RI\_ConstraintTrigger\_%') LIMIT 1;
    ELSIF TG_TAG = 'REASSIGN OWNED' THEN
        -- REASSIGN OWNED does not report which objects it changed.
        SELECT c.oid::regclass::text INTO refused FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('audit', 'audit_parts')
            AND (c.relkind IN ('r', 'p', 'v') AND c.relowner <> to_regrole('audit_owner') OR n.nspowner <> to_regrole('audit_owner')) LIMIT 1;
    ELSIF TG_TAG NOT IN ('REINDEX', 'COMMENT', 'GRANT', 'REVOKE') THEN
        SELECT o.object_identity INTO refused FROM pg_event_trigger_ddl_commands() o
        LEFT JOIN pg_class c ON c.oid = CASE o.classid
            WHEN 'pg_class'::regclass THEN o.objid
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = o.objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = o.objid)
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = o.objid)
        END
        LEFT JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
        LEFT JOIN pg_type t ON o.classid = 'pg_type'::regclass AND t.oid = o.objid
        LEFT JOIN pg_extension e ON o.classid = 'pg_extension'::regclass AND e.oid = o.objid
        LEFT JOIN pg_namespace n ON n.oid = CASE WHEN o.classid = 'pg_namespace'::regclass THEN o.objid
            ELSE coalesce(c.relnamespace, p.pronamespace, t.typnamespace, e.extnamespace) END
        WHERE n.nspname = ANY (guarded) OR o.schema_name = ANY (guarded)
            -- The script of a trusted extension runs as a superuser, whoever asks for it.
            OR EXISTS (SELECT FROM pg_depend m JOIN pg_depend s ON s.classid = m.classid AND s.objid = m.objid
                JOIN pg_namespace sn ON s.refclassid = 'pg_namespace'::regclass AND sn.oid = s.refobjid
                WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid AND m.deptype = 'e' AND sn.nspname = ANY (guarded))
            -- A table of somebody's own that is read as a part of one of these.
            OR EXISTS (SELECT FROM pg_inherits i JOIN pg_class parent ON parent.oid = i.inhparent
                WHERE i.inhrelid = c.oid AND parent.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY (guarded)))
            -- What was renamed or moved out of its schema just now.
            OR coalesce(c.relowner, p.proowner, t.typowner, n.nspowner) IN (to_regrole('audit_owner'), to_regrole('audit_maintainer'))
        LIMIT 1;
    END IF;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION 'audit trail: % of % is refused', TG_TAG, refused
            USING ERRCODE = 'insufficient_privilege', HINT = 'Only a superuser and the functions of the trail may.';
    END IF;
END
$function$
;
--@ ["object","audit_guard.refuse_ddl()","function","",null]
--@ ["owner","audit_guard.refuse_ddl()","","",null]
ALTER FUNCTION audit_guard.refuse_ddl() OWNER TO CURRENT_USER;
--@ ["privilege","audit_guard.refuse_ddl()","[\"PUBLIC\", \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit_guard.refuse_ddl() TO PUBLIC;
--@ ["privilege","audit_guard.refuse_ddl()","[null, \"EXECUTE\", \"\"]","",null]
GRANT EXECUTE ON ROUTINE audit_guard.refuse_ddl() TO postgres;
--@ ["object","audit_parts","schema","",null]
CREATE SCHEMA audit_parts;
--@ ["owner","audit_parts","","",null]
ALTER SCHEMA audit_parts OWNER TO audit_owner;
--@ ["privilege","audit_parts","[\"audit_writer\", \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit_parts TO audit_writer;
--@ ["privilege","audit_parts","[null, \"CREATE\", \"\"]","",null]
GRANT CREATE ON SCHEMA audit_parts TO audit_owner;
--@ ["privilege","audit_parts","[null, \"USAGE\", \"\"]","",null]
GRANT USAGE ON SCHEMA audit_parts TO audit_owner;
--@ ["constraint","audit_parts.activities_YYYY_MM","activities_YYYY_MM_time",null,null]
ALTER TABLE audit_parts.activities_YYYY_MM ADD CONSTRAINT activities_YYYY_MM_time CHECK (((created_at >= '{from}'::timestamp with time zone) AND (created_at < '{to}'::timestamp with time zone)));
--@ ["forced row security","audit_parts.activities_YYYY_MM","","",null]
ALTER TABLE audit_parts.activities_YYYY_MM NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.activities_YYYY_MM","","",null]
ALTER TABLE audit_parts.activities_YYYY_MM SET LOGGED;
--@ ["owner","audit_parts.activities_YYYY_MM","","",null]
ALTER TABLE audit_parts.activities_YYYY_MM OWNER TO audit_owner;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.activities_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.activities_YYYY_MM","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.activities_YYYY_MM TO audit_writer;
--@ ["row security","audit_parts.activities_YYYY_MM","","",null]
ALTER TABLE audit_parts.activities_YYYY_MM DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.activities_YYYY_MM","","r ","[\"audit_parts\", \"activities_YYYY_MM\"]"]
--@ ["trigger","audit_parts.activities_YYYY_MM","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.activities_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.activities_YYYY_MM ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.activities_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.activities_YYYY_MM ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.activities_YYYY_MM","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.activities_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.activities_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.activities_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.activities_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.activities_default","activities_default_time",null,null]
ALTER TABLE audit_parts.activities_default ADD CONSTRAINT activities_default_time CHECK ((date_trunc('day'::text, (created_at AT TIME ZONE 'UTC'::text)) = date_trunc('day'::text, (to_timestamp(((((('x'::text || translate("left"((id)::text, 13), '-'::text, ''::text)))::bit(48))::bigint / 1000))::double precision) AT TIME ZONE 'UTC'::text))));
--@ ["forced row security","audit_parts.activities_default","","",null]
ALTER TABLE audit_parts.activities_default NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.activities_default","","",null]
ALTER TABLE audit_parts.activities_default SET LOGGED;
--@ ["owner","audit_parts.activities_default","","",null]
ALTER TABLE audit_parts.activities_default OWNER TO audit_owner;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.activities_default TO audit_maintainer;
--@ ["privilege","audit_parts.activities_default","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.activities_default TO audit_writer;
--@ ["row security","audit_parts.activities_default","","",null]
ALTER TABLE audit_parts.activities_default DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.activities_default","","r ","[\"audit_parts\", \"activities_default\"]"]
--@ ["trigger","audit_parts.activities_default","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.activities_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.activities_default ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.activities_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.activities_default ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.activities_default","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.activities_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.activities_default ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.activities_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.activities_default ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.events_YYYY_MM","events_YYYY_MM_time",null,null]
ALTER TABLE audit_parts.events_YYYY_MM ADD CONSTRAINT events_YYYY_MM_time CHECK (((created_at >= '{from}'::timestamp with time zone) AND (created_at < '{to}'::timestamp with time zone)));
--@ ["forced row security","audit_parts.events_YYYY_MM","","",null]
ALTER TABLE audit_parts.events_YYYY_MM NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.events_YYYY_MM","","",null]
ALTER TABLE audit_parts.events_YYYY_MM SET LOGGED;
--@ ["owner","audit_parts.events_YYYY_MM","","",null]
ALTER TABLE audit_parts.events_YYYY_MM OWNER TO audit_owner;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.events_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.events_YYYY_MM","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.events_YYYY_MM TO audit_writer;
--@ ["row security","audit_parts.events_YYYY_MM","","",null]
ALTER TABLE audit_parts.events_YYYY_MM DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.events_YYYY_MM","","r ","[\"audit_parts\", \"events_YYYY_MM\"]"]
--@ ["trigger","audit_parts.events_YYYY_MM","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.events_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.events_YYYY_MM ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.events_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.events_YYYY_MM ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.events_YYYY_MM","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.events_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.events_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.events_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.events_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.events_default","events_default_time",null,null]
ALTER TABLE audit_parts.events_default ADD CONSTRAINT events_default_time CHECK ((date_trunc('day'::text, (created_at AT TIME ZONE 'UTC'::text)) = date_trunc('day'::text, (to_timestamp(((((('x'::text || translate("left"((id)::text, 13), '-'::text, ''::text)))::bit(48))::bigint / 1000))::double precision) AT TIME ZONE 'UTC'::text))));
--@ ["forced row security","audit_parts.events_default","","",null]
ALTER TABLE audit_parts.events_default NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.events_default","","",null]
ALTER TABLE audit_parts.events_default SET LOGGED;
--@ ["owner","audit_parts.events_default","","",null]
ALTER TABLE audit_parts.events_default OWNER TO audit_owner;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.events_default TO audit_maintainer;
--@ ["privilege","audit_parts.events_default","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.events_default TO audit_writer;
--@ ["row security","audit_parts.events_default","","",null]
ALTER TABLE audit_parts.events_default DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.events_default","","r ","[\"audit_parts\", \"events_default\"]"]
--@ ["trigger","audit_parts.events_default","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.events_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.events_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.events_default","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.events_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.events_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.events_default ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.prompt_runs_YYYY_MM","prompt_runs_YYYY_MM_time",null,null]
ALTER TABLE audit_parts.prompt_runs_YYYY_MM ADD CONSTRAINT prompt_runs_YYYY_MM_time CHECK (((created_at >= '{from}'::timestamp with time zone) AND (created_at < '{to}'::timestamp with time zone)));
--@ ["forced row security","audit_parts.prompt_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.prompt_runs_YYYY_MM NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.prompt_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.prompt_runs_YYYY_MM SET LOGGED;
--@ ["owner","audit_parts.prompt_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.prompt_runs_YYYY_MM OWNER TO audit_owner;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_YYYY_MM","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.prompt_runs_YYYY_MM TO audit_writer;
--@ ["row security","audit_parts.prompt_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.prompt_runs_YYYY_MM DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.prompt_runs_YYYY_MM","","r ","[\"audit_parts\", \"prompt_runs_YYYY_MM\"]"]
--@ ["trigger","audit_parts.prompt_runs_YYYY_MM","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.prompt_runs_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.prompt_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.prompt_runs_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.prompt_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.prompt_runs_YYYY_MM","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.prompt_runs_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.prompt_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.prompt_runs_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.prompt_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.prompt_runs_default","prompt_runs_default_time",null,null]
ALTER TABLE audit_parts.prompt_runs_default ADD CONSTRAINT prompt_runs_default_time CHECK ((date_trunc('day'::text, (created_at AT TIME ZONE 'UTC'::text)) = date_trunc('day'::text, (to_timestamp(((((('x'::text || translate("left"((id)::text, 13), '-'::text, ''::text)))::bit(48))::bigint / 1000))::double precision) AT TIME ZONE 'UTC'::text))));
--@ ["forced row security","audit_parts.prompt_runs_default","","",null]
ALTER TABLE audit_parts.prompt_runs_default NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.prompt_runs_default","","",null]
ALTER TABLE audit_parts.prompt_runs_default SET LOGGED;
--@ ["owner","audit_parts.prompt_runs_default","","",null]
ALTER TABLE audit_parts.prompt_runs_default OWNER TO audit_owner;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.prompt_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.prompt_runs_default","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.prompt_runs_default TO audit_writer;
--@ ["row security","audit_parts.prompt_runs_default","","",null]
ALTER TABLE audit_parts.prompt_runs_default DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.prompt_runs_default","","r ","[\"audit_parts\", \"prompt_runs_default\"]"]
--@ ["trigger","audit_parts.prompt_runs_default","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.prompt_runs_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.prompt_runs_default ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.prompt_runs_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.prompt_runs_default ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.prompt_runs_default","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.prompt_runs_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.prompt_runs_default ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.prompt_runs_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.prompt_runs_default ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.query_runs_YYYY_MM","query_runs_YYYY_MM_time",null,null]
ALTER TABLE audit_parts.query_runs_YYYY_MM ADD CONSTRAINT query_runs_YYYY_MM_time CHECK (((started_at >= '{from}'::timestamp with time zone) AND (started_at < '{to}'::timestamp with time zone)));
--@ ["forced row security","audit_parts.query_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.query_runs_YYYY_MM NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.query_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.query_runs_YYYY_MM SET LOGGED;
--@ ["owner","audit_parts.query_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.query_runs_YYYY_MM OWNER TO audit_owner;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.query_runs_YYYY_MM TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_YYYY_MM","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.query_runs_YYYY_MM TO audit_writer;
--@ ["row security","audit_parts.query_runs_YYYY_MM","","",null]
ALTER TABLE audit_parts.query_runs_YYYY_MM DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.query_runs_YYYY_MM","","r ","[\"audit_parts\", \"query_runs_YYYY_MM\"]"]
--@ ["trigger","audit_parts.query_runs_YYYY_MM","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.query_runs_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.query_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.query_runs_YYYY_MM FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.query_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.query_runs_YYYY_MM","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.query_runs_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.query_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.query_runs_YYYY_MM FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.query_runs_YYYY_MM ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["constraint","audit_parts.query_runs_default","query_runs_default_time",null,null]
ALTER TABLE audit_parts.query_runs_default ADD CONSTRAINT query_runs_default_time CHECK ((date_trunc('day'::text, (started_at AT TIME ZONE 'UTC'::text)) = date_trunc('day'::text, (to_timestamp(((((('x'::text || translate("left"((id)::text, 13), '-'::text, ''::text)))::bit(48))::bigint / 1000))::double precision) AT TIME ZONE 'UTC'::text))));
--@ ["forced row security","audit_parts.query_runs_default","","",null]
ALTER TABLE audit_parts.query_runs_default NO FORCE ROW LEVEL SECURITY;
--@ ["logged","audit_parts.query_runs_default","","",null]
ALTER TABLE audit_parts.query_runs_default SET LOGGED;
--@ ["owner","audit_parts.query_runs_default","","",null]
ALTER TABLE audit_parts.query_runs_default OWNER TO audit_owner;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"DELETE\", \"\"]","",null]
GRANT DELETE ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"REFERENCES\", \"\"]","",null]
GRANT REFERENCES ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"SELECT\", \"\"]","",null]
GRANT SELECT ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"TRIGGER\", \"\"]","",null]
GRANT TRIGGER ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"TRUNCATE\", \"\"]","",null]
GRANT TRUNCATE ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_maintainer\", \"UPDATE\", \"\"]","",null]
GRANT UPDATE ON TABLE audit_parts.query_runs_default TO audit_maintainer;
--@ ["privilege","audit_parts.query_runs_default","[\"audit_writer\", \"INSERT\", \"\"]","",null]
GRANT INSERT ON TABLE audit_parts.query_runs_default TO audit_writer;
--@ ["row security","audit_parts.query_runs_default","","",null]
ALTER TABLE audit_parts.query_runs_default DISABLE ROW LEVEL SECURITY;
--@ ["table","audit_parts.query_runs_default","","r ","[\"audit_parts\", \"query_runs_default\"]"]
--@ ["trigger","audit_parts.query_runs_default","append_only","CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.query_runs_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.query_runs_default ENABLE ALWAYS TRIGGER append_only;"]
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit_parts.query_runs_default FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.query_runs_default ENABLE ALWAYS TRIGGER append_only;
--@ ["trigger","audit_parts.query_runs_default","append_only_rows","CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.query_runs_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()","ALTER TABLE audit_parts.query_runs_default ENABLE ALWAYS TRIGGER append_only_rows;"]
CREATE TRIGGER append_only_rows BEFORE DELETE OR UPDATE ON audit_parts.query_runs_default FOR EACH ROW EXECUTE FUNCTION audit.refuse_change(); ALTER TABLE audit_parts.query_runs_default ENABLE ALWAYS TRIGGER append_only_rows;
--@ ["event trigger","audit_refuse_ddl","","ddl_command_endaudit_guard.refuse_ddl()","ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS;"]
CREATE EVENT TRIGGER audit_refuse_ddl ON ddl_command_end EXECUTE FUNCTION audit_guard.refuse_ddl(); ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS;
--@ ["owner","audit_refuse_ddl","","",null]
ALTER EVENT TRIGGER audit_refuse_ddl OWNER TO CURRENT_USER;
--@ ["event trigger","audit_refuse_drop","","sql_dropaudit_guard.refuse_ddl()","ALTER EVENT TRIGGER audit_refuse_drop ENABLE ALWAYS;"]
CREATE EVENT TRIGGER audit_refuse_drop ON sql_drop EXECUTE FUNCTION audit_guard.refuse_ddl(); ALTER EVENT TRIGGER audit_refuse_drop ENABLE ALWAYS;
--@ ["owner","audit_refuse_drop","","",null]
ALTER EVENT TRIGGER audit_refuse_drop OWNER TO CURRENT_USER;
