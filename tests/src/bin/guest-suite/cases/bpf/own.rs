//! With the scope of a guest, programs see what happens in its cgroup, and nothing else.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::coverage::connect;
use super::{Steps, finish, numbers, policy, start};
use crate::Case;
use crate::lab::{self, Lab};

pub(in super::super) const CASES: &[Case] =
    &[Case { name: "bpf_scope_of_a_guest_sees_its_cgroup_only", run: own }];

/// How this program starts itself to connect; see [`connect_if_asked`].
const CONNECT: &str = "--connect-when-told";
const PORT: u16 = 7878;

/// If this process was started for it: says that it is there, waits for a byte, and connects.
pub(crate) fn connect_if_asked() -> Result<()> {
    if std::env::args().nth(1).as_deref() != Some(CONNECT) {
        return Ok(());
    }
    println!("there");
    std::io::stdin().read_exact(&mut [0]).context("wait for the word")?;
    let connected = TcpStream::connect(("127.0.0.1", PORT)).is_ok();
    std::process::exit(i32::from(!connected));
}

/// A connection outside of the guest is not seen; one from its cgroup is. No guest with these imports
/// can connect itself: components cannot have them, and preview 1 has no such call. So a process of
/// the suite's joins its cgroup.
fn own(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let rest = format!(
        "[bpf]\nprograms = [\"sock_ops\", \"cgroup_skb\"]\n\
         [network]\nconnect = [\"tcp://127.0.0.1:{PORT}\"]\n"
    );
    let policy = policy(&folder, "policy.toml", &rest)?;
    // The event of an active connection, `BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB`; packets that go and
    // that come.
    let counts = [
        ("lookup 04000000 8", "lookup 0 *"),
        ("lookup 20000000 8", "lookup 0 *"),
        ("lookup 21000000 8", "lookup 0 *"),
    ];
    let before: Steps<'_> = &[
        ("load /objects/own.bpf.o", "load 1"),
        ("attach operation", "attach 0"),
        ("attach egress", "attach 0"),
        ("attach ingress", "attach 0"),
        ("map counts", "map 0"),
        ("pause outside", "pause outside"),
    ];
    let steps = [before, &counts, &[("pause inside", "pause inside")], &counts].concat();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).context("listen")?;
    let mut live = start(&policy, &steps)?;
    live.wait_for("pause outside")?;
    connect()?;
    live.go_on()?;
    live.wait_for("pause inside")?;
    let mut child = Command::new("/proc/self/exe")
        .arg(CONNECT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start a process that connects")?;
    // In the cgroup it could not load its libraries any more.
    let mut stdout = child.stdout.take().context("its stdout")?;
    stdout.read_exact(&mut [0]).context("wait for it to be there")?;
    let group = lab::cgroups()?.into_iter().find(|it| it.ends_with(Path::new(&live.guest())));
    let group = group.context("the guest has no cgroup")?;
    fs::write(group.join("cgroup.procs"), child.id().to_string()).context("join the cgroup")?;
    let mut stdin = child.stdin.take().context("its stdin")?;
    std::io::Write::write_all(&mut stdin, b"x").context("tell it")?;
    let status = child.wait().context("wait for it")?;
    ensure!(status.success(), "a process in the guest's cgroup could not connect: {status}");
    listener.accept().context("accept")?;
    live.go_on()?;
    let outcome = finish(live, &steps)?;
    let found = numbers(&outcome)?;
    ensure!(found[..3] == [0, 0, 0], "outside of it: {found:?}");
    ensure!(found[3] == 1 && found[4] > 1 && found[5] > 0, "in it: {found:?}");
    Ok(())
}
