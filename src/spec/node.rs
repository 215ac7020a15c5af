//! A YAML or TOML document as a tree that still knows where each part was written.

use crate::diagnostic::Span;

/// One value of a document and the place it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
    /// What a merge does with it; `None` in a loaded document, where every merge is done.
    pub tag: Option<Tag>,
}

/// A compose tag: how a value in a later file treats the one of an earlier file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `!reset`: the earlier value goes, and so does this one.
    Reset,
    /// `!override`: this value replaces the earlier one whole.
    Override,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Null,
    /// A scalar as written, after interpolation; what it means is decided by what is expected there.
    Scalar(Scalar),
    Sequence(Vec<Node>),
    /// In the order of the file; keys are unique.
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    pub text: String,
    /// Quoted or a block literal: always a string.
    pub quoted: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// Returns a value without a tag.
    pub fn new(span: Span, kind: Kind) -> Self {
        Self { span, kind, tag: None }
    }

    /// Returns the value under `key` when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// As [`Node::get`], to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.kind {
            Kind::Mapping(entries) => {
                entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
            }
            _ => None,
        }
    }

    /// Takes the value under `key` out of a mapping.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        match &mut self.kind {
            Kind::Mapping(entries) => {
                let position = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(position).value)
            }
            _ => None,
        }
    }
}
