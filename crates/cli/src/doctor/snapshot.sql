-- What the trail consists of: a row for each fact of the catalog, each with the statement that makes it so. The same
-- query is asked of a database just migrated, for the golden file, and of the one that is looked at; names are quoted by
-- Postgres. It reads the catalog alone, and converts and runs nothing of a host's.
--
--   kind, object, name   which fact: a policy, of a table, by its name
--   statement            makes it; null when no statement can
--   shape                when it is the same on both sides, `statement` (or `change`) changes what is there; when it
--                        is not, or is null, `undo` comes first
--   change               the statement that changes what is there, when it is not `statement`
--   undo                 takes it away; null when no statement can, or none should
WITH space AS (
    SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname IN ('audit', 'audit_parts', 'audit_guard')),
-- What an extension has brought that was put into one of the schemas is told as one thing: the extension.
brought AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    WHERE e.extnamespace IN (SELECT oid FROM space)),
-- The trigger functions of tracked tables, which are looked at by themselves.
made AS (
    SELECT oid FROM pg_proc WHERE pronamespace = to_regnamespace('audit') AND proowner = to_regrole('audit_maintainer') AND proname ~ '^record_change_[0-9]+$'),
-- In the schemas, or a partition of a record table wherever it lies, or carried off from there.
relation AS (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS name,
        CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
            WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS word
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND (n.oid IN (SELECT oid FROM space)
        OR c.relkind IN ('r', 'p') AND (c.relowner = to_regrole('audit_owner')
            -- A trigger goes with its table.
            OR EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                WHERE t.tgrelid = c.oid AND t.tgname = 'append_only' AND p.pronamespace IN (SELECT oid FROM space)))
        OR c.relispartition AND EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
            WHERE i.inhrelid = c.oid AND p.relnamespace IN (SELECT oid FROM space)))
        AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_class'::regclass AND b.objid = c.oid)),
function AS (
    SELECT p.*, n.nspname, p.oid::regprocedure::text AS name,
        CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END AS word
    FROM pg_proc p JOIN space n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_proc'::regclass AND b.objid = p.oid)
        AND NOT EXISTS (SELECT FROM made m WHERE m.oid = p.oid)),
type AS (
    SELECT t.*, n.nspname, format('%I.%I', n.nspname, t.typname) AS name
    FROM pg_type t JOIN space n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e' AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = 'pg_type'::regclass AND b.objid = t.oid)),
event_trigger AS (
    SELECT e.*, p.oid::regprocedure::text AS function, r.rolsuper, r.rolname
    FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_roles r ON r.oid = e.evtowner
    WHERE e.evtname IN ('audit_refuse_ddl', 'audit_refuse_drop') OR p.pronamespace IN (SELECT oid FROM space)),
attribute AS (
    SELECT a.*, r.name AS relation, r.relkind, r.relispartition, quote_ident(a.attname) AS column_name,
        format_type(a.atttypid, a.atttypmod)
            || coalesce((SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                WHERE l.oid = a.attcollation AND a.attcollation <> t.typcollation), '') AS type,
        pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p')),
-- Whatever has an owner: its kind in a statement, its name there. A superuser's is anybody's who is one.
owned (word, object, owner) AS (
    SELECT 'SCHEMA', quote_ident(nspname), nspowner FROM space
    UNION ALL SELECT word, name, relowner FROM relation
    UNION ALL SELECT word, name, proowner FROM function
    UNION ALL SELECT 'TYPE', name, typowner FROM type),
acl (target, object, owner, acl) AS (
    SELECT 'SCHEMA ' || quote_ident(nspname), quote_ident(nspname), nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM space
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || name, name, relowner,
        coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, relowner)) FROM relation
    UNION ALL
    SELECT 'ROUTINE ' || name, name, proowner, coalesce(proacl, acldefault('f', proowner)) FROM function
    UNION ALL
    SELECT 'TYPE ' || name, name, typowner, coalesce(typacl, acldefault('T', typowner)) FROM type),
