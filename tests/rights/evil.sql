-- A schema in which every function and operator of Postgres has a double that says EVIL in the server's log and to the
-- client, and types that do so too.
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
DO $$
DECLARE
    double record;
BEGIN
    FOR double IN
        SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS args, format_type(p.prorettype, NULL) AS result
        FROM pg_proc p JOIN pg_type r ON r.oid = p.prorettype
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND r.typtype <> 'p'
            AND p.proallargtypes IS NULL
            AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a JOIN pg_type t ON t.oid = a WHERE t.typtype = 'p')
    LOOP
        EXECUTE format(
            'CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
            double.proname, double.args, double.result, format('BEGIN RAISE WARNING %L; RETURN NULL; END', 'EVIL ' || double.proname));
    END LOOP;
    FOR double IN
        SELECT o.oprname, CASE WHEN o.oprleft <> 0 THEN format('LEFTARG = %s, ', format_type(o.oprleft, NULL)) END AS l,
            format_type(o.oprright, NULL) AS r, p.proname
        FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
        WHERE EXISTS (
            SELECT FROM pg_proc e
            WHERE e.pronamespace = 'evil'::regnamespace AND e.proname = p.proname AND e.proargtypes = p.proargtypes)
    LOOP
        EXECUTE format('CREATE OPERATOR evil.%s (%s RIGHTARG = %s, FUNCTION = evil.%I)', double.oprname, double.l, double.r, double.proname);
    END LOOP;
END
$$;
-- Those that take anything have no exact double; these are what they are called with.
CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL format'; RETURN NULL; END $$;
CREATE FUNCTION evil.format(text, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL format'; RETURN NULL; END $$;
CREATE FUNCTION evil.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL unnest'; END $$;
CREATE FUNCTION evil.string_agg_state(text, bytea, bytea) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL string_agg'; RETURN NULL; END $$;
CREATE AGGREGATE evil.string_agg(bytea, bytea) (SFUNC = evil.string_agg_state, STYPE = text);
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['uuid', 'text', 'timestamptz', 'interval', 'jsonb', 'bytea', 'regclass', 'regprocedure', 'bigint', 'int4'] LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS text CHECK (evil.now() IS NULL)', name);
    END LOOP;
END
$$;
