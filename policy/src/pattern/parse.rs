//! Text to syntax tree.

use super::expand::{self, Node};
use super::{
    AsciiSet, Element, MAX_PATTERN_BYTES, MAX_PATTERN_NAMES, NamePattern, Part, PathPattern,
};
use crate::source::Span;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
    /// Bytes of the pattern's text that it is about.
    pub span: Span,
}

impl PatternError {
    pub(super) fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), span }
    }

    /// The hint, if it is one for patterns about other things than names below a preopen too.
    pub(crate) fn general_hint(&self) -> Option<&str> {
        Some(self.hint.as_str()).filter(|hint| !hint.contains("preopen"))
    }
}

/// A token and the bytes of the text that it came from.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Element(Element),
    /// `**` as written in one place; two stars that a group brings together are just a star.
    StarStar,
    Slash,
}

/// Deepest nesting of groups: reading them recurses.
const MAX_GROUP_DEPTH: usize = 8;

pub(super) fn parse(text: &str) -> Result<Vec<PathPattern>, PatternError> {
    let whole = 0..text.len();
    if text.is_empty() {
        return Err(PatternError::new(
            whole,
            "empty pattern",
            "write `**` for everything or `.` for the preopen itself",
        ));
    }
    if text.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::new(
            whole,
            format!("pattern of more than {MAX_PATTERN_BYTES} bytes"),
            "no path is that long",
        ));
    }
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        return Err(PatternError::new(at..at + 1, "NUL in a pattern", "no name contains NUL"));
    }
    if text.starts_with('/') {
        return Err(PatternError::new(
            0..1,
            "pattern starts with `/`",
            "patterns are relative to the preopen: leave the `/` out",
        ));
    }
    let mut reader = Reader { text, at: 0 };
    let nodes = reader.sequence(0)?;
    let mut patterns = Vec::new();
    for tokens in expand::expand(&nodes)? {
        let pattern = path(&tokens, text.len())?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// Tokens up to the end of the text or, inside a group, to its `,` or `}`.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, PatternError> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if depth > 0 && (c == ',' || c == '}') {
                break;
            }
            let start = self.at;
            self.take();
            let kind = match c {
                '/' => Kind::Slash,
                '?' => Kind::Element(Element::Char),
                '*' => {
                    if self.take_if('*') {
                        if self.peek() == Some('*') {
                            return Err(PatternError::new(
                                start..self.at + 1,
                                "three stars",
                                "`*` matches within a name, `**` across names",
                            ));
                        }
                        Kind::StarStar
                    } else {
                        Kind::Element(Element::Star)
                    }
                }
                '[' => Kind::Element(self.class(start)?),
                ']' => {
                    return Err(PatternError::new(
                        start..self.at,
                        "`]` without `[`",
                        "write `\\]` (in a TOML \"string\": `\\\\]`) for the character itself",
                    ));
                }
                '{' => {
                    nodes.push(self.group(start, depth)?);
                    continue;
                }
                '}' => {
                    return Err(PatternError::new(
                        start..self.at,
                        "`}` without `{`",
                        "write `\\}` (in a TOML \"string\": `\\\\}`) for the character itself",
                    ));
                }
                '\\' => {
                    let escaped = self.escaped(start)?;
                    let span = start..self.at;
                    push_char(&mut nodes, escaped, &span);
                    continue;
                }
                c => {
                    let span = start..self.at;
                    push_char(&mut nodes, c, &span);
                    continue;
                }
            };
            nodes.push(Node::Token(Token { kind, span: start..self.at }));
        }
        Ok(nodes)
    }

    fn escaped(&mut self, start: usize) -> Result<char, PatternError> {
        match self.take() {
            None => Err(PatternError::new(
                start..self.at,
                "`\\` at the end of the pattern",
                "write `\\\\` (in a TOML \"string\": `\\\\\\\\`) for a backslash",
            )),
            Some('/') => Err(PatternError::new(
                start..self.at,
                "`\\/` in a pattern",
                "no name contains `/`; it always separates names",
            )),
            Some(c) => Ok(c),
        }
    }

    fn group(&mut self, start: usize, depth: usize) -> Result<Node, PatternError> {
        if depth == MAX_GROUP_DEPTH {
            return Err(PatternError::new(
                start..self.at,
                format!("groups nested more than {MAX_GROUP_DEPTH} deep"),
                "write several patterns",
            ));
        }
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence(depth + 1)?);
            match self.take() {
                Some(',') => {}
                Some(_) => break,
                None => {
                    return Err(PatternError::new(
                        start..start + 1,
                        "`{` without `}`",
                        "close the group, or write `\\{` (in a TOML \"string\": `\\\\{`)",
                    ));
                }
            }
        }
        Ok(Node::Group(alternatives, start..self.at))
    }

    /// A class, after its `[`.
    fn class(&mut self, start: usize) -> Result<Element, PatternError> {
        let negated = self.take_if('!') || self.take_if('^');
        let mut set = AsciiSet::new();
        let mut first = true;
        loop {
            // As in a shell, a `]` in first place stands for itself.
            if !first && self.take_if(']') {
                break;
            }
            first = false;
            let item = self.at;
            let low = self.class_character(start, item)?;
            let is_range = self.peek() == Some('-')
                && self.text.get(self.at + 1..).is_some_and(|rest| !rest.starts_with(']'));
            if !is_range {
                set.insert(low);
                continue;
            }
            self.take();
            let high = self.class_character(start, item)?;
            if high < low {
                return Err(PatternError::new(
                    item..self.at,
                    "range that ends before it starts",
                    "write the lower character first",
                ));
            }
            set.extend(low..=high);
        }
        let set = expand::name_characters(&set);
        if set.is_empty() && !negated {
            return Err(PatternError::new(
                start..self.at,
                "class that no character is in",
                "name at least one character that a name may contain",
            ));
        }
        Ok(if negated { Element::NoneOf(set) } else { Element::OneOf(set) })
    }

    fn class_character(&mut self, start: usize, item: usize) -> Result<u8, PatternError> {
        let c = match self.take() {
            Some('\\') => self.escaped(item)?,
            Some('/') => {
                return Err(PatternError::new(
                    item..self.at,
                    "`/` in a class",
                    "no name contains `/`; it always separates names",
                ));
            }
            Some(c) => c,
            None => {
                return Err(PatternError::new(
                    start..start + 1,
                    "`[` without `]`",
                    "close the class, or write `\\[` (in a TOML \"string\": `\\\\[`)",
                ));
            }
        };
        u8::try_from(c).ok().filter(u8::is_ascii).ok_or_else(|| {
            PatternError::new(
                item..self.at,
                format!("`{c}` in a class: classes hold ASCII characters only"),
                "use alternatives, as in `{ä,ö}`",
            )
        })
    }
}

