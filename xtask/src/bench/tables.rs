//! Which tables there are, and how measures become one.

use anyhow::{Context, Result, ensure};

use super::Measure;

type Labels = &'static [(&'static str, &'static str)];

/// A table: every combination of keys with every cell.
pub(super) struct Table {
    /// Its name on the page.
    pub(super) name: &'static str,
    /// The part whose measures it shows.
    pub(super) part: &'static str,
    /// Labels that all its measures have.
    of: Labels,
    /// Labels whose values are keys, in the order in which they were measured.
    keys: &'static [&'static str],
    /// Only measures with these labels make keys.
    keys_of: Labels,
    cells: &'static [Cell],
    /// A cell is a row and a key is a column, not the other way round.
    turned: bool,
}

/// What is shown of each key.
struct Cell {
    title: &'static str,
    of: Labels,
    beside: Beside,
}

/// What a cell's number is compared with.
enum Beside {
    /// Nothing.
    Nothing,
    /// Nothing, and it is not measured of each key.
    Perhaps,
    /// It is what comes on top of the one with these labels.
    Less(Labels),
    /// It is so many times the one with these labels.
    Times(Labels),
}

const NONE: Labels = &[("state", "none"), ("rules", "none"), ("between", "nothing")];
const NONE_COLD: Labels = &[("state", "none"), ("rules", "none"), ("between", "rename")];

const fn all(title: &'static str, of: Labels) -> Cell {
    Cell { title, of, beside: Beside::Nothing }
}

/// Empty where it was not measured.
const fn some(title: &'static str, of: Labels) -> Cell {
    Cell { title, of, beside: Beside::Perhaps }
}

const fn added(title: &'static str, of: Labels) -> Cell {
    Cell { title, of, beside: Beside::Less(NONE) }
}

/// After a rename elsewhere.
const fn cold(title: &'static str, of: Labels) -> Cell {
    Cell { title, of, beside: Beside::Less(NONE_COLD) }
}

const fn times(title: &'static str, of: Labels, other: Labels) -> Cell {
    Cell { title, of, beside: Beside::Times(other) }
}

macro_rules! state {
    ($state:literal, $rules:literal, $between:literal) => {
        &[("state", $state), ("rules", $rules), ("between", $between)]
    };
}

const GRID: &[Cell] = &[
    all("none", NONE),
    added("Landlock 10", state!("landlock", "10", "nothing")),
    added("Landlock 1,000", state!("landlock", "1000", "nothing")),
    added("Landlock 10,000", state!("landlock", "10000", "nothing")),
    added("idle", state!("idle", "none", "nothing")),
    added("unguarded", state!("unguarded", "none", "nothing")),
    added("10", state!("guarded", "10", "nothing")),
    cold("10 cold", state!("guarded", "10", "rename")),
    added("1,000", state!("guarded", "1000", "nothing")),
    cold("1,000 cold", state!("guarded", "1000", "rename")),
    added("10,000", state!("guarded", "10000", "nothing")),
    cold("10,000 cold", state!("guarded", "10000", "rename")),
    all("denied", state!("denied", "10", "nothing")),
    all("denied cold", state!("denied", "10", "rename")),
];

const fn grid(name: &'static str, of: Labels) -> Table {
    let keys = &["operation", "depth"];
    Table { name, part: "kernel", of, keys, keys_of: NONE, cells: GRID, turned: false }
}

