//! Counts what goes over the link between the two daemons: the kernel keeps the bytes sent by each end of a TCP connection, and
//! `ss` of iproute2 shows them.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

/// Bytes sent so far by each end, by local and remote address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire(BTreeMap<(String, String), u64>);

impl Wire {
    /// Counts the connections that have this TCP port at one end; none without `ss`.
    pub fn at_port(port: u16) -> Option<Self> {
        let output = Command::new("ss")
            .args(["-Htin", "state", "established"])
            .arg(format!("( sport = :{port} or dport = :{port} )"))
            .stderr(Stdio::null())
            .output()
            .ok()?;
        if !output.status.success() {
            return None;
        }
        let ends = parse(&String::from_utf8_lossy(&output.stdout));
        (!ends.is_empty()).then_some(Self(ends))
    }

    /// Returns the bytes sent since an earlier count, in all directions; none if connections came or went meanwhile.
    pub fn since(&self, earlier: &Self) -> Option<u64> {
        if !self.0.keys().eq(earlier.0.keys()) {
            return None;
        }
        let pairs = self.0.values().zip(earlier.0.values());
        pairs.map(|(now, then)| now.checked_sub(*then)).sum()
    }
}

/// Reads two lines for each end: the addresses, then indented figures.
fn parse(text: &str) -> BTreeMap<(String, String), u64> {
    let mut ends = BTreeMap::new();
    let mut addresses = None;
    for line in text.lines() {
        if line.starts_with(char::is_whitespace) {
            let sent = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("bytes_sent:"))
                .and_then(|number| number.parse().ok());
            if let Some(addresses) = addresses.take() {
                // An end that has sent nothing has no such word.
                ends.insert(addresses, sent.unwrap_or(0));
            }
        } else {
            let words: Vec<&str> = line.split_whitespace().collect();
            addresses = match words.as_slice() {
                [.., local, remote] => Some(((*local).to_owned(), (*remote).to_owned())),
                _ => None,
            };
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_compared_end_by_end() {
        let text = |a, b| {
            format!(
                "0 0 127.0.0.1:4801 127.0.0.1:5000\n\t cubic bytes_sent:{a} bytes_acked:1\n0 0 127.0.0.1:5000 127.0.0.1:4801\n\t cubic bytes_sent:{b}\n"
            )
        };
        let (before, after) = (Wire(parse(&text(100, 10))), Wire(parse(&text(1100, 60))));
        assert_eq!(after.since(&before), Some(1050));
        assert_eq!(before.since(&Wire(BTreeMap::new())), None);
    }
}
