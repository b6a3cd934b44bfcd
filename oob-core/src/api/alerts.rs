//! Raising, answering and reading alerts.

use super::{AlertOptions, AlertStatus, Island};
use crate::{
    error::{Error, ErrorKind},
    handle::Handle,
    home::wall_ms,
    query,
};
use oob_engine::{
    effect::Answer,
    input::Command,
    model::{AlertAnswer, AlertText, Severity},
    snapshot::Snapshot,
};
use oob_proto::{AlertId, MemberId};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// Ids that a hint about an ambiguous beginning names.
const OFFERED: usize = 3;

/// The alerts of the organisation. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    handle: Arc<Handle>,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alerts(..)")
    }
}

impl Alerts {
    pub(crate) fn of(handle: &Arc<Handle>) -> Self {
        Self { handle: Arc::clone(handle) }
    }

    /// Alerts everybody, for a day. Returns once it is durable here; [`crate::Event::AlertAcked`] tells who answered.
    ///
    /// # Errors
    /// A text that is empty or over 2 KiB, a person who may not alert, a device that has raised too many today, a full
    /// disk.
    ///
    /// # Cancel safety
    /// Safe: the alert is raised wholly or not at all.
    pub async fn raise(
        &self,
        severity: Severity,
        text: impl Into<String>,
    ) -> Result<AlertId, Error> {
        self.raise_with(severity, text, AlertOptions::default()).await
    }

    /// As [`Alerts::raise`], with a life and words to answer with.
    ///
    /// # Errors
    /// As [`Alerts::raise`], and a life over seven days, more than eight words, a word over 64 bytes or with a character
    /// that could disguise it.
    ///
    /// # Cancel safety
    /// Safe, as [`Alerts::raise`].
    pub async fn raise_with(
        &self,
        severity: Severity,
        text: impl Into<String>,
        options: AlertOptions,
    ) -> Result<AlertId, Error> {
        let text = AlertText::parse(text)?;
        let answers = options.answers.iter().map(|word| AlertAnswer::parse(word));
        let command = Command::RaiseAlert {
            severity,
            text,
            life_ms: u64::try_from(options.life.as_millis()).unwrap_or(u64::MAX),
            answers: answers.collect::<Result<_, _>>()?,
        };
        match self.handle.commands().run(command).await? {
            Answer::Alert { id } => Ok(id),
            _ => Err(Error::internal("the rules answered an alert with something else")),
        }
    }

    /// Says for this device's person that the alert was seen. Doing it twice is doing it once, an own alert needs none,
    /// and a word answered before stands.
    ///
    /// # Errors
    /// No such alert, a full disk.
    ///
    /// # Cancel safety
    /// Safe: it is said or not.
    pub async fn acknowledge(&self, id: AlertId) -> Result<(), Error> {
        self.say(id, None).await
    }

    /// Answers the alert with a word; another word replaces it.
    ///
    /// # Errors
    /// As [`Alerts::acknowledge`], and a word that the alert does not offer, or over 64 bytes, or with a character that
    /// could disguise it.
    ///
    /// # Cancel safety
    /// Safe: it is said or not.
    pub async fn answer(&self, id: AlertId, word: &str) -> Result<(), Error> {
        self.say(id, Some(AlertAnswer::parse(word)?)).await
    }

    async fn say(&self, id: AlertId, answer: Option<AlertAnswer>) -> Result<(), Error> {
        self.handle.commands().run(Command::AckAlert { id, answer }).await.map(|_| ())
    }

    /// Returns the newest alerts, newest first, at most 200.
    ///
    /// # Errors
    /// A store that cannot be read, a node that has stopped.
    pub async fn list(&self) -> Result<Vec<AlertStatus>, Error> {
        let found = query::alerts(&self.handle).await?;
        let (snapshot, in_reach) = self.surroundings();
        Ok(found.into_iter().map(|one| AlertStatus::of(one, &snapshot, &in_reach)).collect())
    }

    /// Returns one alert and where everybody stands.
    ///
    /// # Errors
    /// No such alert, a store that cannot be read, a node that has stopped.
    pub async fn get(&self, id: AlertId) -> Result<AlertStatus, Error> {
        let found = query::alert(&self.handle, id).await?;
        let (snapshot, in_reach) = self.surroundings();
        Ok(AlertStatus::of(found, &snapshot, &in_reach))
    }

    /// Returns the alert whose id begins so.
    ///
    /// # Errors
    /// None, or several.
    pub async fn find(&self, beginning: &str) -> Result<AlertId, Error> {
        let beginning = beginning.trim();
        if let Ok(id) = beginning.parse() {
            return Ok(id);
        }
        let ids = query::alert_ids(&self.handle).await?;
        let ids = ids.into_iter().map(|id| (id, id.to_string()));
        let found: Vec<_> = ids.filter(|(_, text)| text.starts_with(beginning)).collect();
        match found.as_slice() {
            [] => Err(query::no_alert(beginning)),
            _ if beginning.is_empty() => Err(query::no_alert(beginning)),
            [(id, _)] => Ok(*id),
            several => {
                let ids: Vec<_> =
                    several.iter().take(OFFERED).map(|(_, text)| text.as_str()).collect();
                let count = several.len();
                Err(Error::new(
                    ErrorKind::Ambiguous,
                    format!("{count} alerts begin with {beginning:?}"),
                )
                .with_hint(format!("give more of the id: {}", ids.join(", "))))
            }
        }
    }

    /// The newest snapshot, and the people who have a device in reach, over a link of this node or over somebody else, as
    /// the status has it; this one's own person among them.
    fn surroundings(&self) -> (Arc<Snapshot>, BTreeSet<MemberId>) {
        let snapshot = self.handle.snapshot();
        let links = self.handle.mesh().peers();
        let linked = links.iter().filter_map(|link| snapshot.roster.by_transport(&link.key));
        let linked = linked.map(|device| device.id).collect();
        let in_reach = Island::in_reach(&snapshot, &linked, wall_ms());
        (snapshot, in_reach)
    }
}
