//! The tables in docs/costs.md: each stands between two comments, and everything else on the page
//! is written by hand.
//!
//! ```text
//! <!-- bench: NAME -->
//! ...
//! <!-- end: first 16 digits of the SHA-256 of the lines between -->
//! ```
//!
//! Numbers cannot be measured at each test, so the digest says that nobody typed them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{Measure, tables};
use crate::project::Project;

fn path(project: &Project) -> PathBuf {
    project.root.join("docs/costs.md")
}

fn read(project: &Project) -> Result<String> {
    let path = path(project);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes the tables for which there are measures.
pub fn write(project: &Project, measures: &[Measure]) -> Result<()> {
    let text = read(project)?;
    let mut blocks = Vec::new();
    for table in tables::TABLES {
        if measures.iter().any(|measure| measure.part == table.part) {
            blocks.push((table.name, table.markdown(measures)?));
        }
    }
    let path = path(project);
    fs::write(&path, replace(&text, &blocks)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Fails unless each table is on the page, as it was written there.
pub fn check(project: &Project) -> Result<()> {
    let names: Vec<_> = tables::TABLES.iter().map(|table| table.name).collect();
    verify(&read(project)?, &names)
        .with_context(|| format!("{}: run `cargo xtask bench --write`", path(project).display()))
}

/// A block of the page: what stands before it, its lines, its digest, and what comes after.
fn block<'a>(page: &'a str, name: &str) -> Result<(&'a str, &'a str, &'a str, &'a str)> {
    let start = format!("<!-- bench: {name} -->\n");
    ensure!(page.matches(&start).count() == 1, "there is not one line {:?}", start.trim_end());
    let missing = || format!("the table {name} has no end");
    let (before, rest) = page.split_once(&start).with_context(missing)?;
    let (lines, rest) = rest.split_once("<!-- end: ").with_context(missing)?;
    let (digest, after) = rest.split_once(" -->\n").with_context(missing)?;
    ensure!(!lines.contains("<!-- bench: "), "{}", missing());
    Ok((before, lines, digest, after))
}

fn replace(page: &str, blocks: &[(&str, String)]) -> Result<String> {
    let mut page = page.to_owned();
    for (name, lines) in blocks {
        let (before, _, _, after) = block(&page, name)?;
        let digest = digest(lines);
        page = format!("{before}<!-- bench: {name} -->\n{lines}<!-- end: {digest} -->\n{after}");
    }
    Ok(page)
}

fn verify(page: &str, names: &[&str]) -> Result<()> {
    for name in names {
        let (_, lines, found, _) = block(page, name)?;
        ensure!(found == digest(lines), "the table {name} was changed by hand");
    }
    ensure!(
        page.matches("<!-- bench: ").count() == names.len(),
        "there is a table that the bench does not know"
    );
    Ok(())
}

fn digest(lines: &str) -> String {
    format!("{:x}", Sha256::digest(lines))[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n<!-- bench: a -->\nold\n<!-- end: 0 -->\ntext\n\
                        <!-- bench: b -->\n<!-- end: 0 -->\n";

    #[test]
    fn a_table_is_replaced_and_the_rest_stays() {
        let page = replace(PAGE, &[("a", "1 2\n3\n".into())]).unwrap();
        assert!(page.starts_with("# Page\n<!-- bench: a -->\n1 2\n3\n<!-- end: "));
        assert!(page.ends_with(" -->\ntext\n<!-- bench: b -->\n<!-- end: 0 -->\n"));
        assert!(replace(PAGE, &[("c", String::new())]).is_err());
    }

    #[test]
    fn a_number_that_was_typed_is_found() {
        let page = replace(PAGE, &[("a", "| 12 |\n".into()), ("b", "| 3 |\n".into())]).unwrap();
        verify(&page, &["a", "b"]).unwrap();
        assert!(verify(&page.replace("12", "13"), &["a", "b"]).is_err());
        assert!(verify(&page, &["a"]).is_err(), "an unknown table");
        assert!(verify(&page, &["a", "b", "c"]).is_err(), "a missing table");
        assert!(verify(&format!("{page}{page}"), &["a", "b"]).is_err(), "two of them");
    }
}
