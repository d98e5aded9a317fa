//! Writes `docs/policy-reference.md`: the prose here, every key from [`crate::schema`].

use crate::bpf::{MAX_ENTRIES, helpers};
use crate::pattern::{MAX_ALTERNATIVES, MAX_PATTERN_BYTES, MAX_PATTERN_NAMES};
use wasi_guard_abi::table::{CHUNK_BYTES, MAX_CHUNKS, MAX_NET_RULES, MAX_PREOPENS, MAX_STATES};

use crate::schema::{ASSERTION_TABLES, TABLES, Table};
use crate::source::MAX_SOURCE_BYTES;

/// The reference of the policy language, in Markdown.
pub fn reference_markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    for table in TABLES {
        out.push('\n');
        write_table(&mut out, table);
    }
    out.push_str(PATTERNS);
    out.push_str(&format!(
        "A pattern has at most {MAX_PATTERN_BYTES} bytes and {MAX_PATTERN_NAMES} names, and its \
         groups stand for at most {MAX_ALTERNATIVES} patterns.\n"
    ));
    out.push_str(&limits());
    out.push_str(RIGHTS);
    out.push_str(NETWORK);
    out.push_str(&PROGRAMS.replace("{MAX_ENTRIES}", &MAX_ENTRIES.to_string()));
    out.push_str(&helper_functions());
    out.push_str(RELOAD);
    out.push_str(DIAGNOSTICS);
    out.push_str(ASSERTIONS);
    for table in ASSERTION_TABLES {
        write_assertions(&mut out, table);
    }
    out
}

fn limits() -> String {
    format!(
        "
A policy has at most {MAX_PREOPENS} preopens, {MAX_NET_RULES} network rules (a DNS name counts once \
for each of its
addresses), and {MAX_SOURCE_BYTES} bytes of text. It comes to at most {MAX_STATES} states, and to \
{} MiB of tables;
`wasi-guard policy show` tells them. A larger one is refused with its size and the limit. Tens of
thousands of rules about single files fit, whatever their names: where many plain names stand in one
directory, they are found by a hash.
",
        (MAX_CHUNKS * CHUNK_BYTES) >> 20
    )
}

/// The helper functions that no program may call unless they are named.
fn helper_functions() -> String {
    let of = |wanted: fn(u32) -> bool| {
        let names = helpers::names().filter(|name| helpers::by_name(name).is_some_and(wanted));
        wrapped(names.map(|name| format!("`{name}`")))
    };
    format!(
        "
### Helper functions

Programs may call every helper function of the kernel that reads, computes, prints, or fills their
object's own maps and buffers. These have to be named in `helpers`, because they change or redirect
packets, change sockets, processes, credentials or what a system call answers, send signals, run
programs later, or serve to load programs:

{}

These need not be named, but need `scope = \"host\"`, because they read memory at any address, give
out addresses or pointers that lead there, or find the sockets of others:

{}

These can never be granted, nor can those that the kernel got later, nor functions of the kernel that
programs call by their BTF (kfuncs):

{}
",
        of(|id| !helpers::is_default(id) && helpers::is_grantable(id)),
        of(helpers::needs_host),
        of(|id| !helpers::is_grantable(id)),
    )
}

/// Words between commas, in lines of at most 100 characters.
fn wrapped(words: impl Iterator<Item = String>) -> String {
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last().map_or(0, String::len);
        match lines.last_mut() {
            Some(last) if line == 0 => last.push_str(&word),
            Some(last) if line + word.len() + 3 <= 100 => last.push_str(&format!(", {word}")),
            Some(last) => {
                last.push(',');
                lines.push(word);
            }
            None => {}
        }
    }
    lines.join("\n")
}

fn write_table(out: &mut String, table: &Table) {
    let title = match table.header {
        "" => "Top level".to_owned(),
        header => format!("`{header}`"),
    };
    out.push_str(&format!("## {title}\n\n{}\n", paragraph(table.doc)));
    for key in table.keys {
        let default = match key.default {
            None => "required".to_owned(),
            Some(default) if default.starts_with('"') => format!("default `{default}`"),
            Some(default) => format!("without it: {default}"),
        };
        out.push_str(&format!(
            "\n### `{}`\n\n*{}, {default}.*\n\n{}\n",
            key.name,
            capital(&key.kind.to_string()),
            paragraph(key.doc)
        ));
    }
}

