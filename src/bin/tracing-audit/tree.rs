//! The records of a request as a tree: who hangs from whom, and how it is drawn.

use std::collections::{HashMap, HashSet};

use sqlx::types::Uuid;

use crate::row::RecordId;

/// The deepest level that is drawn; what lies deeper is drawn at this one. Without a
/// bound, a chain of records would leave no room for their text.
const MAX_DEPTH: usize = 10;

/// What the tree is made of: of each record its parent, and what the story sums up.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where the record is.
    pub(crate) record: RecordId,
    /// The record that it says it is part of.
    pub(crate) parent: Option<Uuid>,
    /// When it began, in microseconds since 1970.
    pub(crate) began_us: i64,
    /// How long it took, in milliseconds; none when that is not known.
    pub(crate) took_ms: Option<f64>,
    /// The outcome.
    pub(crate) status: Box<str>,
}

/// A record's place in the tree.
#[derive(Debug)]
pub(crate) struct Place<'r> {
    /// The record.
    pub(crate) node: &'r Node,
    /// What stands before its first line.
    pub(crate) branch: String,
    /// What stands before its other lines.
    pub(crate) gutter: String,
    /// The parent's id where the drawing does not show the parent, and why it does not.
    pub(crate) hidden_parent: Option<(Uuid, &'static str)>,
}

/// Places every record once: each under its parent, siblings in the order they are given
/// in. A record hangs at the root when its parent is none of these, or is itself, or
/// would close a loop. On a narrow terminal fewer levels are drawn: they take half of it at most.
pub(crate) fn places(nodes: &[Node], width: Option<usize>) -> Vec<Place<'_>> {
    let max_depth = width.map_or(MAX_DEPTH, |width| {
        (width / 6).saturating_sub(2).min(MAX_DEPTH)
    });
    let levels = levels(nodes, max_depth);
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
        let node = &nodes[index];
        let hidden_parent = node.parent.zip(why_hidden);
        places.push(Place {
            node,
            branch,
            gutter,
            hidden_parent,
        });
    }
    places.reverse();
    places
}

/// Every record's index and depth, parents before their children, and why the drawing does
/// not show its parent if it has one.
fn levels(nodes: &[Node], max_depth: usize) -> Vec<(usize, usize, Option<&'static str>)> {
    let mut by_id = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        by_id.entry(node.record.id).or_insert(index);
    }
    let parent_of = |index: usize| {
        let parent = nodes[index].parent?;
        by_id.get(&parent).copied()
    };
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for index in 0..nodes.len() {
        match parent_of(index) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }
    let mut placed = HashSet::new();
    let mut levels = Vec::with_capacity(nodes.len());
    // Whatever the roots do not reach is in a loop or hangs from one: its first row
    // becomes a root.
    for start in roots.into_iter().chain(0..nodes.len()) {
        let mut waiting = vec![(start, 0)];
        while let Some((index, depth)) = waiting.pop() {
            if !placed.insert(index) {
                continue;
            }
            let why_hidden = match depth {
                0 if parent_of(index).is_none() => Some("not among these records"),
                0 => Some("in a loop with this record"),
                depth if depth <= max_depth => None,
                _ => Some("too deep to be drawn"),
            };
            levels.push((index, depth.min(max_depth), why_hidden));
            let below = children.get(&index).into_iter().flatten().rev();
            waiting.extend(below.map(|child| (*child, depth + 1)));
        }
    }
    levels
}
