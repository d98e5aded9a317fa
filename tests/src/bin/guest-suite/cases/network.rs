//! Sockets: granted addresses work, others are denied with a record. Through WASI 0.2 in a
//! component (preview 1 cannot connect), and without WASI's own checks.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::Case;
use crate::lab::Lab;
use crate::program::{guarded, unchecked};

pub(super) const CASES: &[Case] = &[
    Case { name: "connect", run: connect },
    Case { name: "connect_to_a_name", run: connect_to_a_name },
    Case { name: "unchecked_connect", run: unchecked_connect },
    Case { name: "sockets", run: sockets },
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

/// A name stands for what the host says when the policy comes into force.
fn connect_to_a_name(lab: &Lab) -> Result<()> {
    let servers = Servers::start()?;
    let text = POLICY.replace("127.0.0.1", "peer.test");
    let policy = lab.folder()?.file("policy.toml", &text)?;
    let run = || guarded(&["run", "--policy", &policy, "/guests/connect.wat"]).finish();
    let hosts = |text: &str| std::fs::write("/etc/hosts", text).context("write /etc/hosts");
    hosts("127.0.0.1 peer.test\n")?;
    run()?.exits(0)?.prints("+b")?.denials(&[denied_connect()])?;
    ensure!(servers.connections() == [1, 0], "only one was reached");
    hosts("127.0.0.2 peer.test\n")?;
    let mut other = denied_connect();
    other["port"] = 7878.into();
    run()?.exits(0)?.prints("bb")?.denials(&[other, denied_connect()])?;
    ensure!(servers.connections() == [0, 0], "none was reached");
    hosts("127.0.0.1 localhost\n")?;
    run()?.refuses("look up peer.test, which [network] names", "use an address")?;
    hosts("127.0.0.1 peer.test\n")?;
    run()?.exits(0)?.prints("+b")?.denials(&[denied_connect()])?;
    ensure!(servers.connections() == [1, 0], "only one was reached again");
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

/// Grants what the guest does with its peer, and that it binds the last of its sockets.
const LISTENING: &str = r#"version = 1
[network]
connect = ["udp://[::1]:7882", "udp://127.0.0.1:7884"]
bind = [
    "tcp://[::1]:7880",
    "udp://[::1]:7881",
    "udp://127.0.0.1:7883",
    "udp://127.0.0.1:7885",
]
"#;

/// The guest's peer: connects where it is told to and answers datagrams.
struct Peer {
    six: UdpSocket,
    four: UdpSocket,
}

impl Peer {
    fn bind() -> Result<Self> {
        let bind = |address: IpAddr, port: u16| {
            let socket = UdpSocket::bind((address, port))
                .with_context(|| format!("bind {address} port {port}"))?;
            // A guest that fails says nothing; what it prints is the better message.
            socket.set_read_timeout(Some(Duration::from_secs(60)))?;
            anyhow::Ok(socket)
        };
        let (six, four) = (Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
        Ok(Self { six: bind(six, 7882)?, four: bind(four, 7884)? })
    }

    /// One conversation.
    fn talk(&self) -> Result<()> {
        let mut bytes = [0; 4];
        let (length, guest) = self.six.recv_from(&mut bytes).context("wait for its port")?;
        let port = u16::from_le_bytes([bytes[0], bytes[1]]);
        ensure!((length, guest.port(), port) == (2, 7881, 7880), "{length} bytes from {guest}");
        let mut client = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).context("connect")?;
        client.write_all(b"ping")?;
        client.read_exact(&mut bytes).context("read what it serves")?;
        ensure!(&bytes == b"pong", "it serves {bytes:?}");
        self.six.send_to(b"pong", guest)?;
        let (_, guest) = self.four.recv_from(&mut bytes).context("wait for its datagram")?;
        ensure!(guest.port() == 7883, "a datagram from {guest}");
        self.four.send_to(b"pong", guest)?;
        Ok(())
    }
}

/// Listening, datagrams, IPv6: all attempts work for a guest that may use any address; under a
/// policy those that it grants, and the others are told `access-denied`; then all work again.
fn sockets(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = folder.file("policy.toml", LISTENING)?;
    let peer = Peer::bind()?;
    let with_peer = |words: &[&str]| {
        thread::scope(|scope| {
            let talking = scope.spawn(|| peer.talk());
            let outcome = guarded(&[words, &["/guests/sockets.wat"]].concat()).finish()?;
            let talked = talking.join().unwrap_or_else(|_| anyhow::bail!("the peer panicked"));
            talked.with_context(|| format!("{outcome:?}"))?;
            anyhow::Ok(outcome)
        })
    };
    let freely = || with_peer(&["run", "-S", "inherit-network"]);
    freely()?.exits(0)?.prints("+++++++++")?.denials(&[])?;
    let denied = |operation: &str, family: &str, kind: &str, address: &str, port: u16| {
        json!({
            "operation": operation, "family": family, "type": kind, "address": address,
            "port": port, "verdict": "denied", "reason": "not_granted", "rule": null,
            "errno": "EACCES",
        })
    };
    let outcome = with_peer(&["run", "--policy", &policy])?;
    outcome.exits(0)?.prints("++++b+bbb")?.denials(&[
        denied("send", "inet6", "dgram", "::1", 7887),
        denied("bind", "inet6", "stream", "::1", 7886),
        denied("bind", "inet", "dgram", "127.0.0.1", 7888),
        denied("connect", "inet", "dgram", "127.0.0.1", 7889),
    ])?;
    freely()?.exits(0)?.prints("+++++++++")?.denials(&[])?;
    // No rule about the network: no sockets at all, so nothing that builds on one is tried.
    let none = folder.file("none.toml", "version = 1\n")?;
    let outcome = guarded(&["run", "--policy", &none, "/guests/sockets.wat"]).finish()?;
    outcome.exits(0)?.prints("b-----bbb")?;
    ensure!(!outcome.of_kind("denial").is_empty(), "{outcome:?}");
    Ok(())
}