fn push_char(nodes: &mut Vec<Node>, c: char, span: &Span) {
    let mut buffer = [0; 4];
    for byte in c.encode_utf8(&mut buffer).bytes() {
        let kind = Kind::Element(Element::Byte(byte));
        nodes.push(Node::Token(Token { kind, span: span.clone() }));
    }
}

/// A list of tokens without groups to the names that it stands for.
fn path(tokens: &[Token], text_len: usize) -> Result<PathPattern, PatternError> {
    if let [Token { kind: Kind::Element(Element::Byte(b'.')), .. }] = tokens {
        return Ok(PathPattern { parts: Vec::new() });
    }
    let mut parts = Vec::new();
    let mut rest = tokens;
    let mut end = 0;
    loop {
        let length = rest.iter().position(|token| token.is(&Kind::Slash)).unwrap_or(rest.len());
        let part = part(&rest[..length], end, rest.get(length), text_len)?;
        if part == Part::Names && parts.last() == Some(&Part::Names) {
            return Err(PatternError::new(
                token_span(&rest[..length]),
                "`**` twice in a row",
                "write it once: it already stands for any number of names",
            ));
        }
        parts.push(part);
        if parts.len() > MAX_PATTERN_NAMES {
            return Err(PatternError::new(
                0..text_len,
                format!("pattern of more than {MAX_PATTERN_NAMES} names"),
                "use `**` for the upper ones",
            ));
        }
        let Some(slash) = rest.get(length) else {
            return Ok(PathPattern { parts });
        };
        end = slash.span.end;
        rest = &rest[length + 1..];
    }
}

/// The part between two slashes. `before` is where it starts, `slash` the one that ends it.
fn part(
    tokens: &[Token],
    before: usize,
    slash: Option<&Token>,
    text_len: usize,
) -> Result<Part, PatternError> {
    let span = token_span(tokens);
    let Some(first) = tokens.first() else {
        return Err(match (before, slash) {
            (0, Some(slash)) => PatternError::new(
                slash.span.clone(),
                "an alternative starts with `/`",
                "patterns are relative to the preopen",
            ),
            (0, None) => PatternError::new(
                0..text_len,
                "an alternative is empty",
                "write `.` for the preopen itself",
            ),
            (_, Some(slash)) => PatternError::new(
                slash.span.clone(),
                "empty name between two `/`",
                "write a single `/`",
            ),
            (_, None) => PatternError::new(
                before - 1..before,
                "pattern ends with `/`",
                "leave it out; `/**` at the end stands for everything below",
            ),
        });
    };
    let bytes = |wanted: &[u8]| {
        tokens.len() == wanted.len()
            && tokens
                .iter()
                .zip(wanted)
                .all(|(token, byte)| token.is(&Kind::Element(Element::Byte(*byte))))
    };
    if bytes(b".") {
        return Err(PatternError::new(
            span,
            "`.` as a name",
            "leave it out; `.` alone stands for the preopen itself",
        ));
    }
    if bytes(b"..") {
        return Err(PatternError::new(
            span,
            "`..` in a pattern",
            "a rule cannot reach above its preopen; add a preopen for that directory",
        ));
    }
    if tokens.len() == 1 && first.is(&Kind::StarStar) {
        return Ok(Part::Names);
    }
    let mut elements = Vec::new();
    for token in tokens {
        match &token.kind {
            Kind::Element(element) => {
                if *element != Element::Star || elements.last() != Some(&Element::Star) {
                    elements.push(element.clone());
                }
            }
            Kind::StarStar | Kind::Slash => {
                return Err(PatternError::new(
                    token.span.clone(),
                    "`**` glued to other text",
                    "`**` must stand alone between slashes; within a name use `*`",
                ));
            }
        }
    }
    Ok(Part::Name(NamePattern { elements }))
}

