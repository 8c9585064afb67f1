-- What the login that migrates lacks to make the roles and the schemas, in words; no row where it lacks nothing. A superuser
-- lacks nothing. Reads pg_catalog alone, with a search_path of pg_catalog.
WITH me AS (
    SELECT oid, rolname, rolcreaterole FROM pg_roles WHERE rolname = current_user AND NOT rolsuper
),
needed AS (
    SELECT r.oid, name FROM unnest(ARRAY['audit_owner', 'audit_maintainer', 'audit_writer', 'audit_reader', 'audit_auditor', 'audit_operator', 'audit_sealer']) AS name
    LEFT JOIN pg_roles r ON r.rolname = name
),
-- Those that a migration itself grants.
granted AS (
    SELECT oid FROM needed WHERE name IN ('audit_owner', 'audit_maintainer', 'audit_writer')
)
SELECT format('the login %s may not create roles, and not all roles of the trail are on this server: a superuser, or a role '
    'that has CREATEROLE, makes them', me.rolname)
FROM me WHERE NOT me.rolcreaterole AND EXISTS (SELECT FROM needed WHERE oid IS NULL)
UNION ALL
SELECT format('the roles of the trail are on this server already, and the login %s does not administer them: a superuser%s must run '
    'GRANT %s TO %I %s', me.rolname,
    -- Who administers all that are there.
    (SELECT ' or ' || string_agg(quote_ident(m.rolname), ' or ' ORDER BY m.rolname) FROM pg_roles m WHERE NOT m.rolsuper AND m.oid <> me.oid
        AND NOT EXISTS (SELECT FROM needed n WHERE n.oid IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_auth_members a WHERE a.roleid = n.oid AND a.member = m.oid AND a.admin_option))),
    (SELECT string_agg(quote_ident(name), ', ' ORDER BY name) FROM needed WHERE oid IS NOT NULL), me.rolname,
    CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'WITH ADMIN TRUE, INHERIT FALSE, SET FALSE' ELSE 'WITH ADMIN OPTION' END)
FROM me WHERE (current_setting('server_version_num')::int >= 160000 OR NOT me.rolcreaterole)
    AND EXISTS (SELECT FROM granted WHERE oid IS NOT NULL AND NOT pg_has_role(me.oid, oid, 'MEMBER WITH ADMIN OPTION'))
UNION ALL
SELECT format('the login %s may not make schemas in this database: run GRANT CREATE ON DATABASE %I TO %I', me.rolname, current_database(), me.rolname)
FROM me WHERE NOT has_database_privilege(me.oid, current_database(), 'CREATE')
LIMIT 1
