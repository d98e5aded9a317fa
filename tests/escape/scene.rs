//! What a worker finds on the machine, some of it granted by its policy, most of it not.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use wasi_guard_captive::{Script, Value};

use crate::outside::{self, Victim};

const FOLDER: &str = "/tmp/escape-suite";
/// A cgroup that is no guest's.
const CGROUP: &str = "/sys/fs/cgroup/escape-suite";
/// Name of an abstract socket.
pub(crate) const ABSTRACT: &[u8] = b"escape-suite";

/// The machine's side.
pub(crate) struct Scene {
    /// A process to attack.
    pub(crate) victim: Victim,
    /// The port that the policy grants.
    pub(crate) granted: u16,
    /// A port that it does not grant.
    pub(crate) other: u16,
    /// Somebody listens at all of them.
    _tcp: [TcpListener; 2],
    _unix: [UnixDatagram; 2],
}

impl Scene {
    /// Sets it, as root.
    pub(crate) fn set() -> Result<Self> {
        // What an earlier run left.
        let _ = fs::remove_dir_all(FOLDER);
        let directory = |name: &str| fs::create_dir_all(Path::new(FOLDER).join(name));
        let file = |name: &str, text: &str| fs::write(Path::new(FOLDER).join(name), text);
        for name in ["outside/folder", "data/out", "data/secret"] {
            directory(name).with_context(|| format!("make {name}"))?;
        }
        for name in
            ["outside/secret", "outside/fence", "data/open", "data/out/mine", "data/secret/plan"]
        {
            file(name, name).with_context(|| format!("make {name}"))?;
        }
        // Permissions stop nobody here: whatever user a worker runs as, the policy must.
        open_to_all(Path::new(FOLDER))?;
        fs::create_dir_all(CGROUP).context("make a cgroup")?;
        let listen = || TcpListener::bind("127.0.0.1:0").context("listen");
        let tcp = [listen()?, listen()?];
        let [granted, other] = [tcp[0].local_addr()?.port(), tcp[1].local_addr()?.port()];
        let named = UnixDatagram::bind(Self::path("outside/socket")).context("bind a socket")?;
        fs::set_permissions(Self::path("outside/socket"), fs::Permissions::from_mode(0o777))?;
        let hidden = SocketAddr::from_abstract_name(ABSTRACT).context("name a socket")?;
        let hidden = UnixDatagram::bind_addr(&hidden).context("bind an abstract socket")?;
        Ok(Self { victim: Victim::start()?, granted, other, _tcp: tcp, _unix: [named, hidden] })
    }

    /// The errno with which the machine's kernel answers a call of a process that nothing guards;
    /// 0 if it works.
    pub(crate) fn answers(&self, number: i64, arguments: &[u64]) -> i32 {
        let mut script = Script::default();
        let arguments: Vec<_> = arguments.iter().map(|it| Value::from(*it)).collect();
        script.call(number, &arguments);
        let answer = outside::run(&script).ok().and_then(|(answer, _)| answer);
        let result = answer.and_then(|answer| answer.results.first().copied()).unwrap_or_default();
        i32::try_from(-result).unwrap_or_default().max(0)
    }

    /// Whether the machine's kernel has sockets of this kind.
    pub(crate) fn makes(&self, family: i32, kind: i32) -> bool {
        self.answers(libc::SYS_socket, &[family as u64, kind as u64, 0]) == 0
    }

    /// A path in the folder.
    pub(crate) fn path(name: &str) -> PathBuf {
        Path::new(FOLDER).join(name)
    }

    /// The same, as text.
    pub(crate) fn text(name: &str) -> String {
        format!("{FOLDER}/{name}")
    }

    /// The path of a file of a cgroup that is no guest's.
    pub(crate) fn cgroup(name: &str) -> String {
        format!("{CGROUP}/{name}")
    }

    /// The policy of the worker with this number, with these limits, with or without an address
    /// that it may reach.
    pub(crate) fn policy(&self, number: u32, limits: &str, network: bool) -> Result<PathBuf> {
        let connect = if network {
            format!("connect = [\"tcp://127.0.0.1:{}\"]", self.granted)
        } else {
            String::new()
        };
        let text = format!(
            r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
write = ["out/**"]
create = ["out/**"]
delete = ["out/**"]
deny = ["secret/**"]
[network]
{connect}
[audit]
ring = "256KiB"
[limits]
{limits}
"#
        );
        let path = Self::path(&format!("policy-{number}.toml"));
        fs::write(&path, text).context("write a policy")?;
        Ok(path)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Nothing of it is used any more, and the machine goes away after the suite.
        let _ = fs::remove_dir(CGROUP);
    }
}

fn open_to_all(path: &Path) -> Result<()> {
    let directory = path.is_dir();
    let mode = if directory { 0o777 } else { 0o666 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("open {} to all", path.display()))?;
    if directory {
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}