fn token_span(tokens: &[Token]) -> Span {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => first.span.start..last.span.end.max(first.span.end),
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    fn error(text: &str) -> String {
        Pattern::parse(text).unwrap_err().message
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        for (text, wanted) in [
            ("", "empty pattern"),
            ("/a", "pattern starts with `/`"),
            ("a/../b", "`..` in a pattern"),
            ("a/./b", "`.` as a name"),
            ("./a", "`.` as a name"),
            ("a//b", "empty name between two `/`"),
            ("a/", "pattern ends with `/`"),
            ("a\0", "NUL in a pattern"),
            ("a**", "`**` glued to other text"),
            ("**b/c", "`**` glued to other text"),
            ("**/**", "`**` twice in a row"),
            ("***", "three stars"),
            ("[a", "`[` without `]`"),
            ("[]", "`[` without `]`"),
            ("[b-a]", "range that ends before it starts"),
            ("[ä]", "`ä` in a class: classes hold ASCII characters only"),
            ("[a/b]", "`/` in a class"),
            ("a]", "`]` without `[`"),
            ("{a", "`{` without `}`"),
            ("a}", "`}` without `{`"),
            ("a\\", "`\\` at the end of the pattern"),
            ("a\\/b", "`\\/` in a pattern"),
            ("{a,}", "an alternative is empty"),
            ("{,a}/b", "an alternative starts with `/`"),
            ("a{/,b}", "pattern ends with `/`"),
        ] {
            assert_eq!(error(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn error_spans_point_into_the_text() {
        let at = |text: &str| Pattern::parse(text).unwrap_err().span;
        assert_eq!(at("a/../b"), 2..4);
        assert_eq!(at("ü/x**"), 4..6);
        assert_eq!(at("a/"), 1..2);
        assert_eq!(at("ab[c"), 2..3);
    }

    #[test]
    fn groups_expand_also_across_slashes_and_nested() {
        let texts = |text: &str| Pattern::parse(text).unwrap().alternatives().to_vec();
        assert_eq!(texts("{a,b}"), [texts("a"), texts("b")].concat());
        assert_eq!(texts("{a/b,c{d,e}}"), [texts("a/b"), texts("cd"), texts("ce")].concat());
        assert_eq!(texts("{a,**}/b"), [texts("a/b"), texts("**/b")].concat());
        assert_eq!(texts("{a,a}"), texts("a"));
        assert_eq!(texts("{*,a}*"), [texts("*"), texts("a*")].concat());
    }

    #[test]
    fn expansion_is_bounded() {
        assert!(Pattern::parse(&"{a,b}".repeat(8)).is_ok());
        assert_eq!(error(&"{a,b}".repeat(9)), "the groups stand for more than 256 patterns");
        assert_eq!(error(&"{a,b}".repeat(800)), "the groups stand for more than 256 patterns");
        assert_eq!(error(&"{".repeat(4000)), "groups nested more than 8 deep");
        assert_eq!(error(&"a/".repeat(200)), "pattern of more than 128 names");
    }

    #[test]
    fn escapes_and_first_brackets_are_literal() {
        let literal = |text: &str| match &Pattern::parse(text).unwrap().alternatives()[0].parts[..]
        {
            [Part::Name(name)] => name.literal(),
            _ => None,
        };
        assert_eq!(literal(r"\*\[\{\\").unwrap(), br"*[{\");
        assert_eq!(
            Pattern::parse("[]a-]").unwrap().alternatives()[0].parts,
            [Part::Name(NamePattern {
                elements: vec![Element::OneOf(AsciiSet::from([b']', b'a', b'-']))]
            })]
        );
    }

    #[test]
    fn dot_is_the_preopen_itself() {
        let dot = Pattern::parse(".").unwrap();
        assert!(dot.matches_root() && dot.alternatives()[0].parts.is_empty());
        assert!(Pattern::parse("**").unwrap().matches_root());
        assert!(!Pattern::parse("**/a").unwrap().matches_root());
    }
}