/// A table that is a few keys under one heading.
fn write_assertions(out: &mut String, table: &Table) {
    if !table.header.is_empty() {
        out.push_str(&format!("\n### `{}`\n\n{}\n", table.header, paragraph(table.doc)));
    }
    out.push('\n');
    for key in table.keys {
        let doc = paragraph(key.doc).replace('\n', "\n  ");
        out.push_str(&format!(
            "* `{}` ({}{}): {doc}\n",
            key.name,
            key.kind,
            match key.default {
                None => ", required",
                Some(_) => "",
            }
        ));
    }
}

/// Comment lines without the space that follows `///`.
fn paragraph(doc: &str) -> String {
    let lines: Vec<&str> =
        doc.trim_end().lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

const INTRODUCTION: &str = "\
<!-- Generated from policy/src/schema.rs and policy/src/reference.rs; do not edit. -->

# Policy reference

A policy is a TOML file that says what one guest may touch. What it does not grant is denied.

```toml
version = 1

[[preopen]]
guest = \"/data\"            # what the guest calls the directory
host = \"./data\"            # where it is, seen from this file
read = [\"**\"]              # everything may be read,
write = [\"out/**\"]         # what lies below out/ may be changed,
create = [\"out/**\"]        # new names may appear there,
delete = [\"out/tmp-*\"]     # and these may be removed;
deny = [\"**/*.pem\"]        # keys stay out of reach all the same

[network]
connect = [\"tcp://127.0.0.1:5432\"]

[limits]
memory = \"256MiB\"
time = \"30s\"
```

`wasi-guard check POLICY` reports everything that is wrong with a policy at once, and
`wasi-guard explain POLICY OPERATION PATH` says which rule decides an attempt.
";

const PATTERNS: &str = "
## Patterns

A pattern says which names below a preopen a rule is about. It works on names, not on what is on
disk, so it covers files that do not exist yet. It is relative to the preopen: `out/*.csv` in the
preopen `/data` is about `/data/out/a.csv`. `/` separates names.

| Pattern | Matches |
|---|---|
| `*` | any bytes within a name, a leading dot included; alone: every name |
| `?` | one character in UTF-8; a byte that is no part of one is not matched |
| `[a-z_]` | one of these ASCII characters |
| `[!a-z]`, `[^a-z]` | one character in UTF-8 that is none of these |
| `{a,b}` | one of the alternatives, which may contain `/` and groups |
| `\\` | makes the next character stand for itself (in a TOML `\"string\"` write it twice, in a `'string'` once) |
| `**` in front or in the middle | any number of names, none included: `**/x`, `a/**/x` |
| `**` at the end | one or more names: `a/**` is everything below `a`, not `a` |
| `**` alone | everything: the preopen itself and all below it |
| `.` alone | the preopen itself |

`**` always stands alone between slashes. Refused are: an empty pattern, a leading or trailing
`/`, `//`, `.` and `..` as names, NUL, `**` next to other text or twice in a row, a bracket or
brace without its partner, and characters beyond ASCII in brackets.

In brackets, a `]` in first place and a `-` in last place stand for themselves, and `\\` works as
outside. A range such as `a-z` is one of character codes. What a group leaves of `*` beside `*` is
one `*`: `{*,a}*` is `*` or `a*`. A group may have an empty alternative beside other text: `x{,.bak}`.

Names are bytes, any but `/` and NUL. `*`, `**` and literal text do not ask for valid UTF-8; `?` and
`[!…]` do, so a name with bytes that are no UTF-8 is matched only where a `*` or `**` takes them.
Upper and lower case differ, and no two ways to write a letter in Unicode are taken for the same.

";

const RIGHTS: &str = "
## Rights

A name below a preopen has these rights:

1. If a pattern in `deny` matches the name or a directory above it, the name has **no right**. A
   deny rule beats everything and the order of rules does not matter. Where several match, records
   name the one that matches nearest to the preopen, and of those the first in the file.
2. Otherwise it has **read**, **write**, **create** and **delete** if a pattern of that list
   matches the name.
3. It has **stat**, to see metadata, if it has another right, or if it is on the way to a name
   that could have one: if names could be added below it so that a pattern matches. A pattern that
   begins with `**` therefore gives stat to every name. Which names exist makes no difference.

The preopen itself never has create or delete.

| Attempt | Needs |
|---|---|
| open for reading, list a directory | read |
| open for writing, truncate (also while opening) | write |
| change mode, owner, times, extended attributes, access control lists | write |
| read extended attributes and access control lists | read |
| see where a symbolic link points to | stat |
| new file, directory, symbolic link | create |
| remove a file or an empty directory | delete |
| see metadata | stat |
| rename | delete at the old name, create at the new; delete there too if it replaces something |
| exchange two names | create and delete at both |
| hard link | create at the new name |
| execute a program, start a process | nothing grants it |

A rename or link must not give an object rights that it did not have: read, write, delete and stat
at the new name must be rights at the old one too. A directory can be renamed only if every name
below has exactly the same rights in both places.

What lies below no preopen is denied. A verdict is found in this order: outside every preopen,
deny rule, missing right, widened rights.

## What a name is

The kernel judges where an object lies at the moment of the attempt, not the path that was used.

* **Names that do not exist yet** are judged like others, and a name keeps its rights whatever file
  gets it: a file that is written beside another and renamed over it works where both names are
  granted.
* **Symbolic links** are followed first, `..` and doubled or trailing slashes are gone by then: what
  counts is where they lead. A link to the outside leads outside. Links may not be read without
  stat, and making one needs create on its own name, whatever it points to.
* **Files with several names** (hard links). When a policy comes into force, at the start or by a
  reload, wasi-guard looks for files that have several names below the preopens. Where these differ
  in read, write or stat, the file has only what all of them have, under each of them, as long as
  the policy is in force; records say `linked_name`. That takes one look at every name below the
  preopens, and none if every name has the same rights (all patterns are `**` and nothing is
  denied). Links that the guest makes cannot widen its rights. Links that others make while it runs
  are not looked for: a file that none of its names limited at that look is judged by the name that
  is used. A guest that links a file to a name with fewer rights finds it with the fewer rights at
  the next look.
* **Preopens inside each other** on the host: the innermost one decides.
* **One directory under two guest paths**: the first preopen in the file decides for both.
* **A preopen that is a single file** on the host is found by the guest under its `guest` path, in a
  directory that holds nothing else: with the path `/etc/app.conf` the directory `/etc`, which may
  be listed. `.` and `**` stand for the file itself, in `read`, `write` and `deny`. Nobody may
  create, remove, rename or replace it, so `create` and `delete` are refused there, as are patterns
  that only names below could match. Several files can be in one such directory; it cannot be a
  preopen itself. The guest keeps the file that it got at the start: one that is renamed over it on
  the host is another file, which the guest does not see, and a reload of the policy is then refused.
* **Mounts below a preopen** are outside, unless the policy names them: with a preopen of its own,
  whose `host` is the place where something is mounted. Such a preopen decides by its own rules,
  whichever way a name is reached. A directory that is shown at another place (a bind mount) is
  judged where it really lies, so one that lies in a preopen, this one or another, has the rights
  that it has there.
* **Open descriptors** stay what they were when they were opened.
";

const NETWORK: &str = "
## Network rules

A rule is `PROTOCOL://HOST:PORT`.

* PROTOCOL is `tcp` or `udp`. A socket can be made if some rule is about its protocol; other kinds
  of sockets cannot be granted.
* HOST is an IPv4 address or network (`127.0.0.1`, `10.0.0.0/8`), an IPv6 address or network in
  brackets (`[::1]`, `[2001:db8::]/32` or `[2001:db8::/32]`), a DNS name, or `*` for every address.
  A DNS name is resolved once, when the policy comes into force (at the start or by a reload), by
  the host's `getent`; the rule is about the addresses found then.
* PORT is a number, a range such as `8000-8080`, or `*`. Binding to port 0 lets the kernel choose
  the port and needs a rule that includes port 0.

An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) counts as the IPv4 address, in rules and in
attempts. Connecting to `0.0.0.0` or `::` means this host and needs a rule for `127.0.0.1` or
`[::1]`. Binding to `0.0.0.0` means every address of the host and needs a rule for `0.0.0.0`, or
one that includes it. Sending to an address needs a `connect` rule, listening a `bind` rule.
";

