//! Arranges the records of a request as a tree, and draws its branches.

use std::collections::{HashMap, HashSet};

use sqlx::types::Uuid;

use crate::row::RecordId;

/// The deepest level that is drawn; records below it are drawn at this level. Without a bound, a
/// chain of records would leave no room for their text.
const MAX_DEPTH: usize = 10;

/// A node of the tree: a record, its parent, and what the summary needs.
#[derive(Debug)]
pub(crate) struct Node {
    /// The record.
    pub(crate) record: RecordId,
    /// The parent that the record names.
    pub(crate) parent: Option<Uuid>,
    /// When it began, in microseconds since 1970.
    pub(crate) began_us: i64,
    /// How long it took, in milliseconds; `None` if unknown.
    pub(crate) took_ms: Option<f64>,
    /// The outcome.
    pub(crate) status: Box<str>,
}

/// A record's place in the tree.
#[derive(Debug)]
pub(crate) struct Place<'r> {
    /// The record.
    pub(crate) node: &'r Node,
    /// How many records are above it.
    pub(crate) depth: usize,
    /// The prefix of its first line.
    pub(crate) branch: String,
    /// The prefix of its other lines.
    pub(crate) gutter: String,
    /// The parent's id if the drawing does not show the parent, and the reason.
    pub(crate) hidden_parent: Option<(Uuid, &'static str)>,
}

/// Places every record once: each under its parent, siblings in the given order. A record becomes a
/// root if its parent is not among these records, is itself, or would close a loop. On a narrow
/// terminal fewer levels are drawn, so that they take at most half of it.
pub(crate) fn places(nodes: &[Node], width: Option<usize>) -> Vec<Place<'_>> {
    let max_depth = width.map_or(MAX_DEPTH, |width| {
        (width / 6).saturating_sub(2).min(MAX_DEPTH)
    });
    let levels = levels(nodes, max_depth);
    let mut places = Vec::with_capacity(levels.len());
    // From the last line upwards, because a branch looks different if a sibling follows it;
    // `follows[level]` tells whether one does.
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
            depth,
            branch,
            gutter,
            hidden_parent,
        });
    }
    places.reverse();
    places
}

/// Returns every record's index and depth, parents before their children, and the reason if the
/// drawing does not show its parent.
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
    // Records that no root reaches are in a loop or below one: the first becomes a root.
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
