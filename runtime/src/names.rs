//! Addresses of host names, as the host's own configuration has them: its hosts file, its name
//! servers, whatever nsswitch.conf(5) lists.
//!
//! getent(1), which comes with the C library, is asked. To ask the library itself would load the
//! host's modules for that into the supervisor, beside what guards the guests, and a program that is
//! linked statically has no sound way to load them.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    process::{Command, ExitStatus, Stdio},
};

/// Where getent is: the usual places, whatever the caller's PATH says.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin";
/// getent(1): "One or more supplied keys could not be found in the database".
const NOT_FOUND: i32 = 2;

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it has no address")]
    Unknown,
    #[error("cannot start getent, which knows them: {0}")]
    Start(io::Error),
    #[error("getent ended with {status}: {said}")]
    Failed {
        status: ExitStatus,
        /// Its own words, on one line.
        said: String,
    },
}

/// The addresses of `name`, sorted. `name` is a host name: it begins with no `-`.
///
/// # Errors
/// If it has none, or nobody can be asked.
pub(crate) fn addresses(name: &str) -> Result<Vec<IpAddr>, Error> {
    let output = Command::new("getent")
        .args(["ahosts", name])
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::Start)?;
    if output.status.code() == Some(NOT_FOUND) {
        return Err(Error::Unknown);
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(Error::Failed { status: output.status, said });
    }
    let addresses = read(&String::from_utf8_lossy(&output.stdout));
    if addresses.is_empty() { Err(Error::Unknown) } else { Ok(addresses) }
}

/// Lines of an address, and of what a socket would be; each address stands there several times.
fn read(text: &str) -> Vec<IpAddr> {
    let addresses: BTreeSet<IpAddr> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        // `fe80::1%eth0`: rules have no place for an interface.
        .filter_map(|address| address.split('%').next()?.parse().ok())
        .collect();
    addresses.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_asked() {
        let found = addresses("localhost").unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    /// RFC 6761: never.
    #[test]
    fn a_name_that_nobody_has_is_an_error() {
        assert!(matches!(addresses("no-such-host.invalid"), Err(Error::Unknown)));
    }

    #[test]
    fn each_address_counts_once() {
        let text = "10.0.0.2      STREAM db.test\n10.0.0.2      DGRAM  \n10.0.0.2      RAW    \n\
                    fe80::1%eth0  STREAM \n2001:db8::1   STREAM \n\nnonsense STREAM\n";
        let expected = ["10.0.0.2", "2001:db8::1", "fe80::1"];
        assert_eq!(read(text), expected.map(|text| text.parse::<IpAddr>().unwrap()));
    }
}
