//! Patterns matched from their text, as slowly and plainly as docs/policy-reference.md describes
//! them. Shares nothing with the crate, so that a mistake in the parser shows as well.

/// A piece of a pattern without groups.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// This character.
    Char(char),
    /// `?`, or a class: whether it is negated, and its ranges.
    OneOf {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Star,
    StarStar,
    Slash,
}

/// Whether a pattern of the language matches a path below a preopen.
pub(crate) fn matches(pattern: &str, path: &[Vec<u8>]) -> bool {
    let text: Vec<char> = pattern.chars().collect();
    expand(&text).iter().any(|tokens| {
        if *tokens == [Token::StarStar] {
            return true;
        }
        if *tokens == [Token::Char('.')] {
            return path.is_empty();
        }
        let parts: Vec<&[Token]> = tokens.split(|token| *token == Token::Slash).collect();
        names(&parts, path)
    })
}

/// Whether a deny rule with this pattern denies a path: it matches it or a directory above.
pub(crate) fn denies(pattern: &str, path: &[Vec<u8>]) -> bool {
    (0..=path.len()).any(|length| matches(pattern, &path[..length]))
}

/// All patterns without groups that a text stands for.
fn expand(text: &[char]) -> Vec<Vec<Token>> {
    let Some(first) = text.first() else { return vec![Vec::new()] };
    let (choices, rest) = match first {
        '{' => {
            let (alternatives, length) = group(text);
            let choices = alternatives.iter().flat_map(|text| expand(text)).collect();
            (choices, &text[length..])
        }
        '[' => {
            let (token, length) = class(text);
            (vec![vec![token]], &text[length..])
        }
        '\\' => (vec![vec![Token::Char(text[1])]], &text[2..]),
        '/' => (vec![vec![Token::Slash]], &text[1..]),
        '?' => (vec![vec![Token::OneOf { negated: true, ranges: Vec::new() }]], &text[1..]),
        '*' if text.get(1) == Some(&'*') => (vec![vec![Token::StarStar]], &text[2..]),
        '*' => (vec![vec![Token::Star]], &text[1..]),
        other => (vec![vec![Token::Char(*other)]], &text[1..]),
    };
    let rests = expand(rest);
    choices
        .iter()
        .flat_map(|choice| rests.iter().map(move |rest| [choice.clone(), rest.clone()].concat()))
        .collect()
}

/// The texts between the commas of a group, and its length with the braces.
fn group(text: &[char]) -> (Vec<Vec<char>>, usize) {
    let mut alternatives = vec![Vec::new()];
    let mut depth = 0;
    let mut at = 0;
    loop {
        let taken = match text[at] {
            '\\' => 2,
            '[' => class(&text[at..]).1,
            _ => 1,
        };
        match text[at] {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (alternatives, at + 1);
        }
        if text[at] == ',' && depth == 1 {
            alternatives.push(Vec::new());
        } else if at > 0 {
            alternatives.last_mut().unwrap().extend(&text[at..at + taken]);
        }
        at += taken;
    }
}

/// A class and its length with the brackets. A `]` in first place is one of its characters.
fn class(text: &[char]) -> (Token, usize) {
    let mut at = 1;
    let negated = matches!(text[at], '!' | '^');
    at += usize::from(negated);
    let mut ranges = Vec::new();
    let character = |at: &mut usize| {
        *at += if text[*at] == '\\' { 2 } else { 1 };
        text[*at - 1]
    };
    while ranges.is_empty() || text[at] != ']' {
        let low = character(&mut at);
        let high = if text[at] == '-' && text[at + 1] != ']' {
            at += 1;
            character(&mut at)
        } else {
            low
        };
        ranges.push((low, high));
    }
    (Token::OneOf { negated, ranges }, at + 1)
}

fn names(parts: &[&[Token]], path: &[Vec<u8>]) -> bool {
    match parts {
        [] => path.is_empty(),
        [[Token::StarStar]] => !path.is_empty(),
        [[Token::StarStar], rest @ ..] => (0..=path.len()).any(|from| names(rest, &path[from..])),
        [first, rest @ ..] => {
            path.first().is_some_and(|own| name(first, own)) && names(rest, &path[1..])
        }
    }
}

fn name(tokens: &[Token], own: &[u8]) -> bool {
    let Some(first) = tokens.first() else { return own.is_empty() };
    let rest = &tokens[1..];
    match first {
        Token::Star => (0..=own.len()).any(|from| name(rest, &own[from..])),
        Token::Char(wanted) => {
            let mut bytes = [0; 4];
            let wanted = wanted.encode_utf8(&mut bytes).as_bytes();
            own.strip_prefix(wanted).is_some_and(|below| name(rest, below))
        }
        Token::OneOf { negated, ranges } => {
            // Only what is UTF-8 from here on is a character.
            let valid = own.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            let Some(found) = valid.chars().next() else { return false };
            let listed = ranges.iter().any(|(low, high)| (*low..=*high).contains(&found));
            listed != *negated && name(rest, &own[found.len_utf8()..])
        }
        Token::StarStar | Token::Slash => false,
    }
}

/// A path that the pattern matches, mostly: made by writing something for each piece. `next` gives
/// numbers below its argument.
pub(crate) fn example(pattern: &str, mut next: impl FnMut(usize) -> usize) -> Vec<Vec<u8>> {
    let text: Vec<char> = pattern.chars().collect();
    let all = expand(&text);
    let tokens = &all[next(all.len())];
    if *tokens == [Token::Char('.')] {
        return Vec::new();
    }
    let odd: [&[u8]; 8] =
        [b"a", b"b", b"ab", "ä".as_bytes(), b"\xff", b"\xc3", b"\xed\xa0\x80", b"\n]"];
    let mut path = Vec::new();
    for part in tokens.split(|token| *token == Token::Slash) {
        if *part == [Token::StarStar] {
            path.extend((0..next(3)).map(|_| odd[next(odd.len())].to_vec()));
            continue;
        }
        let mut own: Vec<u8> = Vec::new();
        for token in part {
            match token {
                Token::Char(character) => own.extend(character.to_string().bytes()),
                Token::OneOf { negated: false, ranges } => {
                    let (low, high) = ranges[next(ranges.len())];
                    let listed = (low..=high).nth(next(1 + high as usize - low as usize));
                    own.extend(listed.map(String::from).unwrap_or_default().bytes());
                }
                Token::OneOf { .. } => {
                    own.extend(["a", "z", "ä", "€", "\u{10ffff}", "\u{7f}"][next(6)].bytes());
                }
                Token::Star | Token::StarStar => {
                    (0..next(3)).for_each(|_| own.extend(odd[next(odd.len())]));
                }
                Token::Slash => {}
            }
        }
        path.push(own);
    }
    // What cannot be a name is left out.
    path.retain(|own| !own.is_empty() && !own.contains(&b'/') && own != b"." && own != b"..");
    path
}