/// The tables of docs/costs.md, in its order.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "open",
        part: "kernel",
        of: &[("operation", "open+close"), ("depth", "6")],
        keys: &["kernel"],
        keys_of: NONE,
        cells: &[
            all("no programs", NONE),
            added("Landlock alone, 10 rules", state!("landlock", "10", "nothing")),
            added("Landlock alone, 10,000 rules", state!("landlock", "10000", "nothing")),
            added("programs attached, no guest yet", state!("idle", "none", "nothing")),
            added(
                "task not guarded: what the whole host pays",
                state!("unguarded", "none", "nothing"),
            ),
            added("guarded and allowed, 10 rules", state!("guarded", "10", "nothing")),
            cold("the same after a rename elsewhere", state!("guarded", "10", "rename")),
            added("guarded and allowed, 10,000 rules", state!("guarded", "10000", "nothing")),
            cold("the same after a rename elsewhere", state!("guarded", "10000", "rename")),
            all("guarded and denied, with its record (in all)", state!("denied", "10", "nothing")),
        ],
        turned: true,
    },
    grid("grid-6.1", &[("kernel", "6.1")]),
    grid("grid-6.12", &[("kernel", "6.12")]),
    Table {
        name: "memory",
        part: "memory",
        of: &[],
        keys: &["rules"],
        keys_of: &[],
        cells: &[
            all("table", &[("kernel", "6.12"), ("what", "table")]),
            all("charged, Linux 6.1", &[("kernel", "6.1"), ("what", "table, charged")]),
            all("charged, Linux 6.12", &[("kernel", "6.12"), ("what", "table, charged")]),
            all("ring buffer", &[("kernel", "6.12"), ("what", "ring buffer, charged")]),
            all("first guest, 6.12", &[("kernel", "6.12"), ("what", "first guest under a policy")]),
            all("each further guest, 6.12", &[("kernel", "6.12"), ("what", "each further guest")]),
        ],
        turned: false,
    },
    Table {
        name: "links",
        part: "links",
        of: &[],
        keys: &["kernel"],
        keys_of: &[],
        cells: &[
            all("readdir alone", &[("walk", "readdir")]),
            all("busybox find", &[("walk", "find")]),
            all("the search", &[("walk", "search")]),
            times("the search beside readdir", &[("walk", "search")], &[("walk", "readdir")]),
            times("the search beside find", &[("walk", "search")], &[("walk", "find")]),
        ],
        turned: true,
    },
    Table {
        name: "start",
        part: "start",
        of: &[],
        keys: &["kernel"],
        keys_of: &[],
        cells: &[
            times(
                "`wasi-guard run` beside `wasmtime run`",
                &[("tool", "wasi-guard"), ("cache", "warm"), ("addresses", "random")],
                &[("tool", "wasmtime"), ("cache", "warm"), ("addresses", "random")],
            ),
            times(
                "the same with programs at fixed addresses",
                &[("tool", "wasi-guard"), ("cache", "warm"), ("addresses", "fixed")],
                &[("tool", "wasmtime"), ("cache", "warm"), ("addresses", "fixed")],
            ),
            times(
                "the same in instructions",
                &[("tool", "wasi-guard"), ("clock", "instructions")],
                &[("tool", "wasmtime"), ("clock", "instructions")],
            ),
        ],
        turned: true,
    },
    Table {
        name: "crowd",
        part: "crowd",
        of: &[],
        keys: &["guests"],
        keys_of: &[],
        cells: &[
            times(
                "starts a second beside wasmtime, 6.1",
                &[("kernel", "6.1"), ("tool", "wasi-guard"), ("what", "starts")],
                &[("kernel", "6.1"), ("tool", "wasmtime"), ("what", "starts")],
            ),
            all("processes", &[("kernel", "6.1"), ("tool", "wasi-guard"), ("what", "processes")]),
            all("of wasmtime", &[("kernel", "6.1"), ("tool", "wasmtime"), ("what", "processes")]),
            some("whole machine", &[("kernel", "6.1"), ("tool", "wasi-guard"), ("what", "memory")]),
            some("with wasmtime", &[("kernel", "6.1"), ("tool", "wasmtime"), ("what", "memory")]),
            times(
                "starts a second beside wasmtime, 6.12",
                &[("kernel", "6.12"), ("tool", "wasi-guard"), ("what", "starts")],
                &[("kernel", "6.12"), ("tool", "wasmtime"), ("what", "starts")],
            ),
            all("processes", &[("kernel", "6.12"), ("tool", "wasi-guard"), ("what", "processes")]),
            all("of wasmtime", &[("kernel", "6.12"), ("tool", "wasmtime"), ("what", "processes")]),
            some(
                "whole machine",
                &[("kernel", "6.12"), ("tool", "wasi-guard"), ("what", "memory")],
            ),
            some("with wasmtime", &[("kernel", "6.12"), ("tool", "wasmtime"), ("what", "memory")]),
        ],
        turned: true,
    },
    Table {
        name: "bpf",
        part: "bpf",
        of: &[],
        keys: &["what"],
        keys_of: &[],
        cells: &[
            all("wasi-guard", &[("tool", "wasi-guard")]),
            all("aya", &[("tool", "aya")]),
            times("beside aya", &[("tool", "wasi-guard")], &[("tool", "aya")]),
        ],
        turned: false,
    },
    Table {
        name: "policy",
        part: "policy",
        of: &[],
        keys: &["policy"],
        keys_of: &[],
        cells: &[
            all("table", &[("what", "table")]),
            all("of it verdicts", &[("what", "verdicts")]),
            all("parse and compile", &[("what", "parse and compile")]),
        ],
        turned: false,
    },
];

/// Every table of which there are measures, as text.
pub fn text(measures: &[Measure]) -> Result<String> {
    let mut text = String::new();
    for table in TABLES {
        if measures.iter().any(|measure| measure.part == table.part) {
            text.push_str(&format!("{}\n{}\n", table.name, table.markdown(measures)?));
        }
    }
    Ok(text)
}

