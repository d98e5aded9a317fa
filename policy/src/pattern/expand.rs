//! `{a,b}` groups become several lists of tokens.

use super::parse::{Kind, PatternError, Token};
use super::{AsciiSet, MAX_ALTERNATIVES, MAX_PATTERN_BYTES};
use crate::source::Span;

/// A tree of tokens and groups.
pub(super) enum Node {
    Token(Token),
    /// The span is that of the whole group.
    Group(Vec<Vec<Node>>, Span),
}

/// All ways to choose one alternative from every group, in the order of the text.
pub(super) fn expand(nodes: &[Node]) -> Result<Vec<Vec<Token>>, PatternError> {
    let mut lists: Vec<Vec<Token>> = vec![Vec::new()];
    for node in nodes {
        match node {
            Node::Token(token) => {
                for list in &mut lists {
                    list.push(token.clone());
                }
            }
            Node::Group(alternatives, span) => {
                let mut choices = Vec::new();
                for alternative in alternatives {
                    choices.extend(expand(alternative)?);
                }
                let tokens = |lists: &[Vec<Token>]| lists.iter().map(Vec::len).sum::<usize>();
                // Bounded before the product is built: a short text can ask for a huge one.
                let count = lists.len().saturating_mul(choices.len());
                let size = tokens(&lists)
                    .saturating_mul(choices.len())
                    .saturating_add(tokens(&choices).saturating_mul(lists.len()));
                if count > MAX_ALTERNATIVES || size > MAX_ALTERNATIVES * MAX_PATTERN_BYTES {
                    return Err(PatternError::new(
                        span.clone(),
                        format!("the groups stand for more than {MAX_ALTERNATIVES} patterns"),
                        "write several patterns, or use `*`",
                    ));
                }
                lists = lists
                    .iter()
                    .flat_map(|list| {
                        choices.iter().map(move |choice| {
                            let mut joined = list.clone();
                            joined.extend(choice.iter().cloned());
                            joined
                        })
                    })
                    .collect();
            }
        }
    }
    Ok(lists)
}

/// The ASCII characters that a class may stand for: all but `/` and NUL.
pub(super) fn name_characters(set: &AsciiSet) -> AsciiSet {
    set.iter().copied().filter(|byte| *byte != b'/' && *byte != 0).collect()
}

impl Token {
    pub(super) fn is(&self, kind: &Kind) -> bool {
        self.kind == *kind
    }
}
