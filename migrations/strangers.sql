-- Lists what prevents a migration, in the three schemas and among the roles. Reads only pg_catalog, with a search_path of
-- pg_catalog; uses no cast or function of other users. One row per obstacle: what it is, its owner, how to remove it,
-- and when it matters ('always', 'to make' the trail, 'to guard' it).
WITH ours AS (
    SELECT oid, rolname, rolsuper FROM pg_roles
),
schemas AS (
    SELECT n.oid, n.nspname, r.rolname AS owner, coalesce(r.rolsuper, false) AS is_superusers FROM pg_namespace n LEFT JOIN ours r ON r.oid = n.nspowner
    WHERE n.nspname IN ('audit', 'audit_parts', 'audit_guard')
),
-- Every kind of object that lies in a schema is noted as depending on it; its owner is noted as well, but for
-- the superuser that made the server.
objects AS (
    SELECT s.nspname, s.owner AS schema_owner, d.classid, d.objid, r.rolname AS owner, coalesce(r.rolsuper, true) AS is_superusers,
        coalesce(r.rolname IN ('audit_owner', 'audit_maintainer'), false) AS is_ours
    FROM schemas s JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = s.oid
        -- Excludes objects that only mention the schema, such as a constant 'audit'::regnamespace in a view, a
        -- default or a function.
        AND d.classid NOT IN ('pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
            'pg_publication_namespace'::regclass, 'pg_publication_rel'::regclass)
        AND coalesce((pg_identify_object(d.classid, d.objid, 0)).schema, s.nspname) = s.nspname
    LEFT JOIN pg_shdepend o ON o.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND o.classid = d.classid AND o.objid = d.objid AND o.deptype = 'o'
    LEFT JOIN ours r ON r.oid = o.refobjid
),
trail AS (
    SELECT EXISTS (SELECT FROM schemas s JOIN pg_class c ON c.relnamespace = s.oid JOIN ours r ON r.oid = c.relowner
        WHERE s.nspname = 'audit' AND s.owner = 'audit_owner' AND c.relname = 'schema_migrations' AND c.relkind = 'r'
            AND r.rolname = 'audit_owner') AS is_there
),
-- Schemas that are made anew, for nothing is in them.
empty AS (
    SELECT s.oid, s.nspname FROM schemas s, trail
    WHERE CASE s.nspname WHEN 'audit_guard' THEN NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = s.oid) ELSE NOT trail.is_there END
),
-- The roles were not on this server before, or not before this transaction.
beginning AS (
    SELECT to_regrole('audit_owner') IS NULL OR EXISTS (
        SELECT FROM pg_auth_members a WHERE a.roleid = to_regrole('audit_owner') AND a.member = to_regrole('audit_maintainer')
            AND age(a.xmin) <= age(pg_current_xact_id_if_assigned()::xid)) AS is_now
),
-- The owner of a trail that was restored without its roles.
restored AS (
    SELECT r.rolname, r.rolsuper FROM schemas s JOIN pg_class c ON c.relnamespace = s.oid JOIN ours r ON r.oid = c.relowner
    WHERE s.nspname = 'audit' AND c.relname IN ('schema_migrations', 'batches', 'query_runs') AND r.rolname NOT IN ('audit_owner', 'audit_maintainer')
    GROUP BY r.rolname, r.rolsuper HAVING count(*) = 3
),
found AS (
    SELECT 0 AS place, 'a trail whose roles are not on this server, as a restore leaves it' AS what, 'whoever restored it' AS owner,
        'run `tracing-audit migrate --only-roles`, drop the schemas audit, audit_parts and audit_guard if they are the restored ones, and restore again' AS way_out,
        'always' AS matters
    WHERE to_regrole('audit_owner') IS NULL AND EXISTS (
        SELECT FROM schemas s JOIN pg_class c ON c.relnamespace = s.oid WHERE s.nspname = 'audit' AND c.relname = 'schema_migrations')
    UNION ALL
    -- The roles may have been made meanwhile.
    SELECT 0, 'a trail of which no table belongs to its roles, as a restore without them leaves it', rolname,
        'drop the schemas audit, audit_parts and audit_guard if they are the restored ones, and restore again, now that there are the roles', 'always'
    FROM restored WHERE to_regrole('audit_owner') IS NOT NULL
    UNION ALL
    -- An empty schema of whoever migrates, or of a superuser, is made anew.
    SELECT 1, format('schema %I', s.nspname), s.owner,
        format('drop it, or ALTER SCHEMA %I OWNER TO an administrator, if nobody needs it', s.nspname),
        -- Without the guard, anybody may make a schema of its name: it is in the way of the guard alone.
        CASE s.nspname WHEN 'audit_guard' THEN 'to guard' ELSE 'always' END
    FROM schemas s, trail
    WHERE CASE
        WHEN s.nspname = 'audit_guard' THEN NOT s.is_superusers
        WHEN trail.is_there THEN s.owner <> 'audit_owner'
        ELSE NOT s.is_superusers AND s.owner NOT IN (current_user, 'audit_owner')
    END
    UNION ALL
    SELECT 2, pg_describe_object(o.classid, o.objid, 0), coalesce(o.owner, 'a superuser'),
        'move it to another schema or drop it, if nobody needs it; else give the trail a database of its own',
        CASE o.nspname WHEN 'audit_guard' THEN 'to guard' ELSE 'always' END
    FROM objects o, trail
    WHERE CASE
        WHEN o.nspname = 'audit_guard' THEN NOT o.is_superusers
        WHEN trail.is_there THEN NOT (o.is_ours OR o.is_superusers)
        ELSE true
    END
    UNION ALL
    -- It would not let the schema be made anew.
    SELECT 2, format('%s, which names schema %I', pg_describe_object(d.classid, d.objid, d.objsubid), e.nspname), coalesce(r.rolname, 'a superuser'),
        'drop it, or end the session that made it, if it is temporary', CASE e.nspname WHEN 'audit_guard' THEN 'to guard' ELSE 'to claim' END
    FROM empty e JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = e.oid AND d.deptype = 'n'
    LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    LEFT JOIN pg_shdepend o ON o.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND o.deptype = 'o'
        AND o.classid = CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END AND o.objid = coalesce(w.ev_class, d.objid)
    LEFT JOIN ours r ON r.oid = o.refobjid
    WHERE NOT EXISTS (SELECT FROM objects b WHERE b.classid = d.classid AND b.objid = d.objid)
    UNION ALL
    -- Any role with the TRIGGER right can create a trigger, and any role can own the function it calls.
    SELECT 3, pg_describe_object('pg_trigger'::regclass, t.oid, 0), r.rolname, 'drop it', 'always'
    FROM schemas s JOIN pg_class c ON c.relnamespace = s.oid JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
    JOIN pg_proc p ON p.oid = t.tgfoid JOIN ours r ON r.oid = p.proowner
    WHERE NOT r.rolsuper AND r.rolname NOT IN ('audit_owner', 'audit_maintainer')
    UNION ALL
    -- Code that would run when a migration reads or writes audit.schema_migrations.
    SELECT 3, pg_describe_object(d.classid, d.objid, 0), 'nobody of the trail', 'drop it', 'always'
    FROM schemas s JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = 'schema_migrations', trail,
    LATERAL (
        SELECT 'pg_trigger'::regclass AS classid, t.oid AS objid FROM pg_trigger t WHERE t.tgrelid = c.oid
        UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w WHERE w.ev_class = c.oid
        UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p WHERE p.polrelid = c.oid
        UNION ALL SELECT 'pg_class'::regclass, i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid
        UNION ALL SELECT 'pg_class'::regclass, x.indexrelid FROM pg_index x WHERE x.indrelid = c.oid AND NOT x.indisprimary
        UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c') d
    WHERE s.nspname = 'audit' AND trail.is_there
    UNION ALL
    -- A part of one of the trail's tables that lies elsewhere, or belongs to somebody else.
    SELECT 3, pg_describe_object('pg_class'::regclass, c.oid, 0), r.rolname, 'detach it, or ALTER TABLE NO INHERIT', 'always'
    FROM schemas s JOIN pg_class parent ON parent.relnamespace = s.oid JOIN pg_inherits i ON i.inhparent = parent.oid
    JOIN pg_class c ON c.oid = i.inhrelid JOIN ours r ON r.oid = c.relowner
    WHERE NOT r.rolsuper AND r.rolname NOT IN ('audit_owner', 'audit_maintainer')
        AND c.relnamespace NOT IN (SELECT oid FROM schemas)
    UNION ALL
    -- The cast of such a column's type would run with the rights of the owner of the trail's tables.
    SELECT 3, pg_describe_object('pg_constraint'::regclass, k.oid, 0), r.rolname, 'drop it, or make its column one of Postgres'' own types', 'to guard'
    FROM schemas s JOIN pg_class parent ON parent.relnamespace = s.oid JOIN pg_constraint k ON k.confrelid = parent.oid AND k.contype = 'f'
    JOIN pg_class c ON c.oid = k.conrelid JOIN ours r ON r.oid = c.relowner
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) JOIN pg_type t ON t.oid = a.atttypid
    WHERE NOT EXISTS (
        WITH RECURSIVE base AS (SELECT t.typbasetype, t.typnamespace UNION ALL SELECT d.typbasetype, d.typnamespace FROM base JOIN pg_type d ON d.oid = base.typbasetype)
        SELECT FROM base WHERE typbasetype = 0 AND typnamespace = 'pg_catalog'::regnamespace)
    UNION ALL
    SELECT 4, format('event trigger %I', e.evtname), r.rolname, 'drop it', 'always'
    FROM pg_event_trigger e JOIN ours r ON r.oid = e.evtowner
    WHERE e.evtname IN ('audit_refuse_ddl', 'audit_refuse_drop') AND NOT r.rolsuper
    UNION ALL
    SELECT 5, format('role %I, which can do more than a group needs', r.rolname), 'the server',
        format('ALTER ROLE %I NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS', r.rolname), 'to make'
    FROM pg_roles r
    WHERE r.rolname IN ('audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer')
        AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
    UNION ALL
    -- A member of one of these roles has full control of the trail. On Postgres 16 and later the role's creator can
    -- make itself a member, so a superuser should know of it before creating a trail.
    SELECT 6, format('role %I, of which %I is a member', g.rolname, m.rolname), 'the server',
        -- What a member has granted goes with it, and what the functions of the trail need is granted before.
        CASE WHEN current_setting('server_version_num')::int >= 160000 AND a.admin_option
            AND EXISTS (SELECT FROM pg_auth_members k JOIN pg_roles h ON h.oid = k.member
                WHERE k.roleid = g.oid AND k.grantor = m.oid AND g.rolname = 'audit_owner' AND h.rolname = 'audit_maintainer')
            THEN 'GRANT audit_owner TO audit_maintainer; ' ELSE '' END
        || format('REVOKE %I FROM %I', g.rolname, m.rolname)
        || CASE WHEN current_setting('server_version_num')::int >= 160000 THEN format(' GRANTED BY %I', pg_get_userbyid(a.grantor)) ELSE '' END
        || CASE WHEN a.admin_option THEN ' CASCADE' ELSE '' END, 'to make'
    FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
    WHERE NOT m.rolsuper AND m.rolname <> current_user AND NOT (g.rolname = 'audit_owner' AND m.rolname = 'audit_maintainer')
        -- Whoever is in the others reads or removes what the trail will hold: nobody yet, when a server gets its first
        -- trail. Later they are those whom a trail's administrator has put there.
        AND (g.rolname IN ('audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer') AND (SELECT is_now FROM beginning)
            OR g.rolname IN ('audit_owner', 'audit_maintainer') AND (pg_has_role(m.oid, g.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
            OR NOT (SELECT is_there FROM trail) AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)))
    UNION ALL
    SELECT 6, format('role %I, which is a member of %I', m.rolname, g.rolname), 'the server', format('REVOKE %I FROM %I', g.rolname, m.rolname), 'to make'
    FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
    WHERE m.rolname IN ('audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer')
        AND NOT (g.rolname = 'audit_owner' AND m.rolname = 'audit_maintainer')
    UNION ALL
    SELECT 7, format('default privileges of the role %I', r.rolname), 'the server',
        format('take them back by ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE ALL ON TABLES, FUNCTIONS, TYPES, SEQUENCES and SCHEMAS', r.rolname), 'to make'
    FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole WHERE r.rolname IN ('audit_owner', 'audit_maintainer')
)
-- An object that was dropped during this query has no description. Obstacles to the guard matter only to a superuser,
-- which alone can create it.
SELECT coalesce(what, 'an object that is being dropped'), owner, way_out, matters FROM found
WHERE (matters <> 'to guard' OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
    -- What a restore left is not to be moved away one by one.
    AND (place NOT IN (1, 2) OR NOT EXISTS (SELECT FROM restored r WHERE found.owner = r.rolname OR found.owner = 'a superuser' AND r.rolsuper))
GROUP BY place, what, owner, way_out, matters ORDER BY place, what LIMIT 20
