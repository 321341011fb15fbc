//! The topic exchange's trie: patterns of words, `*` for exactly one, `#` for any number of them. Pure.
//!
//! Matching walks the set of nodes that the words so far can have led to, so that its cost is at most words times
//! nodes, also for patterns such as `#.a.#.a.#` that make a backtracking matcher explode.

use std::collections::BTreeMap;

use super::binding::Destination;
use super::exchange::{Destinations, add, subtract};

const ROOT: usize = 0;

/// The patterns of one topic exchange.
#[derive(Debug)]
pub(crate) struct TopicTrie {
    nodes: Vec<Node>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Node {
    words: BTreeMap<Box<str>, usize>,
    star: Option<usize>,
    hash: Option<usize>,
    /// Reached by `#`: any further word stays here.
    repeats: bool,
    destinations: Destinations,
}

impl Default for TopicTrie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl TopicTrie {
    pub(crate) fn insert(&mut self, pattern: &str, destination: &Destination) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.grow(at, word),
            };
        }
        add(&mut self.nodes[at].destinations, destination);
    }

    pub(crate) fn remove(&mut self, pattern: &str, destination: &Destination) {
        let mut path = Vec::new();
        let mut at = ROOT;
        for word in words(pattern) {
            let Some(child) = self.child(at, word) else { return };
            path.push((at, word));
            at = child;
        }
        subtract(&mut self.nodes[at].destinations, destination);
        while let Some((parent, word)) = path.pop() {
            if !self.nodes[at].is_empty() {
                break;
            }
            self.cut(parent, word);
            self.free.push(at);
            at = parent;
        }
    }

    /// Adds the destinations whose pattern matches; one may come more than once.
    pub(crate) fn matching<'a>(&'a self, routing_key: &str, found: &mut Vec<&'a Destination>) {
        let mut active = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        self.enter(ROOT, &mut active, &mut seen);
        for word in words(routing_key) {
            let before = std::mem::take(&mut active);
            seen.fill(false);
            for at in before {
                let node = &self.nodes[at];
                if node.repeats {
                    self.enter(at, &mut active, &mut seen);
                }
                for child in node.words.get(word).copied().into_iter().chain(node.star) {
                    self.enter(child, &mut active, &mut seen);
                }
            }
        }
        found.extend(active.into_iter().flat_map(|at| self.nodes[at].destinations.keys()));
    }

    /// Marks a node as reached, and with it what `#` reaches without any word.
    fn enter(&self, node: usize, active: &mut Vec<usize>, seen: &mut [bool]) {
        let mut next = Some(node);
        while let Some(at) = next.filter(|at| !seen[*at]) {
            seen[at] = true;
            active.push(at);
            next = self.nodes[at].hash;
        }
    }

    fn child(&self, at: usize, word: &str) -> Option<usize> {
        let node = &self.nodes[at];
        match word {
            "*" => node.star,
            "#" => node.hash,
            _ => node.words.get(word).copied(),
        }
    }

    fn grow(&mut self, parent: usize, word: &str) -> usize {
        let node = Node { repeats: word == "#", ..Node::default() };
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        let parent = &mut self.nodes[parent];
        match word {
            "*" => parent.star = Some(child),
            "#" => parent.hash = Some(child),
            _ => {
                parent.words.insert(word.into(), child);
            }
        }
        child
    }

    fn cut(&mut self, parent: usize, word: &str) {
        let parent = &mut self.nodes[parent];
        match word {
            "*" => parent.star = None,
            "#" => parent.hash = None,
            _ => {
                parent.words.remove(word);
            }
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none() && self.destinations.is_empty()
    }
}

/// The words of a key: the empty key has none, as RabbitMQ has it.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::QueueId;

    /// The definition, word by word.
    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                naive(rest, key) || key.split_first().is_some_and(|(_, tail)| naive(pattern, tail))
            }
            (Some((&"*", rest)), Some((_, tail))) => naive(rest, tail),
            (Some((word, rest)), Some((first, tail))) => word == first && naive(rest, tail),
            _ => false,
        }
    }

    fn split(key: &str) -> Vec<&str> {
        words(key).collect()
    }

    fn reached(trie: &TopicTrie, key: &str) -> Vec<Destination> {
        let mut found = Vec::new();
        trie.matching(key, &mut found);
        found.sort();
        found.dedup();
        found.into_iter().cloned().collect()
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_the_definition(
            patterns in prop::collection::vec("([ab*#](\\.[ab*#]){0,5})?", 1..12),
            keys in prop::collection::vec("([abc](\\.[abc]){0,6})?", 1..8),
            removed in prop::collection::vec(any::<bool>(), 12),
        ) {
            let mut trie = TopicTrie::default();
            let destination = |index: usize| Destination::Queue(QueueId(index as u64));
            for (index, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, &destination(index));
            }
            for (index, pattern) in patterns.iter().enumerate().filter(|(index, _)| removed[*index]) {
                trie.remove(pattern, &destination(index));
            }
            for key in &keys {
                let kept = patterns.iter().enumerate().filter(|(index, _)| !removed[*index]);
                let expected: Vec<Destination> =
                    kept.filter(|(_, pattern)| naive(&split(pattern), &split(key))).map(|(index, _)| destination(index)).collect();
                prop_assert_eq!(reached(&trie, key), expected, "key {}", key);
            }
        }
    }

    #[test]
    fn many_hashes_do_not_explode() {
        let mut trie = TopicTrie::default();
        trie.insert(&["#.a"; 40].join("."), &Destination::Queue(QueueId(1)));
        assert!(reached(&trie, &["a"; 39].join(".")).is_empty());
        assert_eq!(reached(&trie, &["a"; 120].join(".")).len(), 1);
    }

    #[test]
    fn removing_everything_frees_the_nodes() {
        let mut trie = TopicTrie::default();
        for round in 0..100 {
            let pattern = format!("a.{round}.#");
            trie.insert(&pattern, &Destination::Queue(QueueId(1)));
            trie.remove(&pattern, &Destination::Queue(QueueId(1)));
        }
        assert!(trie.nodes.len() <= 4, "{} nodes", trie.nodes.len());
    }
}
