-- The ledger: what was changed, removed or inserted afterwards is found, whoever did it.
--
-- Each batch is an entry of one log, a Merkle tree of RFC 6962 whose root is signed and published outside of the database
-- (docs/ledger-format.md). An entry is made of the batch's own row and the root of its rows' hashes. The library sends that root
-- with the batch; where the database has made the rows itself, audit.seal computes it.
--
-- audit.seal does all of it in one transaction, and takes nothing from its caller but how much to do: whoever may call it can
-- neither choose what is sealed nor in which order. So any number of programs may call it, and all see one log.

-- What is hashed ---------------------------------------------------------------------

-- A value as COPY (FORMAT binary) sends it: its length in four bytes, then its bytes; the length of NULL is -1.
CREATE FUNCTION audit.image(value bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(int4send(octet_length(value)) || value, '\xffffffff');
COMMENT ON FUNCTION audit.image(bytea) IS 'A value as it is hashed: its length, then its bytes; for the functions of the trail.';

-- Not by textsend and its like, which convert to the encoding of the client.
CREATE FUNCTION audit.text_image(value text) RETURNS bytea
    -- As convert_to is: else it would not be inlined.
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(int4send(octet_length(value)) || convert_to(value, 'UTF8'), '\xffffffff');
COMMENT ON FUNCTION audit.text_image(text) IS 'A text as it is hashed; for the functions of the trail.';

CREATE FUNCTION audit.texts_image(list text[]) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT audit.image(CASE WHEN list IS NOT NULL THEN
        int4send(coalesce(array_ndims(list), 0)) || int4send((EXISTS (SELECT FROM unnest(list) e WHERE e IS NULL))::integer) || int4send(25)
        || coalesce((SELECT string_agg(int4send(array_length(list, d)) || int4send(array_lower(list, d)), '' ORDER BY d) FROM generate_series(1, array_ndims(list)) d), '')
        || coalesce((SELECT string_agg(audit.text_image(e), '' ORDER BY place) FROM unnest(list) WITH ORDINALITY AS u (e, place)), '') END)
$$;
COMMENT ON FUNCTION audit.texts_image(text[]) IS 'A list of texts as it is hashed; for the functions of the trail.';

-- What most rows have is known without a call.
CREATE FUNCTION audit.notes_image(list text[]) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN list = '{}' THEN '\x0000000c000000000000000000000019' ELSE audit.texts_image(list) END;
COMMENT ON FUNCTION audit.notes_image(text[]) IS 'The problems or the redactions of a row as they are hashed; for the functions of the trail.';

-- The columns of a table as they are hashed, in their order: core, which stays, or content, which may be erased. Frozen: format 1.
CREATE FUNCTION audit.leaf_columns(parent text, is_core boolean) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION audit.leaf_columns(text, boolean) IS 'The columns of a record table that are hashed, in their order: those that stay (core), or those that may be erased; for the functions of the trail.';

-- The expression for the bytes of these columns of a row r.
CREATE FUNCTION audit.images_expression(parent text, is_core boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
AS $$
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
$$;
COMMENT ON FUNCTION audit.images_expression(text, boolean) IS 'The expression for the bytes of a row that are hashed; for the functions of the trail.';

-- A query for the rows of a leaf, as r, with their hashes. `place` and `day` are what a batch's leaves are ordered by, before seq.
CREATE FUNCTION audit.leaves_query(parent text, leaf text, condition text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
AS $$
    SELECT format(
        'SELECT %s AS place, h.day, h.seq, h.id, h.writer_id, h.content_hash, sha256(h.core || h.content_hash) AS leaf_hash FROM (
            SELECT r.id, r.writer_id, r.seq, audit.day_of(r.id) AS day, ''\x0001''::bytea || audit.text_image(%L) || %s AS core,
                -- What was erased is proven by the hash that it had.
                coalesce((SELECT e.content_hash FROM audit.erasures e WHERE e.id = r.id AND e.writer_id = r.writer_id AND e.seq = r.seq ORDER BY e.number LIMIT 1), sha256(%s)) AS content_hash
            FROM audit_parts.%I r WHERE %s OFFSET 0) h',
        array_position(audit.record_tables(), parent), parent, audit.images_expression(parent, true), audit.images_expression(parent, false), leaf, condition)
$$;
COMMENT ON FUNCTION audit.leaves_query(text, text, text) IS 'The query for the hashes of rows of a partition; for the functions of the trail.';

-- The day of a record by the time in its id: months, weeks and days are made up of days, so what any partition has of a batch are
-- neighbours in its tree.
CREATE FUNCTION audit.day_of(id uuid) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (('x' || encode(substring(uuid_send(id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint / 86400000)::integer;
COMMENT ON FUNCTION audit.day_of(uuid) IS 'The day of a record''s id in UTC, counted from 1970-01-01; for the functions of the trail.';

-- The tree -----------------------------------------------------------------------------

-- RFC 6962, section 2.1: of two neighbours one node; what has none goes up as it is.
CREATE FUNCTION audit.tree_root(hashes bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
AS $$
BEGIN
    WHILE octet_length(hashes) > 32 LOOP
        SELECT string_agg(CASE WHEN i + 63 <= octet_length(hashes) THEN sha256('\x01'::bytea || substring(hashes FROM i FOR 64)) ELSE substring(hashes FROM i FOR 32) END, '' ORDER BY i)
            INTO hashes FROM generate_series(1, octet_length(hashes), 64) i;
    END LOOP;
    RETURN hashes;
END
$$;
COMMENT ON FUNCTION audit.tree_root(bytea) IS 'The root of the Merkle tree over hashes of leaves, which follow each other with 32 bytes each; for the functions of the trail.';

-- Hashes that stand for leaves [from_leaf, to_leaf) of a tree: of the largest full subtrees that the range is made of, from the left.
CREATE FUNCTION audit.tree_cover(hashes bytea, from_leaf bigint) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION audit.tree_cover(bytea, bigint) IS 'What stands for leaves that follow each other in a Merkle tree, the first at from_leaf: the roots of the largest full subtrees that they are made of; for the functions of the trail.';

-- The log --------------------------------------------------------------------------------

CREATE TABLE audit.ledger (
    index     bigint NOT NULL PRIMARY KEY CHECK (index >= 0),
    writer_id    uuid   NOT NULL,
    first_seq    bigint NOT NULL,
    root         bytea  CHECK (octet_length(root) = 32),
    previous     bytea  CHECK (octet_length(previous) = 32),
    fingerprints bytea,
    entry_hash   bytea  NOT NULL CHECK (octet_length(entry_hash) = 32),
    UNIQUE (writer_id, first_seq)
);
COMMENT ON TABLE audit.ledger IS 'The log: an entry for each batch that was sealed.';
COMMENT ON COLUMN audit.ledger.index IS 'Its place in the log, from 0.';
COMMENT ON COLUMN audit.ledger.root IS 'The root of the batch''s rows; NULL where they were not all there any more when it was sealed.';
COMMENT ON COLUMN audit.ledger.previous IS 'The hash of the entry before this one of the same writer.';
COMMENT ON COLUMN audit.ledger.fingerprints IS 'The fingerprints of a batch that came without them, as audit.batches.fingerprints.';
COMMENT ON COLUMN audit.ledger.entry_hash IS 'The hash of the entry as a leaf of the log''s Merkle tree (RFC 6962).';

CREATE TABLE audit.ledger_nodes (
    level smallint NOT NULL CHECK (level BETWEEN 1 AND 7),
    index bigint   NOT NULL CHECK (index >= 0),
    hash  bytea    NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, index)
);
COMMENT ON TABLE audit.ledger_nodes IS 'The roots of the full subtrees of the log with 256, 65536 and so on entries.';
COMMENT ON COLUMN audit.ledger_nodes.level IS 'The subtree has 256 to the power of this entries.';

CREATE TABLE audit.checkpoint (
    is_newest boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (is_newest),
    origin    text        NOT NULL CHECK (octet_length(origin) BETWEEN 1 AND 1024),
    size      bigint      NOT NULL CHECK (size >= 0),
    note      text        NOT NULL CHECK (octet_length(note) <= 65536),
    signed_at timestamptz NOT NULL
);
COMMENT ON TABLE audit.checkpoint IS 'The newest checkpoint, as a convenience: it proves nothing, since it is in the database whose state it is to prove. Those that prove are published elsewhere.';

-- How many leaves of a batch's tree stand before those of a table and a day.
CREATE FUNCTION audit.leaves_before(place integer, day integer, writer uuid, batch bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
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
$$;
COMMENT ON FUNCTION audit.leaves_before(integer, integer, uuid, bigint) IS 'How many leaves of a batch''s Merkle tree stand before those of a table and a day; for the functions of the trail.';

-- The bytes of an entry. Frozen: format 1.
-- In plpgsql, whose plans are kept.
CREATE FUNCTION audit.ledger_entry(writer uuid, batch bigint, root bytea, previous bytea) RETURNS bytea
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
AS $$
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
$$;
COMMENT ON FUNCTION audit.ledger_entry(uuid, bigint, bytea, bytea) IS 'The entry of the log for a batch; NULL if there is none. For the functions of the trail.';

-- The root of the tree of each of these batches, and its fingerprints. A batch some of whose rows are not there is not among the answers,
-- nor one by a program whose ids are of more than two months: to look for its rows would be to look at all that there are.
CREATE FUNCTION audit.hash_batches(writers uuid[], firsts bigint[])
    RETURNS TABLE (writer_id uuid, first_seq bigint, root bytea, fingerprints bytea)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
    SET jit = 'off'
    -- By the ids of its rows, however few batches Postgres expects.
    SET enable_seqscan = 'off'
    SET max_parallel_workers_per_gather = '0'
AS $$
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
$$;
COMMENT ON FUNCTION audit.hash_batches(uuid[], bigint[]) IS 'The roots of batches, by their writers and first seqs, as far as their rows are there; for the functions of the trail.';

CREATE FUNCTION audit.seal(since xid8 DEFAULT '0', most integer DEFAULT 2000, OUT size bigint, OUT sealed bigint, OUT next xid8)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
AS $$
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
$$;
COMMENT ON FUNCTION audit.seal(xid8, integer) IS 'Adds batches that are not in the log yet to its end, at most so many, of transactions since one (0: all). Returns the size of the log, how many were added, and since which transaction to ask next.';

CREATE FUNCTION audit.ledger_entries(from_index bigint, most integer) RETURNS TABLE (index bigint, entry bytea, entry_hash bytea)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.index, audit.ledger_entry(l.writer_id, l.first_seq, l.root, l.previous), l.entry_hash FROM audit.ledger l
    WHERE l.index >= from_index AND l.index < from_index + least(greatest(most, 0), 100000) ORDER BY l.index
$$;
COMMENT ON FUNCTION audit.ledger_entries(bigint, integer) IS 'Entries of the log as they are published, from a index on; NULL where the batch is not there.';

CREATE FUNCTION audit.note_checkpoint(origin text, size bigint, note text, signed_at timestamptz) RETURNS void
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF size > coalesce((SELECT max(l.index) + 1 FROM audit.ledger l), 0) THEN
        RAISE EXCEPTION 'audit trail: the checkpoint is of more entries than the log has' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- No later than now, so that its age can be told by it.
    INSERT INTO audit.checkpoint AS c (origin, size, note, signed_at) VALUES (origin, size, note, least(signed_at, clock_timestamp()))
        ON CONFLICT (is_newest) DO UPDATE SET origin = excluded.origin, size = excluded.size, note = excluded.note, signed_at = excluded.signed_at
        WHERE c.size <= excluded.size;
END
$$;
COMMENT ON FUNCTION audit.note_checkpoint(text, bigint, text, timestamptz) IS 'Keeps the newest checkpoint beside the log; one of fewer entries than the last is ignored.';

-- Erasure ----------------------------------------------------------------------------

CREATE TABLE audit.erasures (
    number         bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    erasure_id     uuid   NOT NULL,
    table_name     text   NOT NULL,
    id             uuid   NOT NULL,
    writer_id      uuid   NOT NULL,
    seq            bigint NOT NULL,
    fields         text[] NOT NULL,
    content_hash   bytea  NOT NULL CHECK (octet_length(content_hash) = 32),
    remaining_hash bytea  NOT NULL CHECK (octet_length(remaining_hash) = 32)
);
CREATE INDEX erasures_id_idx ON audit.erasures (id);
CREATE INDEX erasures_erasure_id_idx ON audit.erasures (erasure_id);
COMMENT ON TABLE audit.erasures IS 'What was erased: for each row and erasure the hash of the content that it had, by which the rest of the row is still proven, and of what is left.';
COMMENT ON COLUMN audit.erasures.erasure_id IS 'The target of the event audit.erased, which says who did it, when and why, and has a hash of these rows.';
COMMENT ON COLUMN audit.erasures.fields IS 'The columns, and members of metadata, that were emptied.';

-- What sets the columns of a table to nothing.
CREATE FUNCTION audit.emptying(parent text, fields text[]) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(CASE
        WHEN c.name IN ('problems', 'redactions') THEN format('%I = ''{}''', c.name)
        WHEN c.name <> 'metadata' THEN format('%I = NULL', c.name)
        WHEN fields IS NULL OR 'metadata' = ANY (fields) THEN 'metadata = ''{}'''
        ELSE format('metadata = r.metadata - %L::text[]', members.names) END, ', ')
    FROM unnest(audit.leaf_columns(parent, false)) c (name), (SELECT array_agg(substring(f FROM 10)) AS names FROM unnest(fields) f WHERE f LIKE 'metadata.%') members
    WHERE c.name <> 'salt' AND (fields IS NULL OR c.name = ANY (fields) OR c.name = 'metadata' AND members.names IS NOT NULL)
$$;
COMMENT ON FUNCTION audit.emptying(text, text[]) IS 'The assignments that empty fields of a record table; NULL if it has none of them. For the functions of the trail.';

-- Empties the content of records, together with the salt, without which nothing can be guessed from the hash of it. The one way to
-- change a record: the append-only triggers of a partition are off for its one UPDATE, behind a lock that lets nobody else write.
CREATE FUNCTION audit.erase(
    reason text, requested_by text, of_user text DEFAULT NULL, of_request text DEFAULT NULL, of_tenant uuid DEFAULT NULL, of_record uuid DEFAULT NULL, fields text[] DEFAULT NULL,
    OUT event uuid, OUT rows bigint, OUT dead_letters bigint, OUT keys bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = 'on'
    SET timezone = 'UTC'
AS $$
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
$$;
COMMENT ON FUNCTION audit.erase(text, text, text, text, uuid, uuid, text[]) IS 'Empties the content of the records of a user, a request, a tenant or a record, or some fields of it, unless a legal hold covers one of them; keeps the hash by which the rest of each is proven. Returns the event that says so, how many records, how many dead letters mention it, which stay, and how many keys of archived content were destroyed.';

-- Who may what -------------------------------------------------------------------------------

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['ledger', 'ledger_nodes', 'checkpoint', 'erasures'] LOOP
        EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', target);
        EXECUTE format('GRANT SELECT ON audit.%I TO audit_auditor, audit_operator, audit_sealer', target);
        EXECUTE format('CREATE POLICY auditor ON audit.%I FOR SELECT TO audit_auditor USING (true)', target);
        EXECUTE format('CREATE POLICY operator ON audit.%I FOR SELECT TO audit_operator USING (true)', target);
        EXECUTE format('CREATE POLICY sealer ON audit.%I FOR SELECT TO audit_sealer USING (true)', target);
        EXECUTE format('CREATE POLICY maintainer ON audit.%I FOR SELECT TO audit_maintainer USING (true)', target);
        EXECUTE format('CREATE POLICY adding ON audit.%I FOR INSERT TO audit_maintainer WITH CHECK (true)', target);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', target);
        IF target <> 'checkpoint' THEN
            PERFORM audit.make_append_only(format('audit.%I', target)::regclass);
        END IF;
        PERFORM audit.give_to_owner(format('audit.%I', target)::regclass);
    END LOOP;
    REVOKE ALL ON SEQUENCE audit.erasures_number_seq FROM audit_owner;
    CREATE POLICY replacing ON audit.checkpoint FOR UPDATE TO audit_maintainer USING (true) WITH CHECK (true);
    PERFORM audit.close_functions();
END
$$;
GRANT EXECUTE ON FUNCTION audit.seal(xid8, integer), audit.ledger_entries(bigint, integer), audit.note_checkpoint(text, bigint, text, timestamptz) TO audit_sealer;
GRANT EXECUTE ON FUNCTION audit.erase(text, text, text, text, uuid, uuid, text[]) TO audit_operator;
