//! Where devices are, in words for people: a multiaddr as `IP:PORT`, and how an address was found.

use std::net::{IpAddr, SocketAddr};

/// Something said of one address by each transport that has it.
struct Spot<'a> {
    at: String,
    loopback: bool,
    said: Vec<(&'static str, &'a str)>,
}

/// Puts what is said of multiaddrs together by their `IP:PORT`, in the order of the first of each.
fn by_place<'a>(said: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Spot<'a>> {
    let mut spots: Vec<Spot<'_>> = Vec::new();
    for (address, words) in said {
        let (at, loopback, transport) = match read(address) {
            Some((socket, transport)) => (socket.to_string(), socket.ip().is_loopback(), transport),
            // Of a kind that this version does not write, and still without whose it is.
            None => (address.split("/p2p/").next().unwrap_or_default().to_owned(), false, ""),
        };
        match spots.iter_mut().find(|spot| spot.at == at) {
            Some(spot) if spot.said.contains(&(transport, words)) => {}
            Some(spot) => spot.said.push((transport, words)),
            None => spots.push(Spot { at, loopback, said: vec![(transport, words)] }),
        }
    }
    spots
}

fn read(multiaddr: &str) -> Option<(SocketAddr, &'static str)> {
    let mut parts = multiaddr.strip_prefix('/')?.split('/').skip(1);
    let ip: IpAddr = parts.next()?.parse().ok()?;
    let transport = match parts.next()? {
        "tcp" => "TCP",
        "udp" => "UDP",
        _ => return None,
    };
    Some(((ip, parts.next()?.parse().ok()?).into(), transport))
}

/// Returns where a device listens, such as `192.168.1.7:4801 (TCP and UDP)`. The loopback interface is named only where
/// there is no other.
pub(crate) fn listening(addresses: &[String]) -> Vec<String> {
    let spots = by_place(addresses.iter().map(|address| (address.as_str(), "")));
    let alone = spots.iter().all(|spot| spot.loopback);
    let spots = spots.into_iter().filter(|spot| alone || !spot.loopback);
    spots
        .map(|spot| {
            let mut transports: Vec<_> =
                spot.said.iter().map(|(transport, _)| *transport).collect();
            transports.sort_unstable();
            match transports.join(" and ") {
                none if none.is_empty() => spot.at,
                transports => format!("{} ({transports})", spot.at),
            }
        })
        .collect()
}

/// Takes apart what the library says of the addresses it tried, `MULTIADDR: REASON; …`: one short line for each place. Any
/// other text stays as it is.
pub(crate) fn tried(text: &str) -> Vec<String> {
    let Some(list) = text.strip_prefix('/') else { return vec![text.to_owned()] };
    let entries: Option<Vec<(&str, &str)>> =
        list.split("; /").map(|entry| entry.split_once(": ")).collect();
    let Some(entries) = entries else { return vec![text.to_owned()] };
    // Each lost its leading slash to the splitting.
    let entries: Vec<(String, &str)> =
        entries.into_iter().map(|(address, why)| (format!("/{address}"), reason(why))).collect();
    by_place(entries.iter().map(|(address, why)| (address.as_str(), *why)))
        .into_iter()
        .map(|spot| {
            let first = spot.said.first().map_or("", |(_, why)| *why);
            if spot.said.iter().all(|(_, why)| *why == first) {
                return format!("{}: {first}", spot.at);
            }
            let each: Vec<_> =
                spot.said.iter().map(|(transport, why)| format!("{why} ({transport})")).collect();
            format!("{}: {}", spot.at, each.join(", "))
        })
        .collect()
}

/// Leaves out the address where a reason says it again, and the number that the system gives the reason.
fn reason(why: &str) -> &str {
    let why = why.split(" (os error ").next().unwrap_or(why);
    if let Some((_, reason)) =
        why.strip_prefix("nobody answered at ").and_then(|rest| rest.split_once(": "))
    {
        return reason;
    }
    match why.split_once(' ') {
        Some((address, rest)) if address.starts_with('/') => rest,
        _ => why,
    }
}

/// Returns how an address was found, to be read behind "found".
pub(crate) fn found(found_by: &str) -> &str {
    match found_by {
        "learned" => "by the invitation or another member",
        "invite" => "by the invitation",
        "typed" => "by a typed address",
        "mdns" => "on this network (mDNS)",
        "beacon" => "on this network (beacon)",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening_at(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<String> = addresses.iter().map(|&text| text.to_owned()).collect();
        listening(&addresses)
    }

    #[test]
    fn a_place_is_said_once_with_its_transports() {
        assert_eq!(
            listening_at(&[
                "/ip4/127.0.0.1/udp/4801/quic-v1",
                "/ip4/192.168.7.2/udp/4801/quic-v1/p2p/12D3Koo",
                "/ip4/192.168.7.2/tcp/4801",
                "/ip4/192.168.7.2/tcp/4801/p2p/12D3Koo",
                "/ip6/fd00::2/tcp/4802",
            ]),
            ["192.168.7.2:4801 (TCP and UDP)", "[fd00::2]:4802 (TCP)"]
        );
        assert_eq!(listening_at(&["/ip4/127.0.0.1/tcp/9"]), ["127.0.0.1:9 (TCP)"]);
        assert_eq!(listening_at(&["/dns/x/tcp/9/p2p/12D3Koo"]), ["/dns/x/tcp/9"]);
    }

    #[test]
    fn what_was_tried_is_one_short_line_for_each_place() {
        let text = "/ip4/10.0.0.5/tcp/4801/p2p/12D3Koo: nobody answered at /ip4/10.0.0.5/tcp/4801: connection refused (os error 111); \
                    /ip4/10.0.0.5/udp/4801/quic-v1/p2p/12D3Koo: nobody answered at /ip4/10.0.0.5/udp/4801/quic-v1: no answer in time; \
                    /ip4/10.0.0.6/tcp/4801: /ip4/10.0.0.6/tcp/4801 does not answer to joining";
        assert_eq!(
            tried(text),
            [
                "10.0.0.5:4801: connection refused (TCP), no answer in time (UDP)",
                "10.0.0.6:4801: does not answer to joining"
            ]
        );
        assert_eq!(tried("the line went quiet"), ["the line went quiet"]);
    }
}
