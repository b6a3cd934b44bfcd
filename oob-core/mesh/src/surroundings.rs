//! The task beside the swarm: looks after the addresses of this machine, and sends and hears beacons on them.

use bytes::Bytes;
use std::{collections::BTreeSet, future, net::IpAddr, sync::Arc};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    beacon::{Rate, Schedule, Sockets},
    driver::Command,
    event::MeshEvent,
    interfaces::{self, Local, Watch},
    shared::Shared,
};

/// What the task needs.
pub(crate) struct Surroundings {
    pub(crate) shared: Arc<Shared>,
    /// Not counted among those who hold the mesh.
    pub(crate) commands: mpsc::WeakSender<Command>,
    pub(crate) events: mpsc::Sender<MeshEvent>,
    /// The beacons to send; `None` if there are to be none at all.
    pub(crate) beacons: Option<mpsc::Receiver<Bytes>>,
}

/// What belongs to beacons.
struct Air {
    sockets: Sockets,
    schedule: Schedule,
    rate: Rate,
    to_send: mpsc::Receiver<Bytes>,
    /// What was sent last: a broadcast comes back to whoever sent it.
    sent: Bytes,
}

/// What happened in the air.
enum Happened {
    Came { data: Option<Bytes>, from: std::net::SocketAddr },
    ToSend(Bytes),
    Due,
}

impl Air {
    async fn next(&mut self) -> Happened {
        tokio::select! {
            packet = self.sockets.receive() => {
                Happened::Came { data: packet.data, from: packet.from }
            }
            Some(data) = self.to_send.recv() => Happened::ToSend(data),
            () = sleep_until(self.schedule.next()) => Happened::Due,
        }
    }
}

impl Surroundings {
    /// Runs until nobody holds the mesh any more, or it is ended from outside.
    pub(crate) async fn run(mut self) {
        let mut watch = Watch::new();
        let mut locals = interfaces::list().unwrap_or_default();
        let now = Instant::now();
        let mut air = self.beacons.take().map(|to_send| {
            let mut sockets = Sockets::open();
            sockets.listen_on(&locals);
            let (schedule, rate) = (Schedule::new(now), Rate::new(now));
            Air { sockets, schedule, rate, to_send, sent: Bytes::new() }
        });
        loop {
            tokio::select! {
                () = watch.due() => {
                    let listed = interfaces::list();
                    if let Some(listed) = listed.filter(|listed| *listed != locals) {
                        let before = std::mem::replace(&mut locals, listed);
                        if !self.tell(&before, &locals).await {
                            return;
                        }
                        if let Some(air) = &mut air {
                            air.sockets.listen_on(&locals);
                            air.schedule.restart(Instant::now());
                        }
                    }
                }
                happened = next(&mut air) => {
                    if let Some(air) = &mut air {
                        self.handle(air, happened, &locals);
                    }
                }
            }
        }
    }

    /// Tells the swarm task; false if there is none any more.
    async fn tell(&self, before: &BTreeSet<Local>, now: &BTreeSet<Local>) -> bool {
        let ips = |locals: &BTreeSet<Local>| -> BTreeSet<IpAddr> {
            locals.iter().map(|local| local.ip).collect()
        };
        let (before, now) = (ips(before), ips(now));
        let gone = before.difference(&now).copied().collect();
        let came = now.difference(&before).next().is_some();
        let Some(commands) = self.commands.upgrade() else { return false };
        commands.send(Command::Interfaces { gone, came }).await.is_ok()
    }

    fn handle(&self, air: &mut Air, happened: Happened, locals: &BTreeSet<Local>) {
        let (now, counts) = (Instant::now(), &self.shared.counts);
        match happened {
            Happened::Came { data, from } => {
                if data.as_ref() == Some(&air.sent) {
                    return;
                }
                counts.beacons_heard.add();
                let data = data.filter(|_| air.rate.admits(from.ip(), now));
                let told =
                    data.map(|data| self.events.try_send(MeshEvent::Beacon { data, from }).is_ok());
                if told != Some(true) {
                    counts.beacons_dropped.add();
                }
            }
            Happened::ToSend(data) => {
                counts.beacons_sent.add_many(air.sockets.send(&data, locals));
                air.sent = data;
            }
            Happened::Due => {
                air.schedule.advance(now);
                if !locals.is_empty() {
                    // An owner that is behind misses one beacon, not the next.
                    let _ = self.events.try_send(MeshEvent::BeaconDue);
                }
            }
        }
    }
}

async fn next(air: &mut Option<Air>) -> Happened {
    match air {
        Some(air) => air.next().await,
        None => future::pending().await,
    }
}
