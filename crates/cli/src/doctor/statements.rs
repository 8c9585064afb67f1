//! Builds parts of the repairing statements: quoted names, renames, transactions.

/// Returns a name as written in a statement. Only names of the trail's roles and of Postgres' own
/// are left unquoted: any other could be an SQL keyword.
pub(crate) fn quoted(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if is_plain && (name.starts_with("audit_") || name.starts_with("pg_")) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Returns the statements that rename, by way of a third name if one is taken.
pub(crate) fn renames(
    changes: &[(String, String)],
    rename: impl Fn(&str, &str) -> String,
) -> Vec<String> {
    let is_taken = changes
        .iter()
        .any(|(_, to)| changes.iter().any(|(from, _)| from == to));
    if !is_taken {
        return changes.iter().map(|(from, to)| rename(from, to)).collect();
    }
    let third = |number: usize| format!("exchanged_{number}");
    let away = changes
        .iter()
        .enumerate()
        .map(|(number, (from, _))| rename(from, &third(number)));
    let back = changes
        .iter()
        .enumerate()
        .map(|(number, (_, to))| rename(&third(number), to));
    away.chain(back).collect()
}

/// Wraps statements in a transaction.
pub(crate) fn in_one(statements: &[String]) -> String {
    match statements.len() {
        0 | 1 => statements.concat(),
        _ => format!("BEGIN; {} COMMIT;", statements.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn sql_identifiers_are_quoted_only_when_needed() {
        assert_eq!(quoted("audit_writer"), "audit_writer");
        assert_eq!(quoted("user"), "\"user\"");
        assert_eq!(quoted("App \"x\""), "\"App \"\"x\"\"\"");
    }
}
