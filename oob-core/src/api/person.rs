//! A person of the organisation, and the conversation with them.

use super::{Message, Sent};
use crate::{
    commands::Begun,
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

/// A text on its way to be stored, see [`Person::begin_send`]; dropped, it is sent all the same.
#[derive(Debug)]
#[must_use = "it says whether the text could be stored"]
pub struct Sending {
    begun: Begun,
}

impl Sending {
    /// Waits until the text is durable here, which is not until it is delivered.
    ///
    /// # Errors
    /// Oneself, a person whose keys have not come yet, a full disk, a node that has stopped.
    pub async fn stored(self) -> Result<Sent, Error> {
        match self.begun.answer().await?? {
            Answer::Sent { message, conversation, number } => {
                Ok(Sent { id: message, conversation, number })
            }
            _ => Err(Error::internal("the rules answered a send with something else")),
        }
    }
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
        self.begin_send(text).await?.stored().await
    }

    /// Puts a text in line to be sent, and returns before it is durable: texts put in line one after the other are stored, and
    /// shown, in that order. Of several calls of [`Self::send`] waited for together no order is promised.
    ///
    /// ```no_run
    /// # async fn example(sam: oob_core::Person) -> Result<(), oob_core::Error> {
    /// let first = sam.begin_send("Leave the building.").await?;
    /// let second = sam.begin_send("By the north stairs.").await?;
    /// first.stored().await?;
    /// second.stored().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A text that is empty or over 8 KiB, a node that has stopped.
    ///
    /// # Cancel safety
    /// Safe: a future dropped before it returns has either put the text in line or not.
    pub async fn begin_send(&self, text: impl Into<String>) -> Result<Sending, Error> {
        let text = Text::parse(text.into())?;
        let begun = self.handle.commands().begin(Command::Send { to: self.id, text }).await?;
        Ok(Sending { begun })
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
