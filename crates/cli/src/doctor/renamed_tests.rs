use super::*;

fn columns(text: &str) -> Vec<Option<Column>> {
    let column = |word: &str| {
        word.split_once(':')
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
    };
    text.split(' ').map(column).collect()
}

#[test]
fn renamed_columns_are_matched_by_position_and_type() {
    let right = columns("id:uuid user:text role:text at:time");
    let renamed = |found: &str| {
        let changes = renamed_columns(&right, &columns(found));
        let words: Vec<String> = changes
            .iter()
            .map(|(from, to)| format!("{from}>{to}"))
            .collect();
        words.join(" ")
    };
    assert_eq!(renamed("id:uuid user:text role:text at:time mine:int"), "");
    assert_eq!(
        renamed("id:uuid role:text user:text at:time"),
        "role>user user>role"
    );
    assert_eq!(
        renamed("id:uuid other:text role:text at:time"),
        "other>user"
    );
    // Another column took its name.
    assert_eq!(
        renamed("id:uuid hidden:text role:text at:time user:text"),
        "hidden>user user>user_of_somebody_else"
    );
    // One was dropped, before and after a restore; and one was recreated.
    assert_eq!(renamed("id:uuid - role:text at:time"), "");
    assert_eq!(renamed("id:uuid role:text at:time"), "");
    assert_eq!(renamed("id:uuid - role:text at:time user:text"), "");
    assert_eq!(renamed("id:uuid role:text at:time user:text"), "");
    // After somebody else's column was dropped.
    assert_eq!(
        renamed("id:uuid other:text role:text at:time - mine:int"),
        "other>user"
    );
}