impl Table {
    /// The table in Markdown, with a line feed at its end.
    pub(super) fn markdown(&self, measures: &[Measure]) -> Result<String> {
        let mine: Vec<&Measure> =
            measures.iter().filter(|m| m.part == self.part && m.is(self.of)).collect();
        let mut keys: Vec<Vec<&str>> = Vec::new();
        for measure in mine.iter().filter(|measure| measure.is(self.keys_of)) {
            let key: Vec<&str> = self.keys.iter().map(|label| measure.label(label)).collect();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        ensure!(!keys.is_empty(), "nothing was measured for the table {}", self.name);
        let head = |key: &[&str]| -> Vec<String> {
            key.iter()
                .zip(self.keys)
                .map(|(value, label)| match *label {
                    "kernel" => format!("Linux {value}"),
                    "guests" => format!("{} at once", thousands(value.parse().unwrap_or(f64::NAN))),
                    "rules" | "depth" => thousands(value.parse().unwrap_or(f64::NAN)),
                    _ => (*value).to_owned(),
                })
                .collect()
        };
        let mut rows = Vec::new();
        if self.turned {
            rows.push(
                [vec![String::new()], keys.iter().flat_map(|key| head(key)).collect()].concat(),
            );
            for cell in self.cells {
                let values = keys.iter().map(|key| self.value(&mine, key, cell));
                let values: Vec<String> = values.collect::<Result<_>>()?;
                rows.push([vec![cell.title.to_owned()], values].concat());
            }
        } else {
            let titles = self.cells.iter().map(|cell| cell.title);
            rows.push(self.keys.iter().copied().chain(titles).map(str::to_owned).collect());
            for key in &keys {
                let values = self.cells.iter().map(|cell| self.value(&mine, key, cell));
                rows.push([head(key), values.collect::<Result<_>>()?].concat());
            }
        }
        Ok(markdown(&rows, if self.turned { 1 } else { self.keys.len() }))
    }

    fn value(&self, measures: &[&Measure], key: &[&str], cell: &Cell) -> Result<String> {
        // A cell says for itself what it is of, where the key says something else.
        let fits = |of: Labels, measure: &Measure| {
            measure.is(of)
                && self.keys.iter().zip(key).all(|(label, value)| {
                    of.iter().any(|(own, _)| own == label) || measure.label(label) == *value
                })
        };
        let find = |of: Labels| -> Result<&Measure> {
            let mut found = measures.iter().filter(|measure| fits(of, measure));
            let one = found.next().with_context(|| {
                format!("table {}: nothing was measured for {key:?} {of:?}", self.name)
            })?;
            ensure!(
                found.next().is_none(),
                "table {}: more than one measure for {key:?} {of:?}",
                self.name
            );
            Ok(one)
        };
        if let Beside::Perhaps = cell.beside
            && !measures.iter().any(|measure| fits(cell.of, measure))
        {
            return Ok(String::new());
        }
        let measure = find(cell.of)?;
        Ok(match cell.beside {
            Beside::Nothing | Beside::Perhaps => show(measure.value, &measure.unit),
            Beside::Less(of) => {
                let more = measure.value - find(of)?.value;
                format!("{}{}", if more < 0.0 { "−" } else { "+" }, thousands(more.abs()))
            }
            Beside::Times(of) => format!("{:.2} times", measure.value / find(of)?.value),
        })
    }
}

fn markdown(rows: &[Vec<String>], left: usize) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            text.push_str(&match column < left {
                true => format!("| {cell:<width$} "),
                false => format!("| {cell:>width$} "),
            });
        }
        text.push_str("|\n");
        if number == 0 {
            for column in 0..row.len() {
                let line = "-".repeat(width(column) + 1);
                text.push_str(&if column < left {
                    format!("|{line}-")
                } else {
                    format!("|{line}:")
                });
            }
            text.push_str("|\n");
        }
    }
    text
}

fn show(value: f64, unit: &str) -> String {
    match unit {
        "bytes" if value >= 1024.0 * 1024.0 => format!("{:.1} MiB", value / (1024.0 * 1024.0)),
        "bytes" if value >= 1024.0 => format!("{:.0} KiB", value / 1024.0),
        "bytes" => format!("{value:.0} B"),
        "ms" if value < 10.0 => format!("{value:.1} ms"),
        "ms" => format!("{value:.0} ms"),
        _ => thousands(value),
    }
}

/// `12345` as `12,345`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_empty_only_where_it_may_be() {
        let table = TABLES.iter().find(|table| table.name == "crowd").unwrap();
        let mut measures = Vec::new();
        for kernel in ["6.1", "6.12"] {
            for (guests, whats) in
                [("1", &["starts", "processes"][..]), ("1000", &["starts", "processes", "memory"])]
            {
                for tool in ["wasi-guard", "wasmtime"] {
                    measures.extend(whats.iter().map(|what| {
                        let of = [("guests", guests), ("tool", tool), ("what", *what)];
                        Measure::new("crowd", Some(kernel), &of, 2048.0, "bytes")
                    }));
                }
            }
        }
        let text = table.markdown(&measures).unwrap();
        let row = |title: &str| {
            let line = text.lines().find(|line| line.contains(title)).unwrap();
            line.split('|').skip(2).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(row("1 at once"), ["1 at once", "1,000 at once", ""]);
        assert_eq!(row("processes"), ["2 KiB", "2 KiB", ""]);
        assert_eq!(row("whole machine"), ["", "2 KiB", ""]);
        measures.retain(|it| it.label("guests") != "1" || it.label("what") != "processes");
        assert!(table.markdown(&measures).is_err(), "a cell that must be there");
    }
}
