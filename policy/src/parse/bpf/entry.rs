//! Single values of `[bpf]`.

use super::Text;
use crate::bpf::{AttachList, COUNTERS, ProgramKind, Uprobe, helpers};
use crate::diagnostic::nearest;
use crate::pattern::Pattern;
use crate::source::Span;

/// Why a value cannot be used.
pub(super) struct Wrong {
    pub(super) place: Span,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Wrong {
    fn new(place: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { place, message: message.into(), hint: hint.into() }
    }

    fn whole(text: &Text<'_>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(text.span.clone(), message, hint)
    }
}

/// One of a few words; `what` they are.
pub(super) fn word<T: Copy>(
    text: &Text<'_>,
    what: &str,
    words: &[(T, &'static str)],
) -> Result<T, Wrong> {
    if let Some((word, _)) = words.iter().find(|(_, name)| *name == text.text) {
        return Ok(*word);
    }
    let hint = match nearest(text.text, words.iter().map(|(_, name)| *name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let names: Vec<String> = words.iter().map(|(_, name)| format!("\"{name}\"")).collect();
            format!("write one of {}", names.join(", "))
        }
    };
    Err(Wrong::whole(text, format!("unknown {what} \"{}\"", text.text), hint))
}

pub(super) fn kind(text: &Text<'_>) -> Result<ProgramKind, Wrong> {
    let words = ProgramKind::EVERY.map(|kind| (kind, kind.name()));
    word(text, "kind of program", &words)
}

/// A helper function that can be granted.
pub(super) fn helper(text: &Text<'_>) -> Result<u32, Wrong> {
    let name = text.text;
    let Some(id) = helpers::by_name(name) else {
        let with_prefix = format!("bpf_{name}");
        let known = helpers::by_name(&with_prefix).and_then(helpers::name);
        let hint = match known.or_else(|| nearest(name, helpers::names())) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write a name of bpf-helpers(7), as in \"bpf_send_signal\"".into(),
        };
        return Err(Wrong::whole(text, format!("unknown helper function \"{name}\""), hint));
    };
    if helpers::is_grantable(id) {
        return Ok(id);
    }
    Err(Wrong::whole(
        text,
        format!("no policy can grant `{name}`"),
        "remove it; no program of a guest may call this function",
    ))
}

/// An entry of a list that is no uprobe.
pub(super) fn pattern(list: AttachList, text: &Text<'_>) -> Result<Pattern, Wrong> {
    let pattern = piece(list, text, 0..text.text.len())?;
    let names = list.names();
    if !pattern.alternatives().iter().any(|path| path.can_have(&names)) {
        return Err(never_matches(list, text));
    }
    match list {
        AttachList::PerfEvents if !COUNTERS.iter().any(|name| pattern.matches(name)) => {
            let hint = match nearest(text.text, COUNTERS) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("the counters are {}", COUNTERS.join(", ")),
            };
            Err(Wrong::whole(text, format!("no counter is named \"{}\"", text.text), hint))
        }
        AttachList::LsmHooks => {
            let mut prefixes = ["bpf_lsm_", "security_"].iter();
            match prefixes.find_map(|prefix| text.text.strip_prefix(prefix)) {
                Some(rest) => Err(Wrong::whole(
                    text,
                    "this rule never matches: hooks are named without a prefix",
                    format!("write \"{rest}\""),
                )),
                None => Ok(pattern),
            }
        }
        _ => Ok(pattern),
    }
}

/// `/abs/path:symbol`. Symbols have no `:` in them: those of C++ and Rust are mangled.
pub(super) fn uprobe(text: &Text<'_>) -> Result<Uprobe, Wrong> {
    let list = AttachList::Uprobes;
    let Some((path, symbol)) = text.text.rsplit_once(':') else {
        return Err(Wrong::whole(
            text,
            format!("no function in \"{}\"", text.text),
            format!("write the file and the function, as in \"{}\"", list.example()),
        ));
    };
    if !path.starts_with('/') {
        return Err(Wrong::whole(
            text,
            "the file of a uprobe has an absolute path",
            format!("start it with `/`, as in \"{}\"", list.example()),
        ));
    }
    let file = piece(list, text, 1..path.len())?;
    let function = piece(list, text, path.len() + 1..path.len() + 1 + symbol.len())?;
    let can = |pattern: &Pattern, most| {
        pattern.alternatives().iter().any(|path| path.can_have(&(1..=most)))
    };
    if !can(&file, usize::MAX) || !can(&function, 1) {
        return Err(never_matches(list, text));
    }
    Ok(Uprobe { path: file, symbol: function })
}

fn never_matches(list: AttachList, text: &Text<'_>) -> Wrong {
    Wrong::whole(
        text,
        format!("this rule never matches: {}", list.entry()),
        format!("write it as in \"{}\"", list.example()),
    )
}

/// The pattern in some bytes of a text.
fn piece(list: AttachList, text: &Text<'_>, bytes: Span) -> Result<Pattern, Wrong> {
    Pattern::parse(text.text.get(bytes.clone()).unwrap_or_default()).map_err(|error| {
        let place = text.part(bytes.start + error.span.start..bytes.start + error.span.end);
        let place = if place.is_empty() { text.span.clone() } else { place };
        let hint = match error.general_hint() {
            Some(hint) => hint.to_owned(),
            None => format!("write it as in \"{}\"", list.example()),
        };
        Wrong::new(place, error.message, hint)
    })
}
