//! Assertions about a policy, kept in a TOML file beside it, and what comes of them.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Findings};
use crate::explain::{Explanation, Question, explain};
use crate::model::{Addresses, Policy};
use crate::parse::document;
use crate::parse::fields::{self, Field};
use crate::schema::{AssertionsKey, ExpectKey};
use crate::source::{LineIndex, Source, Span};

/// What a file of assertions says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertions {
    /// The policy, as written: a relative path starts at the directory of the file.
    pub policy: PathBuf,
    /// Every assertion, in the order of the text. At least one.
    pub list: Vec<Assertion>,
}

/// One assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Whether the policy has to allow it.
    pub allowed: bool,
    /// What the policy is asked.
    pub question: Question,
    /// Line of the file, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    span: Span,
}

impl Assertions {
    /// Reads a file of assertions.
    ///
    /// # Errors
    /// Everything that is wrong with the text, by position.
    pub fn load(source: &Source) -> Result<Self, Vec<Diagnostic>> {
        let lines = LineIndex::new(source);
        let mut findings = Findings::new(&lines);
        let read = document(source, &lines, &mut findings, |root, text, whole, findings| {
            let read = read(root, text, &lines, findings);
            if whole && read.list.is_empty() && !findings.has_errors() {
                findings.error(
                    0..0,
                    "no assertion in the file",
                    Some("write one, as in `expect.allow = [[\"read\", \"/data/a\"]]`".into()),
                );
            }
            read
        });
        read.filter(|_| !findings.has_errors()).ok_or_else(|| findings.finish())
    }

    /// The policy's answers, one an assertion. `source` is the text that the assertions were read
    /// from, `addresses` those of the host names in the policy's network rules.
    ///
    /// # Errors
    /// Every assertion that is no question to the policy, by position.
    pub fn answers(
        &self,
        source: &Source,
        policy: &Policy,
        addresses: &Addresses,
    ) -> Result<Vec<Explanation>, Vec<Diagnostic>> {
        let lines = LineIndex::new(source);
        let mut findings = Findings::new(&lines);
        let mut answers = Vec::new();
        for assertion in &self.list {
            match explain(policy, addresses, &assertion.question) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    findings.error(assertion.span.clone(), error.to_string(), cause);
                }
            }
        }
        if findings.has_errors() { Err(findings.finish()) } else { Ok(answers) }
    }
}

/// As in `wasi-guard explain`: the operation and its objects.
impl std::fmt::Display for Assertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.question.operation)?;
        for object in &self.question.objects {
            write!(f, " {}", String::from_utf8_lossy(object))?;
        }
        Ok(())
    }
}

fn read(
    root: &Spanned<DeTable<'_>>,
    text: &str,
    lines: &LineIndex<'_>,
    findings: &mut Findings<'_>,
) -> Assertions {
    let mut assertions = Assertions { policy: PathBuf::new(), list: Vec::new() };
    for Field { key, value } in fields::fields::<AssertionsKey>(root.get_ref(), 0..0, findings) {
        match key {
            AssertionsKey::Policy => match fields::text(value, text) {
                Some(found) if found.text.is_empty() || found.text.contains('\0') => {
                    findings.error(
                        value.span(),
                        "`policy` names no file",
                        Some("write its path, as in `policy = \"app.toml\"`".into()),
                    );
                }
                Some(found) => assertions.policy = PathBuf::from(found.text),
                None => {}
            },
            AssertionsKey::Expect => {
                let Some(table) = value.get_ref().as_table() else { continue };
                for field in fields::fields::<ExpectKey>(table, value.span(), findings) {
                    let allowed = field.key == ExpectKey::Allow;
                    expected(field.value, allowed, text, lines, findings, &mut assertions.list);
                }
            }
        }
    }
    assertions.list.sort_by_key(|assertion| assertion.span.start);
    assertions
}

