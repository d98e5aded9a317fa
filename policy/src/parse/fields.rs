//! Reads values from TOML tables against the schema.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Findings, nearest};
use crate::schema::{Key, Keys, Kind};
use crate::source::Span;

/// A key of a table that the schema knows, with a value of the right kind.
pub(crate) struct Field<'t, 'i, K> {
    pub(crate) key: K,
    pub(crate) value: &'t Spanned<DeValue<'i>>,
}

/// What a table holds, in the order of the text. Unknown keys and values of a wrong kind are
/// reported and left out; missing keys are reported at `place`.
pub(crate) fn fields<'t, 'i, K: Keys>(
    table: &'t DeTable<'i>,
    place: Span,
    findings: &mut Findings<'_>,
) -> Vec<Field<'t, 'i, K>> {
    let mut fields = Vec::new();
    for (name, value) in table {
        let text = name.get_ref().as_ref();
        let Some((key, declared)) = K::from_name(text) else {
            findings.error(name.span(), format!("unknown key `{text}`"), unknown_hint::<K>(text));
            continue;
        };
        if is_kind(value.get_ref(), declared.kind) {
            fields.push(Field { key, value });
        } else {
            findings.error(
                value.span(),
                format!("`{text}` is a {}, not {}", declared.kind, kind_of(value.get_ref())),
                kind_hint(text, value.get_ref(), declared.kind),
            );
        }
    }
    for key in K::TABLE.keys.iter().filter(|key| key.default.is_none()) {
        if !table.contains_key(key.name) {
            let of = match K::TABLE.header {
                "" => K::FILE_NAME.into(),
                header => format!("`{header}`"),
            };
            findings.error(place.clone(), format!("no `{}` in {of}", key.name), missing_hint(key));
        }
    }
    fields.sort_by_key(|field| field.value.span().start);
    fields
}

fn missing_hint(key: &Key) -> Option<String> {
    if key.name == "version" {
        return Some("write `version = 1` as the first line".into());
    }
    let (first, _) = key.doc.trim().split_once(['.', ':'])?;
    Some(format!("`{}`: {first}", key.name))
}

fn unknown_hint<K: Keys>(text: &str) -> Option<String> {
    if let Some(near) = nearest(text, K::TABLE.keys.iter().map(|key| key.name)) {
        return Some(format!("did you mean `{near}`?"));
    }
    let elsewhere = K::FILE.iter().find(|table| table.keys.iter().any(|key| key.name == text));
    if let Some(table) = elsewhere {
        return Some(match table.header {
            "" => format!("`{text}` stands above every table"),
            header => format!("`{text}` belongs into `{header}`"),
        });
    }
    let names: Vec<String> = K::TABLE.keys.iter().map(|key| format!("`{}`", key.name)).collect();
    Some(format!("the keys here are {}", names.join(", ")))
}

fn is_kind(value: &DeValue<'_>, kind: Kind) -> bool {
    match kind {
        Kind::Integer => value.is_integer(),
        Kind::Number => value.is_integer() || value.is_float(),
        Kind::Text => value.is_str(),
        // Entries of a list are looked at one by one, so that each wrong one is reported.
        Kind::TextList | Kind::TextLists => value.is_array(),
        Kind::Table => value.is_table(),
        Kind::TableList => value.is_array(),
    }
}

pub(crate) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn kind_hint(name: &str, value: &DeValue<'_>, kind: Kind) -> Option<String> {
    match (kind, value) {
        (Kind::TextList, DeValue::String(text)) => Some(format!("write `{name} = [{text:?}]`")),
        (Kind::TableList, DeValue::Table(_)) => {
            Some(format!("write `[[{name}]]` with two brackets, once for each directory"))
        }
        (Kind::Table, DeValue::Array(_)) => Some(format!("write `[{name}]` once")),
        (Kind::Integer, DeValue::String(text)) if text.parse::<u64>().is_ok() => {
            Some(format!("write `{name} = {text}` without quotes"))
        }
        (Kind::Number, DeValue::String(text)) if text.parse::<f64>().is_ok() => {
            Some(format!("write `{name} = {text}` without quotes"))
        }
        (Kind::Text, DeValue::Integer(number))
            if ["memory", "time", "ring", "map_bytes"].contains(&name) =>
        {
            Some(format!("write a string with its unit, as in `{name} = \"{number}…\"`"))
        }
        _ => None,
    }
}

/// A string with its place, and where inside the source its own bytes start if they stand there
/// as they are (no escapes).
pub(crate) struct Text<'t> {
    pub(crate) text: &'t str,
    pub(crate) span: Span,
    inside: Option<usize>,
}

impl Text<'_> {
    /// The place of some bytes of the text; of all of it if escapes make them hard to find.
    pub(crate) fn part(&self, part: Span) -> Span {
        match self.inside {
            Some(start) => start + part.start..start + part.end.min(self.text.len()),
            None => self.span.clone(),
        }
    }
}

/// The string in `value`, if it is one.
pub(crate) fn text<'t>(value: &'t Spanned<DeValue<'_>>, source: &str) -> Option<Text<'t>> {
    let text = value.get_ref().as_str()?;
    let span = value.span();
    let raw = source.get(span.clone()).unwrap_or_default();
    let inside = [3, 1].into_iter().find_map(|quote| {
        let inner = raw.get(quote..raw.len().checked_sub(quote)?)?;
        (inner == text).then_some(span.start + quote)
    });
    Some(Text { text, span, inside })
}

/// The strings of a list; every other entry is reported.
pub(crate) fn texts<'t>(
    value: &'t Spanned<DeValue<'_>>,
    source: &str,
    findings: &mut Findings<'_>,
) -> Vec<Text<'t>> {
    let mut texts = Vec::new();
    for entry in value.get_ref().as_array().into_iter().flat_map(|array| array.iter()) {
        match text(entry, source) {
            Some(found) => texts.push(found),
            None => findings.error(
                entry.span(),
                format!("an entry of this list is a string, not {}", kind_of(entry.get_ref())),
                None,
            ),
        }
    }
    texts
}

/// The number in `value`, if it is whole and not negative.
pub(crate) fn unsigned(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let integer = value.get_ref().as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The number in `value`, whole or not.
pub(crate) fn number(value: &Spanned<DeValue<'_>>) -> Option<f64> {
    match value.get_ref() {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(integer) => {
            let whole = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            Some(f64::from(whole))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_string_are_found_behind_each_kind_of_quote() {
        for (source, wanted) in [
            ("k = \"ab*c\"", 5..8),
            ("k = 'ab*c'", 5..8),
            ("k = '''ab*c'''", 7..10),
            ("k = \"ab\\u002ac\"", 4..15),
        ] {
            let table = DeTable::parse(source).unwrap();
            let found = text(&table.get_ref()["k"], source).unwrap();
            assert_eq!((found.text, found.part(0..3)), ("ab*c", wanted), "{source}");
        }
    }
}
