//! Sockets: granted addresses work, others are denied with a record. Through WASI 0.2 in a
//! component (preview 1 cannot connect), and without WASI's own checks.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::Case;
use crate::lab::Lab;
use crate::program::{guarded, unchecked};

pub(super) const CASES: &[Case] = &[
    Case { name: "connect", run: connect },
    Case { name: "unchecked_connect", run: unchecked_connect },
];

/// Line 3 grants one of the two ports.
const POLICY: &str = "version = 1\n[network]\nconnect = [\"tcp://127.0.0.1:7878\"]\n";

/// Listens on the two ports that the guests try.
struct Servers([TcpListener; 2]);

impl Servers {
    fn start() -> Result<Self> {
        let listen = |port: u16| {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .with_context(|| format!("listen on port {port}"))?;
            server.set_nonblocking(true)?;
            anyhow::Ok(server)
        };
        Ok(Self([listen(7878)?, listen(7879)?]))
    }

    /// How many connections came to each since the last call.
    fn connections(&self) -> [usize; 2] {
        self.0.each_ref().map(|server| {
            let mut count = 0;
            while let Ok((mut client, _)) = server.accept() {
                let _ = client.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = client.read(&mut [0; 8]);
                count += 1;
            }
            count
        })
    }
}

fn denied_connect() -> serde_json::Value {
    json!({
        "operation": "connect", "family": "inet", "type": "stream", "address": "127.0.0.1",
        "port": 7879, "verdict": "denied", "reason": "not_granted", "rule": null, "errno": "EACCES",
    })
}

/// Both ports work for a guest that may connect anywhere; under a policy only the granted one
/// does, and the guest is told `access-denied`; then both work again.
fn connect(lab: &Lab) -> Result<()> {
    let servers = Servers::start()?;
    let folder = lab.folder()?;
    let policy = folder.file("policy.toml", POLICY)?;
    let freely = || guarded(&["run", "-S", "inherit-network", "/guests/connect.wat"]).finish();
    freely()?.exits(0)?.prints("++")?.denials(&[])?;
    ensure!(servers.connections() == [1, 1], "both were reached");
    let outcome = guarded(&["run", "--policy", &policy, "/guests/connect.wat"]).finish()?;
    outcome.exits(0)?.prints("+b")?.denials(&[denied_connect()])?;
    ensure!(servers.connections() == [1, 0], "only one was reached");
    freely()?.exits(0)?.prints("++")?.denials(&[])?;
    ensure!(servers.connections() == [1, 1], "both were reached again");
    // No rule about the network: no sockets at all.
    let none = folder.file("none.toml", "version = 1\n")?;
    let outcome = guarded(&["run", "--policy", &none, "/guests/connect.wat"]).finish()?;
    outcome.exits(0)?;
    ensure!(!outcome.stdout.contains('+'), "{outcome:?}");
    ensure!(!outcome.of_kind("denial").is_empty(), "{outcome:?}");
    ensure!(servers.connections() == [0, 0], "none was reached");
    Ok(())
}

fn unchecked_connect(lab: &Lab) -> Result<()> {
    let servers = Servers::start()?;
    let policy = lab.folder()?.file("policy.toml", POLICY)?;
    let run = |mode: &str| {
        let words = ["run", "--policy", &policy, "--mode", mode, "/guests/unchecked.wasm"];
        let operations = ["connect", "127.0.0.1:7878", "connect", "127.0.0.1:7879"];
        unchecked(&[&words[..], &operations].concat()).finish()
    };
    let free = "connect 127.0.0.1:7878: ok\nconnect 127.0.0.1:7879: ok\n";
    let would = json!({ "operation": "connect", "port": 7879, "verdict": "would_deny" });
    run("audit")?.exits(0)?.prints(free)?.denials(std::slice::from_ref(&would))?;
    ensure!(servers.connections() == [1, 1], "both were reached");
    let outcome = run("enforce")?;
    outcome
        .exits(0)?
        .prints("connect 127.0.0.1:7878: ok\nconnect 127.0.0.1:7879: errno 13\n")?
        .denials(&[denied_connect()])?;
    ensure!(servers.connections() == [1, 0], "only one was reached");
    run("audit")?.exits(0)?.prints(free)?.denials(&[would])?;
    Ok(())
}