privilege AS (
    SELECT target, object, grantee, grantee = owner AS is_owner, privilege_type, '' AS columns, bool_or(is_grantable) AS is_grantable
    FROM acl, aclexplode(acl.acl) GROUP BY target, object, owner, grantee, privilege_type
    UNION ALL
    SELECT 'TABLE ' || r.name, r.name, x.grantee, false, x.privilege_type, format(' (%I)', a.attname), bool_or(x.is_grantable)
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND NOT a.attisdropped, aclexplode(a.attacl) x
    GROUP BY r.name, x.grantee, x.privilege_type, a.attname),
fact (kind, object, name, statement, shape, change, undo) AS (
    -- What is there. Tables among the partitions are looked at as such.
    SELECT 'object', CASE d.classid WHEN 'pg_proc'::regclass THEN d.objid::regprocedure::text ELSE i.identity END, i.type, NULL, '', NULL,
        CASE
            WHEN i.type = 'extension' THEN (SELECT CASE WHEN e.extrelocatable THEN format('ALTER EXTENSION %I SET SCHEMA public;', e.extname)
                ELSE format('DROP EXTENSION %I CASCADE;', e.extname) END FROM pg_extension e WHERE e.oid = d.objid)
            WHEN i.type IN ('table', 'foreign table', 'materialized view') THEN format('ALTER %s %s SET SCHEMA public;', upper(i.type), i.identity)
            ELSE format('DROP %s %s;', CASE i.type WHEN 'statistics object' THEN 'STATISTICS' WHEN 'composite type' THEN 'TYPE'
                ELSE upper(i.type) END, i.identity)
        END
    FROM pg_depend d JOIN space n ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype IN ('n', 'a')
    LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid, pg_identify_object(d.classid, d.objid, 0) i
    -- Not what only names a schema, as a constant of type regnamespace in a view does.
    WHERE d.classid NOT IN ('pg_default_acl'::regclass, 'pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
            -- Publications are told of with the ways around.
            'pg_publication_namespace'::regclass, 'pg_publication_rel'::regclass)
        AND coalesce(i.schema, n.nspname) = n.nspname
        AND NOT EXISTS (SELECT FROM brought b WHERE b.classid = d.classid AND b.objid = d.objid)
        AND NOT (d.classid = 'pg_proc'::regclass AND d.objid IN (SELECT oid FROM made))
        AND NOT (n.nspname = 'audit_parts' AND c.relkind IN ('r', 'p') AND c.relkind IS NOT NULL)
    UNION ALL
    SELECT 'object', quote_ident(nspname), 'schema', format('CREATE SCHEMA %I;', nspname), '', NULL, NULL FROM space
    UNION ALL
    -- Functions that act with the rights of the trail, elsewhere.
    SELECT 'outside', p.oid::regprocedure::text, '', NULL, NULL, NULL, format('DROP ROUTINE %s;', p.oid::regprocedure)
    FROM pg_proc p WHERE p.proowner IN (to_regrole('audit_owner'), to_regrole('audit_maintainer')) AND p.pronamespace NOT IN (SELECT oid FROM space)
    UNION ALL
    SELECT 'owner', object, '', format('ALTER %s %s OWNER TO %s;', word, object,
        CASE WHEN (object = 'audit_guard' OR object LIKE 'audit\_guard.%') AND r.rolsuper THEN 'CURRENT_USER' ELSE quote_ident(r.rolname) END),
        '', NULL, NULL
    FROM owned JOIN pg_roles r ON r.oid = owner
    UNION ALL
    SELECT 'privilege', object,
        json_build_array(CASE WHEN is_owner THEN NULL WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, privilege_type, columns)::text,
        format('GRANT %s%s ON %s TO %s;', privilege_type, columns, target, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END),
        '', NULL,
        format('REVOKE %s%s ON %s FROM %s%s;', privilege_type, columns, target,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, CASE WHEN is_grantable AND NOT is_owner THEN ' CASCADE' ELSE '' END)
    FROM privilege
    UNION ALL
    SELECT 'privilege', object, json_build_array(quote_ident(pg_get_userbyid(grantee)), 'GRANT OPTION FOR ' || privilege_type, columns)::text,
        format('GRANT %s%s ON %s TO %I WITH GRANT OPTION;', privilege_type, columns, target, pg_get_userbyid(grantee)), '', NULL,
        format('REVOKE GRANT OPTION FOR %s%s ON %s FROM %I CASCADE;', privilege_type, columns, target, pg_get_userbyid(grantee))
    FROM privilege WHERE is_grantable AND NOT is_owner
    UNION ALL
    SELECT 'default privilege', coalesce(quote_ident(n.nspname), pg_get_userbyid(d.defaclrole)::text),
        format('%s gets %s on %s that %s makes', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END,
            string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type), lower(k.word), pg_get_userbyid(d.defaclrole)),
        NULL, NULL, NULL,
        format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON %s FROM %s;', pg_get_userbyid(d.defaclrole),
            coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type), k.word,
            CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
    FROM pg_default_acl d LEFT JOIN space n ON n.oid = d.defaclnamespace
    JOIN (VALUES ('r', 'TABLES'), ('S', 'SEQUENCES'), ('f', 'FUNCTIONS'), ('T', 'TYPES'), ('n', 'SCHEMAS')) k (letter, word) ON k.letter = d.defaclobjtype::text,
        aclexplode(d.defaclacl) x
    WHERE (n.oid IS NOT NULL OR d.defaclnamespace = 0 AND pg_get_userbyid(d.defaclrole) IN ('audit_owner', 'audit_maintainer'))
        AND x.grantee <> d.defaclrole
    GROUP BY n.nspname, d.defaclrole, x.grantee, k.word

    -- Tables. What a partition has of its parent, and can have in no other way, is told of the parent.
    UNION ALL
    SELECT 'table', name, '', NULL, concat(relkind, ' ', pg_get_partkeydef(oid)),
        json_build_array(quote_ident(nspname), quote_ident(relname))::text, NULL FROM relation WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT 'logged', name, '', format('ALTER %s %s SET %s;', word, name, CASE relpersistence WHEN 'p' THEN 'LOGGED' ELSE 'UNLOGGED' END), '', NULL, NULL
    FROM relation WHERE relkind IN ('r', 'S')
    UNION ALL
    -- In another tablespace than the database's own, or by another access method.
    SELECT 'storage', r.name, format('tablespace %s of %s', t.spcname, x.relname), NULL, NULL, NULL,
        format('ALTER %s %I.%I SET TABLESPACE %I;', CASE WHEN x.oid = r.oid THEN 'TABLE' ELSE 'INDEX' END, xn.nspname, x.relname,
            (SELECT b.spcname FROM pg_database d JOIN pg_tablespace b ON b.oid = d.dattablespace WHERE d.datname = current_database()))
    FROM relation r LEFT JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class x ON x.oid IN (r.oid, i.indexrelid) JOIN pg_namespace xn ON xn.oid = x.relnamespace
    JOIN pg_tablespace t ON t.oid = x.reltablespace
    WHERE r.relkind IN ('r', 'p') GROUP BY r.oid, r.name, t.spcname, x.oid, x.relname, xn.nspname
    UNION ALL
    SELECT 'storage', r.name, format('access method %s', m.amname), NULL, NULL, NULL, format('ALTER TABLE %s SET ACCESS METHOD heap;', r.name)
    FROM relation r JOIN pg_am m ON m.oid = r.relam WHERE r.relkind IN ('r', 'p') AND m.amname <> 'heap'
    UNION ALL
    SELECT 'row security', name, '', format('ALTER TABLE %s %s ROW LEVEL SECURITY;', name, CASE WHEN relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END), '', NULL, NULL
    FROM relation WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT 'forced row security', name, '', format('ALTER TABLE %s %s ROW LEVEL SECURITY;', name, CASE WHEN relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END), '', NULL, NULL
    FROM relation WHERE relkind IN ('r', 'p')
    UNION ALL
    SELECT 'parent', r.name, format('%I.%I', pn.nspname, p.relname), NULL, NULL, NULL, format('ALTER TABLE %s NO INHERIT %I.%I;', r.name, pn.nspname, p.relname)
    FROM relation r JOIN pg_inherits i ON i.inhrelid = r.oid JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
    WHERE NOT r.relispartition
    UNION ALL
    SELECT 'child', format('%I.%I', n.nspname, c.relname), r.name, NULL, NULL, NULL, format('ALTER TABLE %I.%I NO INHERIT %s;', n.nspname, c.relname, r.name)
    FROM pg_inherits i JOIN relation r ON r.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition
    UNION ALL
    -- Name and type, by their places: null where one was dropped.
    SELECT 'columns', r.name, '', NULL, json_agg(CASE WHEN NOT a.attisdropped THEN
            json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) END ORDER BY a.attnum)::text, NULL, NULL
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 WHERE r.relkind IN ('r', 'p') GROUP BY r.name
    UNION ALL
    SELECT 'column', relation, attname, format('ALTER TABLE %s ADD COLUMN %s %s;', relation, column_name, type), '',
        format('ALTER TABLE %s ALTER COLUMN %s TYPE %s USING %s::%s;', relation, column_name, type, column_name, split_part(type, ' COLLATE ', 1)),
        format('ALTER TABLE %s DROP COLUMN %s;', relation, column_name)
    FROM attribute
    UNION ALL
    SELECT 'column default', relation, attname, format('ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s;', relation, column_name, expression), '', NULL,
        format('ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT;', relation, column_name)
    FROM attribute WHERE expression IS NOT NULL AND attgenerated = ''
    UNION ALL
    SELECT 'column generated', relation, attname, NULL, expression, NULL, format('ALTER TABLE %s ALTER COLUMN %s DROP EXPRESSION;', relation, column_name)
    FROM attribute WHERE attgenerated <> ''
    UNION ALL
    SELECT 'column identity', relation, attname,
        format('ALTER TABLE %s ALTER COLUMN %s ADD GENERATED %s AS IDENTITY;', relation, column_name, k.word), '',
        format('ALTER TABLE %s ALTER COLUMN %s SET GENERATED %s;', relation, column_name, k.word),
        format('ALTER TABLE %s ALTER COLUMN %s DROP IDENTITY;', relation, column_name)
    FROM attribute JOIN (VALUES ('a', 'ALWAYS'), ('d', 'BY DEFAULT')) k (letter, word) ON k.letter = attidentity::text
    UNION ALL
    SELECT 'column not null', relation, attname, format('ALTER TABLE %s ALTER COLUMN %s SET NOT NULL;', relation, column_name), '', NULL,
        format('ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;', relation, column_name)
    FROM attribute WHERE attnotnull
    UNION ALL
    SELECT 'column statistics', relation, attname, format('ALTER TABLE %s ALTER COLUMN %s SET STATISTICS 0;', relation, column_name), '', NULL, NULL
    FROM attribute WHERE attstattarget = 0
    UNION ALL
    SELECT 'extended statistics', r.name, format('%I.%I', n.nspname, s.stxname), NULL, NULL, NULL, format('DROP STATISTICS %I.%I;', n.nspname, s.stxname)
    FROM pg_statistic_ext s JOIN relation r ON r.oid = s.stxrelid JOIN pg_namespace n ON n.oid = s.stxnamespace
    UNION ALL
    SELECT 'constraint', r.name, k.conname, format('ALTER TABLE %s ADD CONSTRAINT %I %s;', r.name, k.conname, pg_get_constraintdef(k.oid)), NULL, NULL,
        format('ALTER TABLE %s DROP CONSTRAINT %I;', r.name, k.conname)
    FROM pg_constraint k JOIN relation r ON r.oid = k.conrelid
    WHERE k.contype NOT IN ('n', 't') AND k.coninhcount = 0 AND k.conparentid = 0
    UNION ALL
    -- By what they are, since no name of one matters.
    SELECT 'index', r.name, concat(CASE WHEN i.indisunique THEN 'UNIQUE ' END, substr(d.definition, d.at)), format('CREATE %sINDEX ON %s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, substr(d.definition, d.at)) || ';',
        -- What keeps a row from being written, or runs code of somebody's; what only keeps a long value; nothing of these.
        CASE
            WHEN i.indisunique OR i.indisexclusion OR i.indexprs IS NOT NULL OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                AND d.objid = x.oid AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass)) THEN 'refuses'
            WHEN m.amname <> 'brin' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = x.oid AND a.attlen = -1) THEN 'long'
            ELSE 'harmless' END, NULL,
        format('DROP INDEX %I.%I;', n.nspname, x.relname)
    FROM pg_index i JOIN relation r ON r.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
        JOIN pg_am m ON m.oid = x.relam, LATERAL (SELECT pg_get_indexdef(x.oid), length(format('CREATE %sINDEX %I ON %s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, x.relname,
            CASE WHEN r.relkind = 'p' THEN 'ONLY ' ELSE '' END)) + 1) d (definition, at)
    WHERE NOT x.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT 'invalid index', r.name, format('%I.%I', n.nspname, x.relname), NULL, NULL, NULL, format('REINDEX INDEX %I.%I;', n.nspname, x.relname)
    FROM pg_index i JOIN relation r ON r.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
    -- What REINDEX CONCURRENTLY left behind, beside the index that it was to replace, is one more than there should be: to be dropped.
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND x.relname !~ '_cc(new|old)[0-9]*$'
    UNION ALL
    SELECT 'trigger', r.name, t.tgname, concat(pg_get_triggerdef(t.oid), '; ', e.enable), pg_get_triggerdef(t.oid), e.enable,
        format('DROP TRIGGER %I ON %s;', t.tgname, r.name)
    FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid,
        LATERAL (SELECT format('ALTER TABLE %s %s TRIGGER %I;', r.name, CASE t.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA'
            WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE' END, t.tgname)) e (enable)
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    UNION ALL
    SELECT 'foreign key trigger', r.name, t.tgname, NULL, NULL, NULL, format('ALTER TABLE %s ENABLE TRIGGER %I;', r.name, t.tgname)
    FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE t.tgisinternal AND t.tgenabled <> 'O'
    UNION ALL
    SELECT 'hidden', name, f.what, NULL, NULL, NULL, format('UPDATE pg_catalog.pg_class SET %I = %s WHERE oid = %L::pg_catalog.regclass;', f.flag, f.value, name)
    FROM relation, LATERAL (
        SELECT 'triggers', 'relhastriggers', 'true' WHERE NOT relhastriggers AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation.oid)
        UNION ALL
        SELECT 'checks', 'relchecks', c.count::text FROM (SELECT count(*) FROM pg_constraint WHERE conrelid = relation.oid AND contype = 'c') c WHERE relchecks <> c.count
        UNION ALL
        SELECT 'indexes', 'relhasindex', 'true' WHERE NOT relhasindex AND EXISTS (SELECT FROM pg_index WHERE indrelid = relation.oid)) f (what, flag, value)
    WHERE relkind IN ('r', 'p')
    UNION ALL
    -- It is dumped no more, and goes when the extension goes.
    SELECT 'extension', CASE d.classid WHEN 'pg_proc'::regclass THEN d.objid::regprocedure::text ELSE i.identity END, e.extname, NULL, NULL, NULL,
        CASE WHEN d.deptype = 'e' THEN format('ALTER EXTENSION %I DROP %s %s;', e.extname, upper(i.type), i.identity)
            WHEN i.type IN ('trigger', 'function') THEN format('ALTER %s %s NO DEPENDS ON EXTENSION %I;', upper(i.type), i.identity, e.extname) END
    FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, 0) i
    WHERE d.deptype IN ('e', 'x') AND (d.classid, d.objid) IN (
        SELECT 'pg_class'::regclass, oid FROM relation UNION ALL SELECT 'pg_proc'::regclass, oid FROM function
        UNION ALL SELECT 'pg_type'::regclass, oid FROM type UNION ALL SELECT 'pg_namespace'::regclass, oid FROM space
        UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid)
    UNION ALL
    SELECT 'rule', r.name, w.rulename, NULL, NULL, NULL, format('DROP RULE %I ON %s;', w.rulename, r.name)
    FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT 'policy', r.name, p.polname, concat(format('CREATE POLICY %I ON %s', p.polname, r.name), CASE WHEN NOT p.polpermissive THEN ' AS RESTRICTIVE' END,
        ' FOR ', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        ' TO ', (SELECT string_agg(CASE WHEN o = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', ' ORDER BY pg_get_userbyid(o)) FROM unnest(p.polroles) o),
        ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ';'),
        NULL, NULL, format('DROP POLICY %I ON %s;', p.polname, r.name)
    FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL
    SELECT 'sequence', r.name, '', format('ALTER SEQUENCE %s AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s%s CYCLE;', r.name,
        format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN '' ELSE ' NO' END), '', NULL, NULL
    FROM pg_sequence s JOIN relation r ON r.oid = s.seqrelid

    -- The view, the functions, the type, the event triggers.
    UNION ALL
    SELECT 'view', r.name, '', concat(format('CREATE OR REPLACE VIEW %s', r.name),
        ' WITH (' || (SELECT string_agg(format('%s = %s', option_name,
            CASE WHEN option_name IN ('security_invoker', 'security_barrier') THEN (option_value::boolean)::text ELSE quote_literal(option_value) END), ', ' ORDER BY option_name)
            FROM pg_options_to_table(r.reloptions)) || ')', E' AS\n', pg_get_viewdef(r.oid)),
        (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)::text
            FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped),
        NULL, format('DROP VIEW %s;', r.name)
    FROM relation r WHERE r.relkind = 'v'
    UNION ALL
    SELECT 'function', name, '', pg_get_functiondef(oid) || ';',
        concat(prokind, ' (', pg_get_function_arguments(oid), ') ', pg_get_function_result(oid)), NULL, format('DROP %s %s;', word, name)
    FROM function WHERE prokind <> 'a'
    UNION ALL
    SELECT 'labels', t.name, '', NULL, json_agg(e.enumlabel ORDER BY e.enumsortorder)::text, NULL, NULL
    FROM type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.name
    UNION ALL
    SELECT 'cast', t.name, format('%s AS %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)), NULL, NULL, NULL,
        format('DROP CAST (%s AS %s);', format_type(c.castsource, NULL), format_type(c.casttarget, NULL))
    FROM pg_cast c JOIN type t ON c.castsource IN (t.oid, t.typarray) OR c.casttarget IN (t.oid, t.typarray)
    UNION ALL
    SELECT 'event trigger', quote_ident(evtname), '', concat(format('CREATE EVENT TRIGGER %I ON %s', evtname, evtevent),
            ' WHEN TAG IN (' || (SELECT string_agg(quote_literal(tag), ', ' ORDER BY tag) FROM unnest(evttags) tag) || ')',
            format(' EXECUTE FUNCTION %s; ', function), e.enable),
        concat(evtevent, evttags::text, function), e.enable, format('DROP EVENT TRIGGER %I;', evtname)
    FROM event_trigger, LATERAL (SELECT format('ALTER EVENT TRIGGER %I %s;', evtname, CASE evtenabled WHEN 'A' THEN 'ENABLE ALWAYS'
        WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE' END)) e (enable)
    UNION ALL
    SELECT 'owner', quote_ident(evtname), '', format('ALTER EVENT TRIGGER %I OWNER TO %s;', evtname, CASE WHEN rolsuper THEN 'CURRENT_USER' ELSE quote_ident(rolname) END), '', NULL, NULL
    FROM event_trigger)
SELECT kind, object, name::text, statement, shape, change, undo FROM fact ORDER BY object, kind, name
