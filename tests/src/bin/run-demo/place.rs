//! What the guests find: a directory and two listeners, and how these are afterwards.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::attempts::PORTS;

/// The preopen of policies/demo.toml on the host.
const DATA: &str = "policies/demo-data";
/// Files before the run; `None` is a directory.
const BEFORE: &[(&str, Option<&str>)] = &[
    ("archive", None),
    ("in.csv", Some("day,count\nmonday,12\n")),
    ("keys", None),
    ("keys/server.pem", Some("not really a key\n")),
    ("out", None),
    ("secret", None),
    ("secret/plan.txt", Some("not really a secret\n")),
];
/// What a run adds if the kernel lets through what the policy grants, and no more.
const ADDED: &[(&str, Option<&str>)] =
    &[("out/report.txt", Some("written by the guest\nwritten by the guest\n"))];

type Tree = BTreeMap<String, Option<String>>;

/// The directory and the listeners.
pub(crate) struct Place {
    listeners: Vec<TcpListener>,
}

impl Place {
    pub(crate) fn make() -> Result<Self> {
        let data = Path::new(DATA);
        if data.exists() {
            fs::remove_dir_all(data).with_context(|| format!("cannot remove {DATA}"))?;
        }
        fs::create_dir(data).with_context(|| format!("cannot create {DATA}"))?;
        for (name, content) in BEFORE {
            let path = data.join(name);
            match content {
                Some(text) => fs::write(&path, text),
                None => fs::create_dir(&path),
            }
            .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let mut listeners = Vec::new();
        for port in PORTS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
                format!("cannot listen on 127.0.0.1:{port}, which the demo connects to")
            })?;
            listener.set_nonblocking(true).context("cannot make a listener non-blocking")?;
            listeners.push(listener);
        }
        Ok(Self { listeners })
    }

    /// What is not as it must be after the run.
    pub(crate) fn differences(&self) -> Result<Vec<String>> {
        let expected: Tree = BEFORE
            .iter()
            .chain(ADDED)
            .map(|(name, content)| ((*name).to_owned(), content.map(str::to_owned)))
            .collect();
        let mut found = Tree::new();
        read(Path::new(DATA), "", &mut found)?;
        let mut wrong = Vec::new();
        for name in expected.keys().chain(found.keys().filter(|n| !expected.contains_key(*n))) {
            wrong.extend(match (expected.get(name), found.get(name)) {
                (Some(_), None) => Some(format!("{DATA}/{name} is gone")),
                (None, Some(_)) => Some(format!("{DATA}/{name} came into being")),
                (before, after) if before != after => {
                    Some(format!("{DATA}/{name} has another content"))
                }
                _ => None,
            });
        }
        for (listener, (port, expected)) in self.listeners.iter().zip(PORTS.into_iter().zip([1, 0]))
        {
            let connections = accepted(listener)?;
            if connections != expected {
                wrong.push(format!(
                    "port {port} got {connections} connections instead of {expected}"
                ));
            }
        }
        Ok(wrong)
    }
}

fn read(folder: &Path, prefix: &str, tree: &mut Tree) -> Result<()> {
    let named = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(named)? {
        let entry = entry.with_context(named)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().with_context(named)?.is_dir() {
            read(&entry.path(), &format!("{name}/"), tree)?;
            tree.insert(name, None);
        } else {
            let bytes = fs::read(entry.path()).with_context(named)?;
            tree.insert(name, Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(())
}

/// The connections that are waiting.
fn accepted(listener: &TcpListener) -> Result<u32> {
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error).context("cannot accept connections"),
        }
    }
}
