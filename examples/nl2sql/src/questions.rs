//! The questions, and the SQL that a model once answered them with.

use std::path::Path;

use crate::Result;

#[derive(Debug)]
pub(crate) struct Question {
    /// The database that is asked: `schemas/<db>.sql` makes it.
    pub(crate) db: String,
    pub(crate) text: String,
    pub(crate) sql: String,
}

/// Reads a CSV file with the header `db,question,sql`.
pub(crate) fn read(file: &Path) -> Result<Vec<Question>> {
    let in_file = |error| format!("{}: {error}", file.display());
    let mut reader = csv::Reader::from_path(file).map_err(in_file)?;
    if reader.headers().map_err(in_file)? != vec!["db", "question", "sql"] {
        return Err(format!("{}: the header must be db,question,sql", file.display()).into());
    }
    let mut questions = Vec::new();
    for record in reader.into_records() {
        // The reader has checked that every record is as long as the header.
        let record = record.map_err(in_file)?;
        questions.push(Question {
            db: record[0].to_owned(),
            text: record[1].to_owned(),
            sql: record[2].trim_end_matches([';', ' ', '\n']).to_owned(),
        });
    }
    if questions.is_empty() {
        return Err(format!("{}: no questions", file.display()).into());
    }
    Ok(questions)
}
