//! The records of a request as a tree: who hangs from whom, and how it is drawn.

use std::collections::{HashMap, HashSet};

use crate::row::Row;

/// The deepest level that is drawn; what lies deeper is drawn at this one. Without a
/// bound, a chain of records would leave no room for their text.
const MAX_DEPTH: usize = 10;

/// A row's place in the tree.
#[derive(Debug)]
pub(crate) struct Place<'r> {
    /// The row.
    pub(crate) row: &'r Row,
    /// What stands before its first line.
    pub(crate) branch: String,
    /// What stands before its other lines.
    pub(crate) gutter: String,
    /// The parent's id where the drawing does not show the parent, and why it does not.
    pub(crate) hidden_parent: Option<(&'r str, &'static str)>,
}

/// Places every row once: each under its parent, siblings in the order they are given
/// in. A row hangs at the root when its parent is none of these rows, or is itself, or
/// would close a loop.
pub(crate) fn places(rows: &[Row]) -> Vec<Place<'_>> {
    let levels = levels(rows);
    let mut places = Vec::with_capacity(levels.len());
    // From the last line upwards, because a branch looks different when a sibling
    // follows it: `follows[level]` says so.
    let mut follows: Vec<bool> = Vec::new();
    let mut child_depth = 0;
    for &(index, depth, why_hidden) in levels.iter().rev() {
        follows.resize(depth + 1, false);
        let mut gutter: String = follows[..depth]
            .iter()
            .map(|more| if *more { "│  " } else { "   " })
            .collect();
        let branch = format!("{gutter}{}", if follows[depth] { "├─ " } else { "└─ " });
        gutter.push_str(if follows[depth] { "│  " } else { "   " });
        gutter.push_str(if child_depth > depth { "│  " } else { "   " });
        follows[depth] = true;
        child_depth = depth;
        let row = &rows[index];
        let hidden_parent = row.text("parent_id").zip(why_hidden);
        places.push(Place {
            row,
            branch,
            gutter,
            hidden_parent,
        });
    }
    places.reverse();
    places
}

/// Every row's index and depth, parents before their children, and why the drawing does
/// not show its parent if it has one.
fn levels(rows: &[Row]) -> Vec<(usize, usize, Option<&'static str>)> {
    let mut by_id = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        by_id.entry(row.id()).or_insert(index);
    }
    let parent_of = |index: usize| {
        let parent = rows[index].text("parent_id")?;
        by_id.get(parent).copied()
    };
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for index in 0..rows.len() {
        match parent_of(index) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }
    let mut placed = HashSet::new();
    let mut levels = Vec::with_capacity(rows.len());
    // Whatever the roots do not reach is in a loop or hangs from one: its first row
    // becomes a root.
    for start in roots.into_iter().chain(0..rows.len()) {
        let mut waiting = vec![(start, 0)];
        while let Some((index, depth)) = waiting.pop() {
            if !placed.insert(index) {
                continue;
            }
            let why_hidden = match depth {
                0 if parent_of(index).is_none() => Some("not among these records"),
                0 => Some("in a loop with this record"),
                1..=MAX_DEPTH => None,
                _ => Some("too deep to be drawn"),
            };
            levels.push((index, depth.min(MAX_DEPTH), why_hidden));
            let below = children.get(&index).into_iter().flatten().rev();
            waiting.extend(below.map(|child| (*child, depth + 1)));
        }
    }
    levels
}
