-- Another value of a type than the one given, chosen at random: a bit, a digit, a byte, a microsecond, a key, an element,
-- or nothing where there was something empty.
CREATE FUNCTION public.other(type text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    die    constant integer := floor(random() * 4);
    bytes  bytea;
    at     integer;
    list   text[];
    object jsonb;
BEGIN
    IF value IS NULL THEN
        RETURN CASE type WHEN 'uuid' THEN '00000000-0000-0000-0000-000000000000' WHEN 'integer' THEN '0' WHEN 'bigint' THEN '0'
            WHEN 'timestamp with time zone' THEN '2000-01-01 00:00Z' WHEN 'xid8' THEN '0' WHEN 'jsonb' THEN '{}' WHEN 'text[]' THEN '{}' ELSE '' END;
    END IF;
    CASE type
    WHEN 'uuid' THEN
        bytes := uuid_send(value::uuid);
        -- Not of the time in it, by which a row has its partition.
        at := 56 + floor(random() * 72);
        RETURN encode(set_bit(bytes, at, 1 - get_bit(bytes, at)), 'hex')::uuid;
    WHEN 'text' THEN
        IF value = '' THEN
            RETURN CASE WHEN die > 1 THEN 'x' END;
        END IF;
        at := 1 + floor(random() * length(value));
        RETURN CASE die WHEN 0 THEN value || ' ' WHEN 1 THEN substr(value, 1, length(value) - 1)
            ELSE overlay(value PLACING chr(CASE ascii(substr(value, at, 1)) WHEN 1 THEN 2 ELSE ascii(substr(value, at, 1)) # 1 END) FROM at FOR 1) END;
    WHEN 'integer', 'bigint', 'smallint', 'xid8' THEN
        RETURN CASE WHEN value = '0' AND die = 0 THEN NULL ELSE (value::numeric + CASE WHEN die < 2 AND value <> '0' THEN -1 ELSE 1 END)::text END;
    WHEN 'timestamp with time zone' THEN
        RETURN (value::timestamptz + (2 * (die / 2) - 1) * interval '1 microsecond')::text;
    WHEN 'interval' THEN
        RETURN (value::interval + interval '1 microsecond')::text;
    WHEN 'boolean' THEN
        RETURN (NOT value::boolean)::text;
    WHEN 'bytea' THEN
        bytes := value::bytea;
        IF octet_length(bytes) = 0 THEN
            RETURN '\x00';
        END IF;
        at := floor(random() * octet_length(bytes));
        RETURN set_byte(bytes, at, get_byte(bytes, at) # (1 << (2 * die)))::text;
    WHEN 'jsonb' THEN
        object := value;
        IF die = 0 OR object = '{}' OR value !~ '[0-9]' THEN
            RETURN object || '{"x": null}';
        ELSIF die = 1 THEN
            RETURN object - (SELECT k FROM jsonb_object_keys(object) k ORDER BY random() LIMIT 1);
        END IF;
        -- Its last digit: of a number, a text or a key.
        at := length(value) - position(substring(reverse(value) FROM '[0-9]') IN reverse(value)) + 1;
        RETURN overlay(value PLACING ((substr(value, at, 1)::integer + 1) % 10)::text FROM at FOR 1);
    WHEN 'text[]' THEN
        list := value;
        RETURN CASE WHEN list = '{}' AND die > 1 THEN '{NULL}' WHEN list = '{}' THEN '{""}' WHEN die = 0 THEN list[2:]::text WHEN die = 1 THEN (list || NULL::text)::text
            WHEN die = 2 THEN (list || ''::text)::text ELSE (ARRAY[list[1] || 'x'] || list[2:])::text END;
    WHEN 'audit.run_status' THEN
        RETURN (SELECT s FROM unnest(enum_range(NULL::audit.run_status)) s WHERE s::text <> value ORDER BY random() LIMIT 1);
    END CASE;
END
$$;

CREATE TABLE public.changed (table_name text, id text, writer_id uuid, seq bigint, column_name text, was text, became text);

-- Changes rows of a table at random, one column of each, the columns in turn; `key` is what its rows are found by.
CREATE PROCEDURE public.change(name text, key text, condition text, most integer) LANGUAGE plpgsql AS $$
DECLARE
    columns constant text[] := ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = format('audit.%I', name)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum);
    types   constant text[] := ARRAY(SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = format('audit.%I', name)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum);
    r       record;
    n       integer := 0;
    at      integer;
    was     text;
    became  text;
    rows    integer;
BEGIN
    FOR r IN EXECUTE format('SELECT tableoid::regclass AS part, ctid AS place, %s::text AS key, writer_id, %s AS seq FROM audit.%I WHERE %s ORDER BY %s LIMIT %s',
        key, CASE WHEN name IN ('batches', 'ledger') THEN 'first_seq' ELSE 'seq' END, name, condition, key, most)
    LOOP
        -- Where a value is refused, the next column is tried.
        FOR try IN 1 .. cardinality(columns) LOOP
            at := 1 + n % cardinality(columns);
            n := n + 1;
            BEGIN
                EXECUTE format('SELECT %I::text FROM %s WHERE ctid = %L', columns[at], r.part, r.place) INTO was;
                became := other(types[at], was);
                CONTINUE WHEN became IS NOT DISTINCT FROM was;
                EXECUTE format('UPDATE %s SET %I = %L WHERE ctid = %L', r.part, columns[at], became, r.place);
                GET DIAGNOSTICS rows = ROW_COUNT;
                IF rows <> 1 THEN
                    RAISE EXCEPTION '% rows of % changed', rows, r.part;
                END IF;
                INSERT INTO public.changed VALUES (name, CASE columns[at] WHEN key THEN became ELSE r.key END, r.writer_id, r.seq, columns[at], was, became);
                EXIT;
            EXCEPTION WHEN check_violation OR not_null_violation OR unique_violation THEN
                NULL;
            END;
        END LOOP;
    END LOOP;
END
$$;
