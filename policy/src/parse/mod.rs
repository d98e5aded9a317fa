//! Text to [`Policy`]: every error at once, each with its place and a hint.
//!
//! [`read`] turns TOML into a [`draft`], which keeps the place of everything; [`validate`] finds
//! what is wrong between rules, [`bpf`] what is wrong in `[bpf]`; [`draft`] numbers the rules and becomes the policy.

mod bpf;
mod draft;
pub(crate) mod fields;
mod read;
mod validate;

use toml::Spanned;
use toml::de::DeTable;

use crate::diagnostic::{Diagnostic, Findings, Severity};
use crate::model::Policy;
use crate::source::{LineIndex, MAX_SOURCE_BYTES, Source, Span};

/// Reads a policy.
///
/// # Errors
/// Everything that is wrong with the text, by position, warnings included. The policy comes with
/// warnings only.
pub fn load(source: &Source) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let lines = LineIndex::new(source);
    let mut findings = Findings::new(&lines);
    let draft = document(source, &lines, &mut findings, |root, text, whole, findings| {
        let draft = read::read(root, text, findings);
        if whole {
            validate::validate(&draft, &lines, findings);
            if let Some(bpf) = &draft.bpf {
                bpf::check(bpf, &lines, findings);
            }
        }
        draft
    });
    let Some(draft) = draft.filter(|_| !findings.has_errors()) else {
        return Err(findings.finish());
    };
    let policy = draft.into_policy(&lines);
    let warnings = findings.finish();
    debug_assert!(warnings.iter().all(|finding| finding.severity == Severity::Warning));
    Ok((policy, warnings))
}

/// Hands the root table of a TOML file to `read`, with the text, and whether that is the whole
/// text: after a syntax error it is what could be understood. Findings that come from that are
/// dropped. `None` if there is no text.
pub(crate) fn document<T>(
    source: &Source,
    lines: &LineIndex<'_>,
    findings: &mut Findings<'_>,
    read: impl FnOnce(&Spanned<DeTable<'_>>, &str, bool, &mut Findings<'_>) -> T,
) -> Option<T> {
    let text = text(source, findings)?;
    let (root, errors) = DeTable::parse_recoverable(text);
    let syntax = syntax_errors(&errors, lines, findings);
    let result = read(&root, text, errors.is_empty(), findings);
    if !errors.is_empty() {
        findings
            .retain(|finding| syntax.spans.contains(&finding.span) || !syntax.explains(finding));
    }
    Some(result)
}

/// The source as text, if it is one of acceptable length.
fn text<'s>(source: &'s Source, findings: &mut Findings<'_>) -> Option<&'s str> {
    if source.bytes.len() > MAX_SOURCE_BYTES {
        findings.error(
            0..0,
            format!("file of {} bytes", source.bytes.len()),
            Some(format!("it may have {MAX_SOURCE_BYTES} bytes; use fewer, wider patterns")),
        );
        return None;
    }
    match std::str::from_utf8(&source.bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let at = error.valid_up_to();
            let length = error.error_len().unwrap_or(source.bytes.len() - at);
            findings.error(
                at..at + length,
                format!("not UTF-8: the byte at offset {at} is {:#04x}", source.bytes[at]),
                Some("save the file as UTF-8".into()),
            );
            None
        }
    }
}

/// Where the text is not TOML.
#[derive(Default)]
struct Syntax {
    /// Errors that were reported.
    spans: Vec<Span>,
    /// Lines with errors, reported or not.
    lines: Vec<u32>,
    /// The first line whose table header is broken.
    header: Option<u32>,
}

impl Syntax {
    /// Whether a finding may come from what the parser made up to go on after an error.
    fn explains(&self, finding: &Diagnostic) -> bool {
        // What seems to be missing may stand in what was skipped, and what seems to be in the
        // wrong table may stand below the header that was skipped.
        self.lines.contains(&finding.line)
            || finding.message.starts_with("no `")
            || (finding.message.starts_with("unknown key")
                && self.header.is_some_and(|header| finding.line > header))
    }
}

/// Reports syntax errors. Once out of step, the parser finds one on every line that follows:
/// only the first of each run of lines is reported.
fn syntax_errors(
    errors: &[toml::de::Error],
    lines: &LineIndex<'_>,
    findings: &mut Findings<'_>,
) -> Syntax {
    let mut syntax = Syntax::default();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let (line, _) = lines.position(span.start);
        let follows = syntax.lines.last().is_some_and(|last| line == *last || line == *last + 1);
        syntax.lines.push(line);
        if follows {
            continue;
        }
        if lines.starts_with(line, b'[') {
            syntax.header = syntax.header.or(Some(line));
        }
        syntax.spans.push(span.clone());
        findings.error(span, format!("not TOML: {}", error.message().replace('\n', " ")), None);
    }
    syntax
}