fn expected(
    list: &Spanned<DeValue<'_>>,
    allowed: bool,
    text: &str,
    lines: &LineIndex<'_>,
    findings: &mut Findings<'_>,
    assertions: &mut Vec<Assertion>,
) {
    for entry in list.get_ref().as_array().into_iter().flat_map(|array| array.iter()) {
        let span = entry.span();
        let Some(array) = entry.get_ref().as_array() else {
            findings.error(
                span,
                format!("an assertion is a list, not {}", fields::kind_of(entry.get_ref())),
                Some("write the operation and its object, as in `[\"read\", \"/data/a\"]`".into()),
            );
            continue;
        };
        let words = fields::texts(entry, text, findings);
        if words.len() != array.len() {
            continue;
        }
        let Some((operation, objects)) = words.split_first() else {
            findings.error(
                span,
                "empty assertion",
                Some("write the operation and its object, as in `[\"read\", \"/data/a\"]`".into()),
            );
            continue;
        };
        let question = Question::new(operation.text, objects.iter().map(|object| object.text));
        let (line, column) = lines.position(span.start);
        assertions.push(Assertion { allowed, question, line, column, span });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load, render_all};

    const POLICY: &str = "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"data\"\n\
                          read = [\"**\"]\ndeny = [\"secret/**\"]\n";

    fn errors(text: &str) -> String {
        let source = Source::new("t", text);
        render_all(&Assertions::load(&source).unwrap_err(), &source)
    }

    #[test]
    fn assertions_come_in_the_order_of_the_text_with_their_places() {
        let source = Source::new(
            "t",
            "policy = \"p.toml\"\n[expect]\ndeny = [\n  [\"read\", \"/data/secret/a\"],\n]\n\
             allow = [[\"read\", \"/data/ä b\"], [\"link\", \"/data/a\", \"/data/b\"]]\n",
        );
        let assertions = Assertions::load(&source).unwrap();
        assert_eq!(assertions.policy, PathBuf::from("p.toml"));
        let found: Vec<_> =
            assertions.list.iter().map(|a| (a.allowed, a.to_string(), a.line, a.column)).collect();
        assert_eq!(
            found,
            [
                (false, "read /data/secret/a".to_owned(), 4, 3),
                (true, "read /data/ä b".to_owned(), 6, 10),
                (true, "link /data/a /data/b".to_owned(), 6, 33),
            ]
        );
        let policy = load(&Source::new("p", POLICY)).unwrap().0;
        let answers = assertions.answers(&source, &policy, &Addresses::new()).unwrap();
        let found: Vec<String> = answers.iter().map(Explanation::summary).collect();
        assert_eq!(
            found,
            [
                "denied by deny \"secret/**\" (line 6)",
                "allowed by read \"**\" (line 5)",
                "denied: no rule grants it",
            ]
        );
    }

    #[test]
    fn what_is_no_file_of_assertions_is_refused_with_every_place() {
        let found = errors(
            "polcy = \"p\"\n[expect]\nallow = [\"read /a\", [], [1]]\ndenny = []\n[limits]\n",
        );
        for line in [
            "no `policy` in the assertions",
            "did you mean `policy`?",
            "an assertion is a list, not a string",
            "empty assertion",
            "an entry of this list is a string, not a whole number",
            "did you mean `deny`?",
            "unknown key `limits`",
            "t:5:2",
        ] {
            assert!(found.contains(line), "{line}:\n{found}");
        }
        assert!(errors("policy = \"p\"\n[expect]\n").contains("no assertion in the file"));
        assert!(errors("policy = \"\"\n[expect]\nallow = [[\"exec\"]]").contains("names no file"));
        assert!(errors("policy = \"p\"\nexpect = 3").contains("`expect` is a table"));
        assert!(errors("policy = [").contains("not TOML"));
    }

    #[test]
    fn a_question_that_is_none_is_refused_with_its_place() {
        let source = Source::new(
            "t",
            "policy = \"p\"\nexpect.allow = [[\"eat\", \"/data\"],\n[\"rename\", \"/a\"], \
             [\"read\", \"/a/../b\"]]\n",
        );
        let policy = load(&Source::new("p", POLICY)).unwrap().0;
        let assertions = Assertions::load(&source).unwrap();
        let found = assertions.answers(&source, &policy, &Addresses::new()).unwrap_err();
        let places: Vec<_> = found.iter().map(|error| (error.line, error.column)).collect();
        assert_eq!(places, [(2, 17), (3, 1), (3, 19)]);
        let text = render_all(&found, &source);
        assert!(text.contains("unknown operation `eat`") && text.contains("component `..`"));
    }
}
