//! The stage of a demo: who is on it, and the order of the steps.

use super::{
    Told,
    actor::{Actor, actor, is_gone, nobody, within},
};
use crate::{
    failure::Failure,
    launch::Launch,
    schema::{Nothing, Step},
    service::millis,
};
use serde_json::Value;
use std::{path::Path, time::Instant};

/// The three by what they do with the message for the one who is away: written by the first, carried by the second, for the third.
pub(super) const AUTHOR: usize = 0;
pub(super) const CARRIER: usize = 1;
pub(super) const RECEIVER: usize = 2;

/// The three, and the step under way.
pub(super) struct Stage<'a> {
    pub(super) folder: &'a Path,
    pub(super) passphrase: String,
    /// What each is started with, in the order of the names.
    pub(super) launches: Vec<Launch>,
    /// None while one is stopped.
    pub(super) actors: Vec<Option<Actor>>,
    pub(super) step: &'static str,
    pub(super) began: Instant,
    /// What the step under way has seen so far, for the case that it fails.
    pub(super) seen: Value,
}

impl Stage<'_> {
    pub(super) async fn play(&mut self, tell: &mut impl FnMut(Told<'_>)) -> Result<(), Failure> {
        self.begin("found", "making three identities and starting their daemons", tell);
        let detail = within(self.found()).await?;
        self.earned(detail, tell);

        self.begin("invited", "making two invitations", tell);
        let (invites, detail) = within(self.invite()).await?;
        self.earned(detail, tell);

        self.begin("joined", "two people join", tell);
        let detail = within(self.join(invites)).await?;
        self.earned(detail, tell);

        self.begin("discovered", "everybody finds everybody", tell);
        let detail = within(self.discover()).await?;
        self.earned(detail, tell);

        self.begin("delivered", "two messages go over", tell);
        let (sent, detail) = within(self.deliver()).await?;
        self.earned(detail, tell);

        self.begin("read", "they are read", tell);
        let detail = within(self.read(&sent)).await?;
        self.earned(detail, tell);

        self.begin("alert_raised", "an alert goes to everybody", tell);
        let (alert, detail) = within(self.raise()).await?;
        self.earned(detail, tell);

        self.begin("alert_acknowledged", "everybody acknowledges it", tell);
        let detail = within(self.acknowledge(&alert)).await?;
        self.earned(detail, tell);

        self.begin("receiver_stopped", "one of them goes away", tell);
        let detail = within(self.stop_receiver()).await?;
        self.earned(detail, tell);

        self.begin("sent_late", "a message is written to the one who is away", tell);
        let (late, detail) = within(self.send_late()).await?;
        self.earned(detail, tell);

        self.begin("held", "the third takes it to carry", tell);
        let detail = within(self.held(&late)).await?;
        self.earned(detail, tell);

        self.begin("sender_stopped", "its author goes away too", tell);
        let (pid, detail) = within(self.stop_sender()).await?;
        self.earned(detail, tell);

        self.begin("receiver_restarted", "the one who was away comes back", tell);
        let detail = within(self.restart_receiver()).await?;
        self.earned(detail, tell);

        self.begin("delivered_late", "the third hands the message over", tell);
        let detail = within(self.delivered_late(&late, pid)).await?;
        self.earned(detail, tell);
        Ok(())
    }

    fn begin(&mut self, step: &'static str, what: &str, tell: &mut impl FnMut(Told<'_>)) {
        (self.step, self.began, self.seen) = (step, Instant::now(), Value::Null);
        tell(Told::Waiting(what));
    }

    fn earned(&self, detail: Value, tell: &mut impl FnMut(Told<'_>)) {
        tell(Told::Step(&Step {
            step: self.step.into(),
            ok: true,
            ms: millis(self.began.elapsed()),
            detail,
        }));
    }

    /// Stops one of the three in order; returns its name, person and process, which is gone.
    pub(super) async fn stop(
        &mut self,
        place: usize,
    ) -> Result<(&'static str, String, u32), Failure> {
        let actor = self.actors.get_mut(place).and_then(Option::take).ok_or_else(nobody)?;
        let Actor { name, member, daemon, client, events } = actor;
        let pid = daemon.ready().pid;
        drop((client, events));
        daemon.stop().await?;
        if !is_gone(pid) {
            return Err(Failure::internal(format!("process {pid} of {name} is still there")));
        }
        Ok((name, member, pid))
    }

    /// Asks for the address of a web page, good once; none where this version serves none.
    pub(super) async fn page(&mut self) -> Option<String> {
        let receiver = actor(&mut self.actors, RECEIVER).ok()?;
        let ticket: Value = receiver.client.post("/api/v1/web/ticket", &Nothing {}).await.ok()?;
        ticket["url"].as_str().map(str::to_owned)
    }

    /// Stops every daemon, whatever happened, and says so if one would not.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        let stops = self.actors.drain(..).flatten().map(|actor| {
            let Actor { daemon, client, events, .. } = actor;
            drop((client, events));
            daemon.stop()
        });
        futures::future::join_all(stops).await.into_iter().collect()
    }
}