const PROGRAMS: &str = "
## Kinds of eBPF programs

A program is loaded if its kind is in `programs`, and attached where the list of its kind says so;
what is listed nowhere is refused. The names of attach points are matched by [patterns](#patterns):
a category and a name in `tracepoints`, paths in `cgroups` and for the files of `uprobes`, single
names elsewhere.

| Kind | Is attached to | Listed in | Runs for | Can |
|---|---|---|---|---|
| `tracepoint` | a tracepoint, with the arguments of the tracing subsystem | `tracepoints` | the host | read |
| `raw_tracepoint` | a tracepoint, with the kernel's own arguments | `raw_tracepoints` | the host | read |
| `tp_btf` | the same, with types | `raw_tracepoints` | the host | read |
| `fentry`, `fexit` | the beginning or end of a function of the kernel | `functions` | the host | read |
| `kprobe`, `kretprobe` | the same, through a breakpoint | `functions` | the host | read |
| `uprobe`, `uretprobe` | the beginning or end of a function of a program or library | `uprobes` | the host | read |
| `perf_event` | a counter, each time that it overflows | `perf_events` | the host | read |
| `socket_filter` | a raw socket of its own, for copies of an interface's packets | `interfaces` | the host | read |
| `xdp`, `tc` | an interface | `interfaces` | the host | read, and change, drop and send packets |
| `lsm` | a hook for security modules | `lsm_hooks` | the host | read, and deny things |
| `cgroup_skb` | a cgroup | `cgroups` | a cgroup | drop its packets |
| `cgroup_sock`, `cgroup_sock_addr` | a cgroup | `cgroups` | a cgroup | deny sockets and addresses, change addresses |
| `sock_ops` | a cgroup | `cgroups` | a cgroup | watch and tune its TCP connections |

*Read* is reading all memory: the kernel's and, through it, that of every process, whatever the
program is attached to. A pattern bounds when a program runs, not what it sees then. With
`scope = \"host\"` that is so for the kinds that run for a cgroup as well. A kind that runs for the
host needs `scope = \"host\"`; one that runs for a cgroup is attached to the guest's own, and with
`scope = \"host\"` also to those in `cgroups`.

`cgroup_sock_addr` undoes `[network]`: its programs change addresses after the kernel has asked whether
the guest may go there. `wasi-guard check` warns of it.

A list of `[bpf]` has at most {MAX_ENTRIES} entries.

```toml
[bpf]
scope = \"host\"
programs = [\"tracepoint\", \"kprobe\"]
tracepoints = [\"sched/sched_process_*\"]
functions = [\"tcp_v{4,6}_connect\"]
max_programs = 4
```

`scope` stands beside a `profile` in words, so that nobody grants it by a name that sounds harmless.
";

const DIAGNOSTICS: &str = "
## Errors and warnings

An unknown key, a value of the wrong type, a bad pattern or address, two preopens with one name,
and a rule that can never match because a deny rule covers it are errors: the policy is not used.
So are, in `[bpf]`, a list about kinds that `programs` does not have, a name that no such attach
point can have, a kind that has nothing to be attached to, and a kind or helper function that needs
`scope = \"host\"`.
Warnings are printed and the policy is used: `mode = \"audit\"`, a preopen that grants nothing, a
rule that stands there twice, a rule that another one of the same list covers, a rule about names
that no file can have, and a rule about names that belong to another preopen; in `[bpf]` a table that
lets nothing be loaded, the kind `cgroup_sock_addr`, and a helper function that need not be named.
`wasi-guard check` also warns where a rule other than `create` names a file or directory (`a/b`,
`a/b/**`) that this host does not have and the guest may not create, or that is a symbolic link:
rules are about the file that it leads to, by that file's own name. A rule that is covered only by
several others together is not found.
";

const ASSERTIONS: &str = "
## Tests of a policy

What a policy has to answer can be kept in a TOML file beside it, and held against it at each change
with `wasi-guard policy test FILE`: it prints one line for each assertion that does not hold, with
its place and the rule that decided, then `N passed, N failed`, and exits with 0 only if all hold.

```toml
policy = \"app.toml\"

[expect]
allow = [
    [\"read\", \"/data/in.csv\"],
    [\"rename\", \"/data/out/tmp-1\", \"/data/out/1\"],
    [\"connect\", \"tcp://127.0.0.1:5432\"],
]
deny = [
    [\"read\", \"/data/keys/server.pem\"],
    [\"rename_dir\", \"/data/out\", \"/data/in\"],
]
```
";

const RELOAD: &str = "
## Another policy for a guest that runs

`wasi-guard policy reload GUEST POLICY` puts another policy into force for a running guest, in place
of the one before; GUEST is its name in audit records. SIGHUP to `wasi-guard run --policy FILE` does
the same with FILE as it is then. The new policy is checked first, as at a start. If anything is
wrong with it, the one before stays in force, and whoever asked is told why, as is the audit. Each
attempt is judged by the one policy or the other, never by parts of both and never by none.

| May change | May not change: it is set up at the start |
|---|---|
| `read`, `write`, `create`, `delete`, `deny` of each preopen | the preopens: their `guest` names, the order of these, and the directories that `host` leads to |
| `connect`, `bind`, if there were any at the start | `mode`; from no network to some: such a guest has an empty network namespace |
| `memory`, as long as it is not more than at the start; `cpu`, `pids` | `time`, `fuel`, `open_files`, the bounds of disks, more `memory` than at the start |
| `file` in `[audit]` | `ring` in `[audit]` |
| | `[bpf]` |

Names are judged as they are. What the guest named, linked or copied under the policy before, or is
linking while the new one is being checked, it keeps under names that the new one grants.

A limit of memory where there was none before counts what the guest takes from then on. A guest that
has more than a new limit of memory is ended by it.

What a guest has open stays as it was opened: a file that it may not open any more can be read from
and written to through the descriptor, as after `chmod`; so can a directory be listed, and a socket
used that is connected or listens. What names a file anew is judged by the new policy, and so are
metadata, truncation and changes of attributes, through a descriptor too. If a guest must lose what
it has open, end it.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_section() {
        let text = reference_markdown();
        for key in TABLES.iter().flat_map(|table| table.keys) {
            assert!(text.contains(&format!("\n### `{}`\n", key.name)), "{}", key.name);
        }
    }

    fn example(at: usize) -> String {
        let text = reference_markdown();
        let example = text.split("```toml\n").nth(at).and_then(|rest| rest.split("```").next());
        example.unwrap().to_owned()
    }

    #[test]
    fn the_example_of_programs_is_accepted() {
        let text = format!("version = 1\n{}", example(2));
        let (policy, warnings) = crate::load(&crate::Source::new("example", text)).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(policy.bpf.unwrap().max_programs, 4);
    }

    /// The example of a policy, and that of assertions about it.
    #[test]
    fn the_examples_agree() {
        let example = |at| crate::Source::new("example", example(at));
        let (policy, warnings) = crate::load(&example(1)).unwrap();
        assert_eq!(warnings, []);
        let source = example(3);
        let assertions = crate::Assertions::load(&source).unwrap();
        let answers = assertions.answers(&source, &policy, &crate::Addresses::new()).unwrap();
        for (assertion, answer) in assertions.list.iter().zip(answers) {
            assert_eq!(assertion.allowed, answer.verdict.allowed, "{assertion}");
        }
    }
}
