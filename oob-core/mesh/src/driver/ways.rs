//! Which of our addresses a connection runs over, and what is lost with it.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::Driver;
use crate::event::DownReason;

impl Driver {
    /// An address of this machine has vanished: so have the connections over it.
    pub(super) fn interface_gone(&mut self, ip: IpAddr) {
        let lost = self.connections.iter().filter(|(_, connection)| connection.local == Some(ip));
        let lost: Vec<_> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            self.end_link(id, DownReason::InterfaceGone);
            self.swarm.close_connection(id);
        }
    }
}

/// Returns which of our addresses the way to another one begins at; nothing is sent to find out.
pub(super) fn way_to(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match remote.ip().to_canonical() {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((remote.ip().to_canonical(), remote.port())).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_begins_at_loopback() {
        let here: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(way_to((here, 4801).into()), Some(here));
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:4801".parse().unwrap();
        assert_eq!(way_to(mapped), Some(here));
    }
}
