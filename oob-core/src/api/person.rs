//! A person of the organisation, and the conversation with them.

use super::{Message, Sent};
use crate::{
    error::{Error, ErrorKind},
    handle::Handle,
    query,
};
use oob_engine::{effect::Answer, input::Command, model::Text};
use oob_proto::{ConversationId, MemberId};
use std::{fmt, sync::Arc};

/// A person, and the conversation this device's person has with them. Cheap to clone.
#[derive(Clone)]
pub struct Person {
    handle: Arc<Handle>,
    id: MemberId,
    name: String,
    conversation: ConversationId,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Person {
    /// `None` as long as this device belongs to no organisation, or the member to another.
    pub(crate) fn of(handle: &Arc<Handle>, id: &MemberId) -> Option<Self> {
        let snapshot = handle.snapshot();
        let (org, me) = (snapshot.org.as_ref()?, snapshot.me.member?);
        let member = snapshot.roster.members.get(id)?;
        Some(Self {
            handle: Arc::clone(handle),
            id: *id,
            name: member.name.to_string(),
            conversation: oob_crypto::direct_conversation(&org.id, &me, id),
        })
    }

    /// Returns who it is.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Returns the name, as the organisation had it when this was taken.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the conversation between the two.
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// Whether this is the device's own person.
    pub fn is_me(&self) -> bool {
        self.handle.snapshot().me.member == Some(self.id)
    }

    /// Sends a text. Returns once it is durable here, not once it is delivered.
    ///
    /// # Errors
    /// A text that is empty or over 8 KiB, oneself, a person whose keys have not come yet, a full disk.
    ///
    /// # Cancel safety
    /// Safe: a future dropped before it returns has either sent the message or not; it is never sent in part.
    pub async fn send(&self, text: impl Into<String>) -> Result<Sent, Error> {
        let text = Text::parse(text.into())?;
        match self.handle.commands().run(Command::Send { to: self.id, text }).await? {
            Answer::Sent { message, conversation, number } => {
                Ok(Sent { id: message, conversation, number })
            }
            _ => Err(Error::internal("the rules answered a send with something else")),
        }
    }

    /// Returns messages with a number above `after`, oldest first, at most `limit` and at most 1,000.
    ///
    /// # Errors
    /// A store that cannot be read, a node that has stopped.
    pub async fn messages(&self, after: u64, limit: usize) -> Result<Vec<Message>, Error> {
        let found = query::messages(&self.handle, self.conversation, after, limit).await?;
        Ok(Message::all_of(found, &self.handle.snapshot()))
    }

    /// Returns the newest messages, oldest of them first, at most `limit` and at most 1,000.
    ///
    /// # Errors
    /// A store that cannot be read, a node that has stopped.
    pub async fn latest(&self, limit: usize) -> Result<Vec<Message>, Error> {
        let found = query::latest(&self.handle, self.conversation, limit).await?;
        Ok(Message::all_of(found, &self.handle.snapshot()))
    }

    /// Returns the newest messages with a number below `before`, oldest of them first, at most `limit` and at most 1,000.
    ///
    /// # Errors
    /// A store that cannot be read, a node that has stopped.
    pub async fn before(&self, before: u64, limit: usize) -> Result<Vec<Message>, Error> {
        let found = query::before(&self.handle, self.conversation, before, limit).await?;
        Ok(Message::all_of(found, &self.handle.snapshot()))
    }

    /// Returns how many of their messages were not marked as read here, counted among the next `limit` and at most 1,000.
    ///
    /// # Errors
    /// A store that cannot be read, a node that has stopped.
    pub async fn unread(&self, limit: usize) -> Result<usize, Error> {
        query::unread(&self.handle, self.conversation, limit).await
    }

    /// Tells the author that every message up to and including this number was shown here.
    ///
    /// # Errors
    /// A number above the newest message, a full disk, a node that has stopped.
    ///
    /// # Cancel safety
    /// Safe; doing it twice is doing it once.
    pub async fn mark_read(&self, up_to: u64) -> Result<(), Error> {
        let command = Command::MarkRead { conversation: self.conversation, up_to };
        match self.handle.commands().run(command).await {
            Ok(_) => Ok(()),
            // Nothing was ever said: nothing to tell anybody.
            Err(error) if error.kind() == ErrorKind::NotFound && up_to == 0 => Ok(()),
            Err(error) => Err(error),
        }
    }
}
